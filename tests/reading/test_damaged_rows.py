"""A single damaged row changes neither the task nor the columns: it is rejected, with its line, and the others are read."""

import json

import pytest

from tunewright.errors import RowError
from tunewright.preparation import prepare
from tunewright.reading import open_source
from tunewright.reading.options import ReadOptions
from tunewright.reading.shares import nearly_all
from tunewright.reading.split_column import find_split_column
from tunewright.records import Reject
from tunewright.runs.autoconfig import guess_config

GOOD = {
    "judged": ({"prompt": "Hi", "completion": "Hello!", "label": True}, {"prompt": "Hi", "completion": "What.", "label": False}),
    "winners": (
        {"prompt": "Hi", "response_a": "Hello!", "response_b": "What.", "winner": "a"},
        {"prompt": "Hi", "response_a": "What.", "response_b": "Hello!", "winner": "b"},
    ),
    "tags": ({"tokens": ["Ulm", "liegt"], "ner_tags": ["B-LOC", "O"]}, {"tokens": ["Ann"], "ner_tags": ["B-PER"]}),
    "entities": (
        {"text": "Ulm liegt hier", "entities": [{"start": 0, "end": 3, "label": "LOC"}]},
        {"text": "Ann liest", "entities": [{"start": 0, "end": 3, "label": "PER"}]},
    ),
    "lists": ({"text": "It broke", "labels": ["anger"]}, {"text": "It works", "labels": ["joy", "relief"]}),
}  # fmt: skip
BAD = [
    ("judged", {"prompt": "Hi", "completion": "Well.", "label": "maybe"}, "preference"),
    ("winners", {"prompt": "Hi", "response_a": "Hello!", "response_b": "What.", "winner": "???"}, "preference"),
    ("tags", {"tokens": ["a", 5], "ner_tags": ["O", "O"]}, "ner"),
    ("tags", {"tokens": ["a", "b"], "ner_tags": ["O", None]}, "ner"),
    ("tags", {"tokens": "a b", "ner_tags": ["O", "O"]}, "ner"),
    ("entities", {"text": "Ulm", "entities": [{"start": 0, "label": "LOC"}]}, "ner"),
    ("entities", {"text": "Ulm", "entities": "LOC"}, "ner"),
    ("lists", {"text": "It fell", "labels": "['anger"}, "classification"),
    ("lists", {"text": "It fell", "labels": 3.5}, "classification"),
]


@pytest.mark.parametrize(("kind", "bad", "task"), BAD)
def test_one_damaged_row_is_rejected_and_changes_nothing(tmp_path, kind, bad, task):
    rows = [*GOOD[kind] * 20, bad]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = guess_config(str(path))
    assert found.inputs.task.name == task
    task_found, (source, *_) = found.inputs.task, found.inputs.sources["train"]
    read = [row if isinstance(row, Reject) else _reason(task_found, row) for row in source.rows()]
    assert [number for number, reason in enumerate(read, start=1) if reason is not None] == [len(rows)]


def _reason(task, row):
    try:
        task.to_example(row)
    except RowError as error:
        return error.reason
    return None


@pytest.mark.parametrize(("wrong", "num", "expected"), [(0, 1, True), (1, 5, False), (1, 6, True), (2, 39, False), (2, 40, True)])  # fmt: skip
def test_nearly_all(wrong, num, expected):
    assert nearly_all(str.isdigit, ["x"] * wrong + ["1"] * (num - wrong)) is expected
    assert not nearly_all(str.isdigit, [])


def test_a_split_column_with_an_odd_cell_is_used_and_the_row_rejected(tmp_path):
    lines = [f"text {n},{'ab'[n % 2]},{'test' if n % 5 == 0 else 'train'}" for n in range(60)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label,split", *lines, "text 60,a,"]) + "\n")
    source = open_source(str(path))
    assert find_split_column(source) == "split"
    sources = guess_config(str(path)).inputs.sources
    train, test = (list(sources[split][0].rows()) for split in ("train", "test"))
    assert len(test) == 12 and len(train) == 49
    assert isinstance(train[-1], Reject) and train[-1].line == 62 and '"text 60"' in train[-1].raw


def test_a_header_stays_one_where_a_cell_is_called_as_its_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "Fine,good\nPoor,bad\n" * 9 + "text,good\n")
    assert open_source(str(path)).columns == ("text", "label")


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        ('{"data": [{"text": "lost"}]}', "text after the end of the object"),
        ("trailing", "text after the end of the object"),
        (None, "the object around the list is not closed"),
    ],
)
def test_nothing_behind_a_keyed_list_is_lost(tmp_path, behind, reason):
    path = tmp_path / "a.json"
    whole = json.dumps({"data": [{"text": "a"}, {"text": "b"}]}, indent=1)
    path.write_text(whole[:-1] if behind is None else f"{whole}\n{behind}\n")
    *rows, last = open_source(str(path)).rows()
    assert len(rows) == 2 and isinstance(last, Reject) and reason in last.reason


def test_a_bad_line_spoils_its_paragraph_and_ends_a_running_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n\nthree\ncaf\xe9\nfour\n\nfive\n")
    paragraphs = list(open_source(str(path), ReadOptions(documents="paragraph")).rows())
    assert [row.line for row in paragraphs] == [1, 5, 8] and isinstance(paragraphs[1], Reject)
    running = list(open_source(str(path), ReadOptions(documents="file")).rows())
    assert [row.line for row in running] == [1, 5, 6]
    assert [row.fields["text"] for row in running[::2]] == ["one\ntwo\n\nthree\n", "four\n\nfive\n"]
    assert all(row.fields["document_begins"] and row.fields["document_ends"] for row in running[::2])


def test_a_paragraph_without_end_is_rejected_without_being_held(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("short\n\n" + "a line of words\n" * 500)
    rows = list(open_source(str(path), ReadOptions(documents="paragraph", max_row_bytes=1_000)).rows())
    assert [row.line for row in rows] == [1, 3] and "max_row_bytes" in rows[1].reason and len(rows[1].raw) < 100


def test_reasons_beyond_the_limit_are_counted_together(monkeypatch):
    from tunewright.reading import ledger

    monkeypatch.setattr(ledger, "_MOST_REASONS", 3)
    counts = ledger.Ledger()
    for word in ("empty", "broken", "empty", "late", "torn", "lost"):
        counts.count_reason(f"the row is {word}")
    assert counts.reasons == {
        "the row is empty": 2, "the row is broken": 1, "the row is late": 1, "other reasons": 2,
    }  # fmt: skip


def test_label_counts_are_those_of_the_rows_kept(tmp_path):
    from tunewright.config.load import parse_config

    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "row {n}", "label": "{"ab"[n % 2]}"}}\n' for n in range(90)))
    data = {"train": str(path), "limit": 10}
    prepared = prepare(parse_config({"data": data, "output": str(tmp_path / "run")}))
    rows = sum(split["rows"] for split in prepared.manifest["splits"].values())
    assert sum(prepared.manifest["ledger"]["label_counts"].values()) == rows < 90


def test_a_neighbour_that_cannot_be_read_is_left_out_and_said(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "Fine,good\nPoor,bad\n" * 9)
    (tmp_path / "eval.json").write_text('{"accuracy": 0.9}')
    found = guess_config(str(tmp_path / "train.csv"))
    assert "validation" not in found.values["data"]
    assert any("eval.json is left out" in line for line in found.left_out)
