"""What needs the texts of rows again, behind training, reads the files once."""

from __future__ import annotations

import json

import pytest

import tunewright as tw
from tunewright import preparation as prepare
from tunewright.errors import UserError
from tunewright.evaluation.read_again import RowInputs, read_again
from tunewright.records import Example, Reject, Row


class Inputs:
    def to_input(self, row):
        return Example(row.fields["text"])


def rows(number):
    return [Row("a.csv", line, {"text": f"row {line}"}) for line in range(number)]


def test_one_pass_serves_all_readers_and_ends_behind_the_last_row_that_is_needed():
    seen = []

    def counted():
        for row in rows(100):
            seen.append(row.line)
            yield row

    one, other, nobody = RowInputs(Inputs(), [4, 2]), RowInputs(Inputs(), [7]), RowInputs(Inputs(), [])
    read_again(counted(), [one, other, nobody], where="a.csv")
    assert {row_id: example.text for row_id, example in one.of.items()} == {2: "row 2", 4: "row 4"}
    assert list(other.of) == [7] and not nobody.of
    assert seen == list(range(8))


def test_files_that_became_shorter_or_broken_are_told():
    with pytest.raises(UserError, match=r"a\.csv.*fewer rows"):
        read_again(rows(3), [RowInputs(Inputs(), [3])], where="a.csv")
    broken = [*rows(1), Reject("a.csv", 2, "not JSON", "{")]
    with pytest.raises(UserError, match=r"a\.csv:2.*has changed"):
        read_again(broken, [RowInputs(Inputs(), [1])], where="a.csv")


@pytest.mark.parametrize("baselines", [True, False])
def test_training_reads_its_sources_once_behind_the_last_step(tmp_path, monkeypatch, tiny_bert, baselines):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"the {'good' if n % 2 else 'bad'} cat {n}", "label": "ab"[n % 3 > 0]}) + "\n"
            for n in range(60)
        )
    )
    passes, read = [], prepare.Inputs.rows
    monkeypatch.setattr(prepare.Inputs, "rows", lambda self: (passes.append(self), read(self))[1])
    values = {"data": str(path), "model": str(tiny_bert), "train": {"max_steps": 1}, "output": str(tmp_path / "run")}
    result = tw.train({**values, "evaluate": {"baselines": baselines}})
    assert len(passes) == 1
    assert (tmp_path / "run/model/golden.json").is_file()
    worst = result.scores["test"]["worst_rows"] + result.scores["validation"]["worst_rows"]
    assert worst and all(row["text"].startswith("the ") and "position" not in row for row in worst)
    assert ("baseline" in result.scores["test"]) == baselines
