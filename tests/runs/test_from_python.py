"""Data as Python users hold it: the same rows in any form make the same run, and its folder alone goes on with it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tunewright as tw
from tests.conftest import messages, write_jsonl
from tunewright.runs.from_python import config_of, words_of

pd = pytest.importorskip("pandas")
LABELS = ("order_status", "return_item", "product_question")
ROWS = [{"text": row["text"], "label": row["label"]} for row in messages() if row["label"] in LABELS][:90]


class Losses(tw.Reporter):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, step, num_steps):
        self.losses.append(step.loss)


def keywords(model: Path, folder: Path, *, steps: int = 1) -> dict:
    return {
        "model": model, "output": folder, "data": {"max_length": 32}, "evaluate": {"baselines": False},
        "train": {"max_steps": steps, "precision": "fp32", "learning_rate": 1e-3},
    }  # fmt: skip


def ids_in(prepared: tw.Prepared) -> dict[str, list[list[int]]]:
    store = prepared.store
    return {split: [store[split].input_ids(n).tolist() for n in range(len(store[split]))] for split in store.splits}


def test_the_same_rows_in_any_form_are_the_same_run(tiny_bert, tmp_path):
    import datasets
    import pyarrow as pa

    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    forms: dict = {
        "csv": tmp_path / "rows.csv", "jsonl": str(tmp_path / "rows.jsonl"), "pandas": pd.DataFrame(ROWS),
        "table": pa.Table.from_pylist(ROWS), "dataset": datasets.Dataset.from_list(ROWS), "list": ROWS,
        "split": datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)),
    }  # fmt: skip
    try:
        import polars
    except ImportError:
        pass
    else:
        forms["polars"] = polars.DataFrame(ROWS)
    found = {}
    for name, data in forms.items():
        given = {**keywords(tiny_bert, tmp_path / name)}
        prepared = tw.prepare(data, **given)
        found[name] = ids_in(prepared)
        if name in ("csv", "pandas"):
            losses = Losses()
            tw.train(data, reporter=losses, **given)
            found[name]["loss"] = losses.losses
            assert prepared.reused is False
    first = found.pop("csv")
    assert first == found.pop("pandas")
    assert all({**ids, "loss": first["loss"]} == first for ids in found.values())


def test_a_run_that_was_killed_goes_on_without_the_frame(tiny_bert, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, signal, sys\nimport pandas as pd\nimport tunewright as tw\n"
        "class Kill(tw.Reporter):\n"
        "    def step(self, step, num_steps):\n"
        "        if step.number == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "rows, given = json.load(open(sys.argv[1]))\n"
        "frame = pd.DataFrame(rows, index=[f'm{n}' for n in range(len(rows))])\n"
        "tw.train(frame, reporter=Kill(), **given)\n"
    )
    given = keywords(tiny_bert, tmp_path / "run", steps=4)
    given["train"]["save_every"] = 1
    (tmp_path / "given.json").write_text(json.dumps([ROWS, given], default=str))
    killed = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "given.json")], capture_output=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = Losses()
    tw.train(pd.DataFrame(ROWS), reporter=whole, **{**given, "output": tmp_path / "whole"})
    resumed = Losses()
    run = tw.train(tmp_path / "run" / "config.yaml", reporter=resumed)
    assert 1 <= len(resumed.losses) < 4
    assert resumed.losses == whole.losses[-len(resumed.losses) :]
    assert tw.evaluate(run)["worst_rows"][0]["row"].startswith("train['m")  # type: ignore[attr-defined]
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert tw.evaluate(moved)["metrics"] == tw.evaluate(tmp_path / "whole")["metrics"]
    assert not any(check.broken for check in tw.verify(moved))


def test_other_rows_in_the_same_folder_are_refused(tiny_bert, tmp_path):
    given = keywords(tiny_bert, tmp_path / "run")
    tw.train(pd.DataFrame(ROWS), **given)
    assert tw.train(pd.DataFrame(ROWS), **given).already_finished
    with pytest.raises(tw.UserError, match="this folder holds a run with another config"):
        tw.train(pd.DataFrame(ROWS[:80]), **given)
    assert len(list((tmp_path / "run" / "data").iterdir())) == 1


def test_rows_that_cannot_be_used_are_told_and_counted(tiny_bert, tmp_path):
    frame = pd.DataFrame(ROWS, index=[f"m{n}" for n in range(len(ROWS))])
    frame.loc["m7", "text"] = None
    given = keywords(tiny_bert, tmp_path / "run")
    for _ in range(2):  # the second time from what is kept of the first
        with pytest.raises(tw.UserError, match=r"train\['m7'\]: .*text"):
            tw.prepare(frame, **given)
        tw.prepare(frame, **{**given, "data": {"on_bad_rows": "skip", "max_length": 32}})
    prepared = tw.prepare(frame, **{**given, "data": {"on_bad_rows": "skip", "max_length": 32}})
    (source,) = prepared.manifest["ledger"]["sources"]
    assert (source["source"], source["read"], source["rejected"]) == ("train", 90, 1)
    assert tw.explain({"data": frame, "model": str(tiny_bert)}, "train['m8']")["fields"] == ROWS[8]


def test_splits_are_found_in_dicts_and_sections(tiny_bert, tmp_path):
    train, dev, test = pd.DataFrame(ROWS[:60]), ROWS[60:75], pd.DataFrame(ROWS[75:])
    expected = {"train": 60, "validation": 15, "test": 15}
    given = keywords(tiny_bert, tmp_path / "run")
    in_data = {**given, "data": {**given["data"], "validation": dev, "test": test}}
    for prepared in (
        tw.prepare({"train": train, "dev": dev, "test": test}, **given),
        tw.prepare(train, **in_data),
        tw.prepare({"data": {"train": train, "validation": dev, "test": test}, "model": str(tiny_bert), "output": str(tmp_path / "x")}),
    ):  # fmt: skip
        assert {split: len(prepared.store[split]) for split in prepared.store.splits} == expected
    with pytest.raises(tw.UserError, match="which split is the training split"):
        tw.prepare({"dev": dev, "test": test})


def test_keywords_are_the_words_of_the_command_line():
    words = words_of(
        task="ner", model=Path("m"), train={"epochs": 3, "learning_rate": 1e-5}, data={"text": ["a", "b"]}, output="x"
    )
    assert words == [
        'task.name="ner"', 'model.name="m"', 'data.text=["a", "b"]', "train.epochs=3", "train.learning_rate=1e-05", 'output="x"'
    ]  # fmt: skip
    with pytest.raises(tw.UserError, match="train: a section is a dict"):
        words_of(train=[("epochs", 3)])  # type: ignore[arg-type]
    with pytest.raises(tw.UserError, match=r"no key train\.epoch\b|train\.epoch"):
        tw.prepare(ROWS, train={"epoch": 3})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("data", [3, object(), ["a", 3], b"text"])
def test_what_is_neither_data_nor_config_is_refused(data):
    with pytest.raises(tw.UserError, match="neither data nor a config"):
        config_of(data, [])


def test_a_list_of_texts_is_rows_and_a_list_of_paths_files(tmp_path):
    given, _ = config_of(["Fine text.", "Another one."], [])
    assert isinstance(given, str) and given.startswith("run:data/train-")
    assert config_of([tmp_path / "a.csv", "b.csv"], []) == ([str(tmp_path / "a.csv"), "b.csv"], [])
    assert config_of(["gone.csv"], []) == (["gone.csv"], [])


def test_the_same_rows_find_their_finished_run_without_an_output(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {key: value for key, value in keywords(tiny_bert, tmp_path).items() if key != "output"}
    given["train"] = {"max_steps": 1}
    first = tw.train(ROWS, **given)
    again = tw.train(ROWS, **given)
    assert (first.already_finished, again.already_finished, again.folder) == (False, True, first.folder)
