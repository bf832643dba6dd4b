"""A column that names the split of each row: no test row is trained on, and none is lost."""

import pytest

from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.preparation import prepare
from tunewright.runs.autoconfig import config_text, guess_config


def table(tmp_path, splits, name="split"):
    rows = [f"Text number {n} of them,{'good' if n % 2 else 'bad'},{split}" for n, split in enumerate(splits)]
    path = tmp_path / "d.csv"
    path.write_text("\n".join([f"text,label,{name}", *rows]) + "\n")
    return path


def test_rows_go_where_their_column_says(tmp_path, tiny_bert):
    path = table(
        tmp_path, ["train"] * 300 + ["dev"] * 20 + ["test"] * 10
    )  # sorted: the first rows are all of one split
    guess = guess_config(str(path), model=str(tiny_bert))
    assert guess.values["data"]["split_column"] == "split" and "ratio" not in config_text(guess)
    store = prepare(parse_config({**guess.values, "output": str(tmp_path / "runs")})).store
    assert {name: len(store[name]) for name in store.splits} == {"train": 300, "validation": 20, "test": 10}
    assert store["test"].address(0) == f"{path}:322"


def test_a_line_is_explained_whatever_its_split(tmp_path):
    path = table(tmp_path, ["train", "test", "dev", "train"] * 10)
    source = guess_config(str(path)).inputs.sources["train"][0]
    assert [source.row_at(line).fields["split"] for line in (2, 3, 4, 5)] == ["train", "test", "dev", "train"]
    assert [row.line for row in source.rows()][:3] == [2, 5, 6]


def test_a_split_that_is_missing_is_drawn(tmp_path, tiny_bert):
    path = table(tmp_path, ["train"] * 80 + ["test"] * 20, "partition")
    guess = guess_config(str(path), model=str(tiny_bert))
    assert "validation_ratio" in config_text(guess) and "test_ratio" not in config_text(guess)
    store = prepare(parse_config({**guess.values, "output": str(tmp_path / "runs")})).store
    assert (len(store["validation"]), len(store["test"])) == (8, 20)


def test_other_words_in_it_are_rejects(tmp_path, tiny_bert):
    path = table(tmp_path, ["train"] * 30 + ["elsewhere"])
    data = {"train": str(path), "split_column": "split"}
    with pytest.raises(UserError, match=r"1 of 31 rows cannot be used:\s.*d.csv:32: its 'split' is 'elsewhere'"):
        prepare(parse_config({"model": str(tiny_bert), "data": data, "output": str(tmp_path / "runs")}))


@pytest.mark.parametrize(
    ("splits", "more", "problem"),
    [
        (["test"] * 20, {}, "no row belongs to the training split"),
        (["train"] * 20, {"split_column": "none"}, "no column 'none'"),
        (["train"] * 20, {"test": "d.csv"}, "beside files of their own"),
    ],
)
def test_what_cannot_be_split_so_is_refused(tmp_path, tiny_bert, splits, more, problem):
    path = table(tmp_path, splits)
    more = {key: str(path) if key == "test" else value for key, value in more.items()}
    config = parse_config({"model": str(tiny_bert), "data": {"train": str(path), "split_column": "split", **more}})
    with pytest.raises(UserError, match=problem):
        prepare(config)


@pytest.mark.parametrize(
    "splits", [["a", "b"] * 20, ["test"] * 40, ["dev", "test"] * 20, ["train"] * 250 + ["unlabeled"]]
)
def test_a_column_of_other_values_is_no_column_of_splits(tmp_path, splits):
    assert "split_column" not in guess_config(str(table(tmp_path, splits))).values["data"]
