"""Whatever fails behind the last step: the model stands on the disk, the failure is said, and the same command finishes the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tasks.test_contract import values_for
from tunewright.artifacts import adapter_folder, golden_examples, model_folder
from tunewright.errors import UserError
from tunewright.evaluation import scores as report
from tunewright.prediction import load
from tunewright.runs import train as run
from tunewright.runs.reporter import Reporter
from tunewright.runs.train import train
from tunewright.training import checkpoint

STEPS = {
    "golden examples are chosen": (golden_examples, "Choice"),
    "golden examples are recorded": (golden_examples, "record"),
    "golden examples are written": (golden_examples, "write"),
    "the final evaluation": (run.Run, "_final_scores"),
    "the texts of rows and the baselines": (report, "complete"),
    "the verdict": (run, "verdict"),
    "the model is completed": (run, "save_trained"),
    "the adapter is merged": (adapter_folder, "_merged"),
    "scores are written": (run, "_write_scores"),
}
"""What happens behind the saved weights: where it stands, and its name."""


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps = 0

    def note(self, text: str) -> None:
        self.said.append(text)

    def step(self, step, num_steps) -> None:
        self.steps += 1


def values_of(kind: str, adapter: str, base: dict, folder: Path) -> dict:
    values = values_for(kind, base, folder)
    train_values = {**values["train"], "epochs": 1}
    return {**values, "train": train_values, "evaluate": {"baselines": kind == "classification"}, "adapter": adapter}


STRAIGHT: dict[str, tuple] = {}


def straight(values: dict, adapter: str) -> tuple[dict, dict]:
    """Scores and weights of the run that nothing interrupted: once for each adapter, the data are always the same."""
    if adapter not in STRAIGHT:
        done = train({**values, "output": f"{values['output']}-straight"})
        STRAIGHT[adapter] = without_addresses(done.scores), load_file(done.folder / "model" / "model.safetensors")
    return STRAIGHT[adapter]


def without_addresses(scores: dict) -> dict:
    return {split: {key: value for key, value in of.items() if key != "worst_rows"} for split, of in scores.items()}


def failing(*_: object, **__: object) -> None:
    raise RuntimeError("it broke")


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_fails_behind_its_last_step_has_its_model_and_is_finished_later(
    run_values, tmp_path, monkeypatch, step, adapter
):
    if (step, adapter) == ("the adapter is merged", "none"):
        pytest.skip("there is none")
    values = values_of("classification", adapter, run_values, tmp_path)
    owner, name = STEPS[step]
    monkeypatch.setattr(owner, name, failing)
    notes = Notes()
    with pytest.raises(RuntimeError, match="it broke"):
        train(values, reporter=notes)
    assert "saved" in notes.said[-1] and "finishes the run" in notes.said[-1]
    used = load(values["output"], precision="fp32").predict(["Where is my parcel?", "I want my money back."])
    monkeypatch.undo()
    notes = Notes()
    done = train(values, reporter=notes)
    assert notes.steps == 0, "nothing is trained again"
    again = load(done.folder, precision="fp32").predict(["Where is my parcel?", "I want my money back."])
    assert [one.label for one in used] == [one.label for one in again]
    assert [one.score for one in used] == pytest.approx([one.score for one in again], abs=1e-6)
    scores, weights = straight(values, adapter)
    assert without_addresses(done.scores) == scores
    found = load_file(done.folder / "model" / "model.safetensors")
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert not model_folder.changed_files(done.folder / "model") and (done.folder / "model" / "golden.json").is_file()


@pytest.mark.parametrize("kind", ["ner", "sft", "dpo", "mlm", "clm", "reward"])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_every_task_can_be_used_before_its_end(run_values, tmp_path, monkeypatch, tiny_gpt, kind, adapter):
    values = values_of(kind, adapter, run_values, tmp_path)
    if kind not in ("ner", "mlm"):
        values["model"] = str(tiny_gpt)
    monkeypatch.setattr(run.Run, "_final_scores", failing)
    with pytest.raises(RuntimeError):
        train(values)
    model = load(values["output"], precision="fp32")
    assert model.network is not None
    monkeypatch.undo()
    notes = Notes()
    done = train(values, reporter=notes)
    assert notes.steps == 0 and json.loads((done.folder / "scores.json").read_text())["splits"]


def test_what_cannot_be_saved_is_known_before_the_first_step(run_values, monkeypatch):
    """A tokenizer that fails to be saved fails before anything is learned, and is not saved again behind the last step."""
    from transformers import PreTrainedTokenizerBase

    notes = Notes()
    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedTokenizerBase, "save_pretrained", failing)
        with pytest.raises(RuntimeError, match="it broke"):
            train(run_values, reporter=notes)
    assert notes.steps == 0

    class ThenBroken(Notes):
        def step(self, step, num_steps) -> None:
            super().step(step, num_steps)
            monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", failing)

    notes = ThenBroken()
    done = train(run_values, reporter=notes)
    assert notes.steps == done.num_steps
    assert load(done.folder).predict(["Where is my parcel?"])[0].label


def test_a_model_that_cannot_be_written_stays_in_its_checkpoint(run_values, monkeypatch):
    monkeypatch.setattr(run, "save_weights", failing)
    notes = Notes()
    with pytest.raises(RuntimeError, match="it broke"):
        train(run_values, reporter=notes)
    folder = Path(run_values["output"]) / "checkpoints"
    last = checkpoint.newest(folder, print)
    assert str(last.folder) in notes.said[-1] and (folder / "tokenizer" / "tokenizer.json").is_file()
    monkeypatch.undo()
    notes = Notes()
    assert train(run_values, reporter=notes).num_steps == last.step and notes.steps == 0


def test_an_evaluation_after_the_last_step_that_fails_loses_no_step(run_values, monkeypatch):
    monkeypatch.setattr(run, "evaluate_split", failing)
    values = {**run_values, "evaluate": {"baselines": False, "every": "never"}}
    with pytest.raises(RuntimeError, match="it broke"):
        train(values)
    monkeypatch.undo()
    notes = Notes()
    done = train(values, reporter=notes)
    assert notes.steps == 0
    assert done.history == train({**values, "output": f"{run_values['output']}-straight"}).history


def test_golden_examples_whose_file_is_gone_are_left_out_with_a_note(run_values, monkeypatch):
    def gone(*_: object, **__: object) -> None:
        raise UserError("no such file")

    monkeypatch.setattr(report, "read_again", gone)
    notes = Notes()
    done = train(run_values, reporter=notes)
    assert any("no golden examples" in line for line in notes.said)
    assert not (done.folder / "model" / "golden.json").exists() and not model_folder.changed_files(
        done.folder / "model"
    )


def test_weights_of_half_precision_are_saved_wide_and_stay_as_they_are(run_values, tmp_path, tiny_bert):
    from transformers import AutoModel

    AutoModel.from_pretrained(tiny_bert).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "half" / name).write_bytes((tiny_bert / name).read_bytes())
    network = AutoModel.from_pretrained(tmp_path / "half", dtype="auto")
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    with adapter_folder.widened(network, "fp32"):
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(p.dtype == torch.bfloat16 and torch.equal(p, before[name]) for name, p in network.named_parameters())
    values = {**run_values, "model": str(tmp_path / "half"), "train": {**run_values["train"], "freeze": "body"}}
    done = train({**values, "train": {**values["train"], "epochs": 1}})
    weights = load_file(done.folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}
