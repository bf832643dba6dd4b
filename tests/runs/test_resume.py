"""A run that goes on: with what it began with, to the end it is given, wherever it stands."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from tests.tasks.test_contract import StopAfter, values_for
from tunewright.errors import UserError
from tunewright.files.atomic import remove_leftovers
from tunewright.metrics import Metric
from tunewright.runs.autoconfig import as_config
from tunewright.runs.reporter import Interrupted, Reporter
from tunewright.runs.resume import check_folder, is_finished
from tunewright.runs.train import Run, train
from tunewright.training.progress import Progress


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
    with pytest.raises(UserError, match="cannot be resumed: its weights are those of another model"):
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


def test_parts_of_another_run_are_written_anew(run_values, tmp_path):
    """base/ and the tokenizer were written when the run began: what stands there now may be another run's, manifest and all."""
    own = {**run_values, "adapter": "prompt", "data": {**run_values["data"], "max_length": 32}}
    other = {
        **own,
        "model": f"{tmp_path}/other",
        "train": {**own["train"], "max_steps": 1},
        "output": str(tmp_path / "b"),
    }
    shutil.copytree(run_values["model"], tmp_path / "other")
    names = (tmp_path / "other" / "tokenizer_config.json").read_text()
    (tmp_path / "other" / "tokenizer_config.json").write_text(
        names.replace('"do_lower_case": true', '"do_lower_case": false')
    )
    train(other)
    wanted = train({**own, "output": str(tmp_path / "straight")}).folder
    values = stopped(own, tmp_path / "run", 13)
    for part in ("base", "checkpoints/tokenizer"):
        shutil.rmtree(tmp_path / "run" / part)
        shutil.copytree(tmp_path / "b" / part, tmp_path / "run" / part)
    (tmp_path / "run" / "base" / "config.json").write_text("{}")
    train(values)
    for name in ("base/model.safetensors", "base/config.json", "model/tokenizer.json", "model/tokenizer_config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (wanted / name).read_bytes(), name


@pytest.mark.parametrize("which", ["of another run", "of another step"])
def test_the_best_checkpoint_is_this_runs_own(run_values, tmp_path, which):
    """Whole, by its manifest, is the checkpoint of another run too."""
    said = []
    run = Run(
        as_config(
            {**run_values, "train": {**run_values["train"], "max_steps": 2, "keep_checkpoints": 5, "save_every": 1}}
        ),
        Reporter(),
    )
    run.reporter.note = said.append
    run.go()
    place = tmp_path / "run" / "checkpoints" / "step-00000001"
    shutil.rmtree(place, ignore_errors=True)
    if which == "of another step":
        shutil.copytree(place.with_name("step-00000002"), place)
    else:
        other = {**run_values["train"], "max_steps": 2, "keep_checkpoints": 5, "save_every": 1, "seed": 7}
        train({**run_values, "train": other, "output": str(tmp_path / "b")})
        shutil.copytree(tmp_path / "b" / "checkpoints" / place.name, place)
    before = {name: tensor.clone() for name, tensor in run.parts.model.state_dict().items()}
    run._load_best(1)
    assert "the last weights are used" in said[-1] and run.progress.best_step is None
    assert all(torch.equal(before[name], tensor) for name, tensor in run.parts.model.state_dict().items())


def test_a_moved_run_goes_on_where_it_stands(run_values, tmp_path):
    stopped(run_values, tmp_path / "first", 3)
    moved = shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    done = train(f"{moved}/config.yaml")
    assert done.folder == tmp_path / "elsewhere" and not (tmp_path / "first").exists()
    assert done.num_steps > 3


def test_a_finished_run_says_that_its_rows_have_changed(run_values, tmp_path):
    """Neither trained anew in silence nor scored on rows that it may have learned; without its files it stands as it is."""
    from tunewright.evaluation.score_run import evaluate

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


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize(
    ("evaluations", "best", "bad"),
    [
        ([(0.5, 1.0), (0.6, 1.2), (0.7, 1.4)], [1, 2, 3], [0, 0, 0]),  # a better score wins with any loss
        (
            [(1.0, 0.3), (1.0, 0.2), (1.0, 0.1)],
            [1, 2, 3],
            [0, 1, 2],
        ),  # equal scores: the lower loss is kept, patience runs
        ([(1.0, 0.3), (1.0, 0.4), (1.0, 0.2)], [1, 1, 3], [0, 1, 2]),
        ([(0.9, 0.3), (0.8, 0.1), (0.9, 0.2), (1.0, 0.9)], [1, 1, 3, 4], [0, 1, 2, 0]),
        ([(0.9, 0.3), (float("nan"), 0.1), (0.9, 0.3)], [1, 1, 1], [0, 1, 2]),
    ],
)
def test_patience_counts_scores_and_the_best_checkpoint_losses_too(evaluations, best, bad, higher_is_better):
    progress = Progress()
    for step, (score, loss) in enumerate(evaluations, start=1):
        signed = Metric(score if higher_is_better else -score, higher_is_better)
        is_best = progress.judge(signed, loss, step)
        assert is_best == (best[step - 1] == step)
        assert (progress.best_step, progress.num_bad_evaluations) == (best[step - 1], bad[step - 1])


@pytest.mark.parametrize(
    "left", [".tmp-config.yaml-0123abcd", ".tmp-model-89abcdef/model.safetensors", ".inner.lock", ".store/5f3a/x.json"]
)
def test_what_an_interrupted_command_leaves_blocks_no_run(run_values, tmp_path, left):
    path = tmp_path / "run" / left
    path.parent.mkdir(parents=True)
    path.write_text("half")
    config, _ = check_folder(as_config({**run_values, "output": str(tmp_path / "run")}))
    assert config.run_folder == tmp_path / "run"


@pytest.mark.parametrize("theirs", ["notes.txt", "model/config.json", ".git/HEAD", "config.yml", "x.lock"])
def test_what_is_a_users_blocks_a_run(run_values, tmp_path, theirs):
    path = tmp_path / "run" / theirs
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    with pytest.raises(UserError, match="not empty"):
        check_folder(as_config({**run_values, "output": str(tmp_path / "run")}))


@pytest.mark.parametrize("name", ["config.yaml", "ledger.json", "metrics.jsonl"])
def test_a_run_whose_first_files_could_not_be_written_starts_with_the_same_command(
    run_values, monkeypatch, tmp_path, name
):
    """A full disk (or a kill: then the temporary file stays) at each of the files that a run begins with."""
    monkeypatch.setattr(os, "replace", refusing(os.replace, name))
    with pytest.raises(OSError, match="No space left"):
        train(run_values)
    monkeypatch.undo()
    folder = Path(run_values["output"])
    assert not list(tmp_path.rglob(".tmp-*"))
    folder.mkdir(exist_ok=True)
    (folder / f".tmp-{name}-00000000").write_text("of a kill")
    assert train(run_values).num_steps
    assert not list(folder.glob(".tmp-*"))


def refusing(replace, name):
    def refuse(source, target, **kwargs):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return replace(source, target, **kwargs)

    return refuse


def test_a_folder_that_was_moved_aside_and_never_replaced_returns(tmp_path):
    """A kill between the two renames of `whole_folder`."""
    (tmp_path / ".tmp-aside-step-00000010-0123abcd").mkdir()
    (tmp_path / ".tmp-aside-step-00000010-0123abcd" / "state.json").write_text("{}")
    (tmp_path / ".tmp-step-00000010-89abcdef").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    assert (tmp_path / "step-00000010" / "state.json").is_file()
    (tmp_path / ".tmp-aside-step-00000010-0123abcd").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
