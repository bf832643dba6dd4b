"""A run that goes on: with what it began with, to the end it is given, wherever it stands."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from tunewright.errors import UserError
from tunewright.events import Interrupted
from tunewright.resume import is_finished
from tunewright.run import as_config, train

from .test_contract import StopAfter, values_for


def stopped(values: dict, folder, step: int = 3) -> dict:
    values = {**values, "output": str(folder)}
    with pytest.raises(Interrupted):
        train(values, reporter=StopAfter(step))
    return values


def test_a_longer_run_that_was_stopped_is_not_finished(run_values, tmp_path):
    short = {
        **run_values,
        "train": {**run_values["train"], "epochs": 1, "max_steps": 2},
        "output": str(tmp_path / "run"),
    }
    train(short)
    long = {**short, "train": {**short["train"], "epochs": 3, "max_steps": 12}}
    stopped(long, tmp_path / "run", 6)
    assert not is_finished(as_config(tmp_path / "run" / "config.yaml"))
    done = train(tmp_path / "run" / "config.yaml")
    assert done.num_steps == 12 and not done.already_finished


def rewritten(path, change) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: [{**row, "text": f"Other {row['text']}"} for row in rows],
        lambda rows: rows[: len(rows) // 2],
        lambda rows: [{**row, "label": f"new {row['label']}"} for row in rows],
        lambda rows: [
            *rows,
            {"text": "One more row of another kind", "label": "another"},
            {"text": "And more", "label": "another"},
        ],
    ],
    ids=["order", "texts", "half", "labels", "one label more"],
)
def test_other_rows_than_it_began_with_are_refused(run_values, tmp_path, change):
    data = tmp_path / "rows.jsonl"
    shutil.copyfile(run_values["data"]["train"], data)
    values = stopped({**run_values, "data": {**run_values["data"], "train": str(data)}}, tmp_path / "run")
    rewritten(data, change)
    with pytest.raises(UserError, match="the rows are not those that this run began with"):
        train(values)


def test_another_base_than_it_began_with_is_refused(run_values, tmp_path, tiny_bert):
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    values = stopped({**run_values, "model": str(base), "adapter": "lora"}, tmp_path / "run")
    model = AutoModel.from_pretrained(base)
    with torch.no_grad():
        next(iter(model.parameters())).mul_(1.3)
    model.save_pretrained(base)
    with pytest.raises(UserError, match="the model is not the one that this run began with"):
        train(values)


def test_a_model_of_another_shape_is_refused(run_values, tmp_path, tiny_bert):
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    values = stopped({**run_values, "model": str(base)}, tmp_path / "run")
    config = json.loads((base / "config.json").read_text())
    config["intermediate_size"] *= 2
    AutoModel.from_config(type(AutoModel.from_pretrained(base).config)(**config)).save_pretrained(base)
    with pytest.raises(UserError, match="cannot go on: its weights are those of another model"):
        train(values)


def test_the_reference_of_preference_tuning_belongs_to_what_it_began_with(run_values, tmp_path, tiny_gpt):
    base = shutil.copytree(tiny_gpt, tmp_path / "base")
    values = {**values_for("dpo", run_values, tmp_path), "model": str(base)}
    values = stopped(values, tmp_path / "run", 2)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.3)
    model.save_pretrained(base)
    with pytest.raises(UserError, match="the model is not the one that this run began with"):
        train(values)


def test_a_moved_run_goes_on_where_it_stands(run_values, tmp_path):
    stopped(run_values, tmp_path / "first", 3)
    moved = shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    done = train(f"{moved}/config.yaml")
    assert done.folder == tmp_path / "elsewhere" and not (tmp_path / "first").exists()
    assert done.num_steps > 3


def test_a_finished_run_says_that_its_rows_have_changed(run_values, tmp_path):
    """Neither trained anew in silence nor scored on rows that it may have learned; without its files it stands as it is."""
    from tunewright.scoring import evaluate

    done = train(run_values)
    assert train(run_values).already_finished
    path = tmp_path / "data.jsonl"
    rewritten(path, lambda rows: [*rows, {"text": "One more", "label": rows[0]["label"]}])
    with pytest.raises(UserError, match="the rows are not those"):
        train(run_values)
    with pytest.raises(UserError, match=r"the rows are not those(.|\n)*evaluate RUN DATA"):
        evaluate(done.folder)
    path.unlink()
    assert train(run_values).already_finished
    with pytest.raises(UserError, match="evaluate RUN DATA"):
        evaluate(done.folder)
