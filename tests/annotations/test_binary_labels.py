"""Labels in columns and lists of noughts and ones, however these are written."""

import csv

import pytest

from tests.conftest import write_jsonl
from tunewright.annotations.labels import are_multi_hot, label_names
from tunewright.errors import RowError, UserError
from tunewright.runs.autoconfig import guess_config

SPELLINGS = {
    "ints": (0, 1), "floats": (0.0, 1.0), "bools": (False, True), "words": ("no", "yes"), "capitals": ("FALSE", "TRUE"),
    "letters": ("N", "Y"), "initials": ("f", "t"),
}  # fmt: skip


def table(path, columns, spelling, rows=40):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["comment_text", *columns])
        for n in range(rows):
            writer.writerow(
                [f"this is the comment number {n}", *(spelling[(n // (k + 1)) % 2] for k in range(len(columns)))]
            )
    return str(path)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("columns", [["one", "two"], ["toxic", "obscene", "threat"], ["one", "two", "three", "four"]])
def test_a_column_for_each_label_is_asked_about_and_then_read(tmp_path, columns, spelling):
    path = table(tmp_path / "a.csv", columns, spelling)
    with pytest.raises(UserError, match=rf"could each be a label.*data.label=\[{','.join(columns)}\]"):
        guess_config(path)
    inputs = guess_config(path, label=columns).inputs
    found = [inputs.task.to_example(row).target for row in inputs.rows()]
    assert found[:3] == [(), (columns[0],), tuple(name for k, name in enumerate(columns) if (2 // (k + 1)) % 2)]
    assert guess_config(path, label=columns[0]).inputs.task.columns.label == columns[0]


def test_a_column_called_label_beside_one_flag_is_the_label(tmp_path):
    path = table(tmp_path / "a.csv", ["label", "is_reply"], (0, 1))
    assert guess_config(path).values["data"]["label"] == "label"
    assert guess_config(path).decision.not_used == ("is_reply",)


@pytest.mark.parametrize("spelling", [(0, 1), (0.0, 1.0), (False, True)])
@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c"]])
def test_lists_of_noughts_and_ones_are_labels_by_place(tmp_path, names, spelling):
    lists = [[spelling[(n >> k) & 1] for k in range(len(names))] for n in range(24)]
    rows = [{"text": f"row number {n}", "labels": one} for n, one in enumerate(lists)]
    path = str(write_jsonl(tmp_path / "a.jsonl", rows))
    task = guess_config(path, extra={"label_names": names}).inputs.task
    assert task.multi_label and task.multi_hot
    inputs = guess_config(path, extra={"label_names": names}).inputs
    found = [task.to_example(row).target for row in inputs.rows()]
    assert found == [tuple(name for k, name in enumerate(names) if (n >> k) & 1) for n in range(24)]
    inputs = guess_config(path).inputs
    with pytest.raises(RowError, match=f"set data.label_names to the {len(names)} names in this order"):
        inputs.task.to_example(next(inputs.rows()))


def test_lists_of_ids_and_of_words_stay_lists_of_labels():
    assert not are_multi_hot([[0, 1], [1], [0]]) and not are_multi_hot([["yes", "no"], ["no", "yes"]])
    assert label_names([0, 1], ["a", "b"]) == ("a", "b") and label_names(["yes"]) == ("yes",)
    assert label_names([0.0, 1.0], ["a", "b"]) == ("b",) and label_names([3, 7]) == ("3", "7")
