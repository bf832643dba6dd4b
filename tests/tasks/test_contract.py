"""What every task must hold: any cut of a step gives the same gradient, runs resume bit-identically, and what is trained is used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import tunewright as tw
from tests.conftest import messages, write_jsonl
from tunewright.config.load import parse_config
from tunewright.execution import cpu
from tunewright.execution.base import Execution
from tunewright.execution.cpu import CpuExecution
from tunewright.prediction import load
from tunewright.runs.reporter import Interrupted, Reporter
from tunewright.runs.setup import TrainingComponents, build_components
from tunewright.runs.train import train
from tunewright.training.engine import accumulate_gradient

LANGUAGE = ["clm", "mlm", "whole_word", "next_sentence"]
PREFERENCE = ["dpo", "kto", "orpo", "reward", "judge"]
TASKS = ["classification", "multi_label", "pairs", "ner", "regression", "sft", *PREFERENCE, *LANGUAGE]


def values_for(kind: str, base: dict, folder: Path) -> dict:
    """The small run as a run of another kind of rows."""
    if kind == "classification":
        return base
    if kind in LANGUAGE:
        return language_values(kind, base, folder)
    if kind == "sft":
        return chat_values(base, folder)
    if kind in PREFERENCE:
        return preference_values(kind, base, folder)
    rows = messages(80)
    if kind == "multi_label":
        rows = [
            {"text": row["text"], "labels": [row["label"], *(["question"] if "?" in row["text"] else [])][i % 5 == 0 :]}
            for i, row in enumerate(rows)
        ]
        data = {"text": "text", "label": "labels"}
    elif kind == "regression":  # prices of 10 to 30
        rows = [{"text": row["text"], "price": 10 + len(row["text"]) / 7} for row in rows]
        base, data = {**base, "task": kind}, {"label": "price"}
    elif kind == "ner":  # every capital letter begins a name; some rows are longer than a window
        rows = [{"text": row["text"] * (1 + i % 3), "entities": []} for i, row in enumerate(rows)]
        for row in rows:
            places = [match.span() for match in re.finditer(r"\b[A-Z]\w*", row["text"])]
            row["entities"] = [[start, end, "AB"[start % 2]] for start, end in places]
        data = {"max_length": 24}
    else:
        rows = [
            {"sentence1": row["text"], "sentence2": messages(90)[i + 10]["text"], "label": "ab"[len(row["text"]) % 2]}
            for i, row in enumerate(rows)
        ]
        data = {}
    write_jsonl(folder / "data.jsonl", rows)
    return {**base, "data": {**base["data"], **data}}


def language_values(kind: str, base: dict, folder: Path) -> dict:
    """The texts alone: packed for a decoder, masked for the encoder, or four to a document for pairs of segments."""
    texts = [row["text"] for row in messages(80)]
    if kind == "next_sentence":
        texts = ["\n".join(messages(160)[start : start + 4][i]["text"] for i in range(4)) for start in range(0, 160, 4)]
    write_jsonl(folder / "data.jsonl", [{"text": text} for text in texts])
    task = {
        "name": "clm" if kind == "clm" else "mlm",
        **({kind: True} if kind in ("whole_word", "next_sentence") else {}),
    }
    data = {**base["data"], "text": "text", "max_length": 24}
    model = {"name": "scratch:gpt-tiny", "tokenizer": base["model"]} if kind == "clm" else base["model"]
    return {**base, "task": task, "data": data, "model": model}


def chat_values(base: dict, folder: Path) -> dict:
    """Texts as prompts, labels as answers; every fifth row asks twice."""
    rows = []
    for number, row in enumerate(messages(80)):
        turns = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["label"]}]
        rows.append({"messages": turns * (1 + (number % 5 == 0))})
    write_jsonl(folder / "data.jsonl", rows)
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content + ' : ' }}"
        "{% else %}{% generation %}{{ m.content + '[SEP]' }}{% endgeneration %}{% endif %}{% endfor %}"
    )
    model = {"name": "scratch:gpt-tiny", "tokenizer": base["model"]}
    data = {**base["data"], "max_length": 128}
    return {
        **base,
        "task": {"name": "sft", "template": template},
        "data": data,
        "model": model,
        "evaluate": {**base["evaluate"], "num_generated": 4},
    }


def preference_values(kind: str, base: dict, folder: Path) -> dict:
    """Labels against the next row's text; or judged alone, every third one bad. From random weights; `judge` is an encoder."""
    values = {**chat_values(base, folder), "evaluate": base["evaluate"]}
    rows = []
    for number, row in enumerate(messages(80)):
        prompt, label, other = row["text"], row["label"], messages(90)[number + 10]["text"][:60]
        if kind == "kto":
            rows.append({"prompt": prompt, "completion": other if number % 3 == 0 else label, "label": number % 3 > 0})
        elif (
            kind == "judge"
        ):  # answers as unlike as can be: else the gradients of the sides cancel to less than fp32 tells apart
            rows.append({"prompt": prompt, "chosen": "Yes.", "rejected": other * 2})
        else:
            rows.append({"prompt": prompt, "chosen": label, "rejected": other})
    write_jsonl(folder / "data.jsonl", rows)
    if kind == "judge":
        return {**values, "task": "reward", "model": base["model"], "data": {**values["data"], "max_length": 64}}
    name, loss = ("reward", {}) if kind == "reward" else ("preference", {"loss": kind})
    return {**values, "task": {"name": name, "template": values["task"]["template"], **loss}}


def gradient(
    run: TrainingComponents, *, budget: int, precision: str = "fp64", two_threads: bool = False
) -> dict[str, torch.Tensor]:
    run.model.zero_grad(set_to_none=True)
    split = run.prepared.store["train"]
    execution = replace(run.execution, token_budget=budget, precision=precision)
    if isinstance(execution, CpuExecution):
        execution = replace(execution, two_threads=two_threads)
    accumulate_gradient(
        run.model.train(),
        run.task,
        split,
        run.encoder,
        np.arange(16),
        run.task.for_epoch(seed=3, epoch=1).weights(split),
        seed=3,
        epoch=1,
        step=2,
        execution=execution,
    )
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


def set_up(values: dict, **train: object) -> TrainingComponents:
    return build_components(parse_config({**values, "train": {**values["train"], **train}}))


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-9), ("fp32", 2e-6)])
def test_a_steps_gradient_does_not_depend_on_its_cut(run_values, tmp_path, kind, dropout, precision, tolerance):
    run = set_up(values_for(kind, run_values, tmp_path), precision=precision)
    for module in run.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    whole = gradient(run, budget=10**6, precision=precision)
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in whole.values()))
    for budget in (1, 60, 200):
        cut = gradient(run, budget=budget, precision=precision)
        worst = max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole)
        # A fresh encoder says almost the same of both sides: their gradients cancel, and rounding stands out against the rest.
        assert worst < tolerance * (50 if kind == "judge" and precision == "fp32" else 1), f"budget {budget}"
    if dropout:
        for module in run.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        without = gradient(run, budget=10**6, precision=precision)
        assert max(float((without[name] - whole[name]).abs().max() / norm) for name in whole) > 1e-3


@pytest.mark.parametrize("adapter", [None, "lora"])
@pytest.mark.parametrize("kind", TASKS)
def test_two_threads_have_the_gradient_of_one(run_values, tmp_path, tiny_gpt, kind, adapter):
    """With dropout, as the model's config says."""
    values = values_for(kind, run_values, tmp_path)
    run = set_up(with_lora(kind, run_values, tmp_path, tiny_gpt) if adapter else values, precision="fp64")
    execution = replace(run.execution, token_budget=100, two_threads=True)
    assert len(execution.split(run.prepared.store["train"].lengths[:16])) == 2
    whole = gradient(run, budget=100)
    halves = [gradient(run, budget=100, two_threads=True) for _ in range(2)]
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    assert whole.keys() == halves[0].keys()
    assert max(float((halves[0][name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9
    assert all(torch.equal(halves[0][name], halves[1][name]) for name in whole)


@pytest.mark.parametrize("kind", TASKS)
def test_long_steps_are_computed_by_two_threads(run_values, tmp_path, kind, monkeypatch):
    values = values_for(kind, run_values, tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not set_up(values).execution.two_threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert set_up(values, precision="bf16").execution.two_threads
    assert set_up(values, precision="fp32").execution.two_threads
    assert not set_up(values, dropout="pytorch").execution.two_threads
    monkeypatch.setattr(cpu, "_LARGEST_SECOND_GRADIENT", 2**10)
    assert not set_up(values).execution.two_threads


@pytest.mark.parametrize("kind", TASKS)
def test_rows_end_to_end_have_the_gradient_of_padded_ones(run_values, tmp_path, kind):
    """With dropout, as the model's config says; blocks of packed documents are computed as they are."""
    values = values_for(kind, run_values, tmp_path)
    unpadded = set_up(values, precision="fp64")
    padded = set_up({**values, "data": {**values["data"], "padding": "max_length"}}, precision="fp64")
    assert (unpadded.execution.unpadded, padded.execution.unpadded) == (not unpadded.task.is_packed, False)
    expected, found = gradient(padded, budget=100), gradient(unpadded, budget=100)
    norm = torch.sqrt(sum((g**2).sum() for g in expected.values()))
    assert max(float((found[name] - expected[name]).abs().max() / norm) for name in expected) < 1e-9


@pytest.mark.parametrize("kind", TASKS)
def test_the_side_that_is_padded_changes_nothing(run_values, tmp_path, kind):
    values = values_for(kind, run_values, tmp_path)
    whole = gradient(set_up(values, precision="fp64"), budget=10**6)
    left = set_up({**values, "data": {**values["data"], "padding_side": "left"}}, precision="fp64")
    assert left.encoder.tokenizer.padding_side == "left"  # as it will be saved
    cut = gradient(left, budget=60)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9


def test_class_weights_and_row_weights_divide_by_the_whole_steps_weight(run_values, tmp_path):
    values = {**run_values, "train": {**run_values["train"], "class_weights": "balanced"}}
    run = set_up(values, precision="fp64")
    whole, cut = gradient(run, budget=10**6), gradient(run, budget=40)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9


def test_dropout_that_no_module_holds_is_a_function_of_the_step(run_values, tiny_bert, tmp_path):
    """OPT calls torch's dropout by itself; a resumed process begins with another generator than the one that was killed."""
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(tmp_path / "opt")
    shape = {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path / "opt")
    run = set_up({**language_values("clm", run_values, tmp_path), "model": str(tmp_path / "opt")})
    torch.manual_seed(1)
    one = gradient(run, budget=10_000)
    torch.manual_seed(2)
    other = gradient(run, budget=10_000)
    assert all(torch.equal(one[name], other[name]) for name in one)


PLAIN_CASES = [
    *((kind, "fp64", dropout) for kind in TASKS for dropout in ("row_keyed", "off")),
    *((kind, "fp32", "row_keyed") for kind in TASKS),
    *((f"{kind}-lora", "fp64", "row_keyed") for kind in TASKS),
]


@pytest.mark.parametrize(("kind", "precision", "dropout"), PLAIN_CASES)
def test_the_plain_execution_has_the_gradient_of_the_fast_one(run_values, tmp_path, tiny_gpt, kind, precision, dropout):
    """Dropout as the model's config says, and off."""
    name, _, adapter = kind.partition("-")
    values = with_lora(name, run_values, tmp_path, tiny_gpt) if adapter else values_for(name, run_values, tmp_path)
    tolerance = {"fp64": 1e-9, "fp32": 2e-6}[precision]
    fast, plain = (
        set_up(values, precision=precision, dropout=dropout, execution=execution) for execution in ("auto", "plain")
    )
    assert (type(fast.execution), type(plain.execution)) == (CpuExecution, Execution)
    expected, found = (gradient(run, budget=100, precision=precision) for run in (fast, plain))
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in expected.values()))
    assert expected.keys() == found.keys()
    worst = max(float((found[name] - expected[name]).abs().max() / norm) for name in expected)
    assert worst < tolerance * (50 if name == "judge" and precision == "fp32" else 1)


@pytest.mark.parametrize("kind", ["classification", "sft", "mlm"])
def test_a_run_with_the_plain_execution_trains_evaluates_and_predicts(run_values, tmp_path, kind):
    values = values_for(kind, run_values, tmp_path)
    losses = []
    for execution in ("auto", "plain"):
        train_values = {**values["train"], "execution": execution, "max_steps": 3}
        run = train({**values, "train": train_values, "output": str(tmp_path / execution)})
        assert (tmp_path / execution / "config.yaml").read_text().count(f"execution: {execution}") == 1
        losses.append(
            [point["train_loss"] for point in run.history] + [point["validation_loss"] for point in run.history]
        )
        assert tw.evaluate(run, precision="fp32", execution=execution)["metrics"]["loss"] > 0
    assert np.allclose(*losses, rtol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(run_values):
    plain, saving = (
        set_up(run_values, precision="fp64"),
        set_up(run_values, precision="fp64", gradient_checkpointing=True),
    )
    one, other = gradient(plain, budget=100), gradient(saving, budget=100)
    norm = torch.sqrt(sum((g**2).sum() for g in one.values()))
    assert max(float((one[name] - other[name]).abs().max() / norm) for name in one) < 1e-9


def in_processes(ranks: int, *command: str, **environment: str) -> None:
    """Run a Python script or module (`-m`, name) under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-port=0"]
    launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("dropout", ["0.0", "0.1"])
def test_two_processes_make_the_gradient_of_one(run_values, tmp_path, dropout):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**run_values, "train": {**run_values["train"], "precision": "fp64"}}))
    script = Path(__file__).with_name("rank_gradient.py")
    outputs = []
    for ranks in (1, 2):
        out = tmp_path / f"gradient-{ranks}.safetensors"
        in_processes(ranks, str(script), str(config), str(out), DROPOUT=dropout)
        outputs.append(load_file(out))
    one, two = outputs
    norm = torch.sqrt(sum((g**2).sum() for g in one.values()))
    assert set(one) == set(two)
    assert max(float((one[name] - two[name]).abs().max() / norm) for name in one) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "preference"])
def test_two_processes_train_and_score_what_one_does(run_values, tmp_path, kind):
    """Ranks have unequal numbers of micro-batches, and some none, in training, in every evaluation and for the reference."""
    values = values_for(kind, run_values, tmp_path)
    values = {**values, "train": {**values["train"], "precision": "fp64", "micro_batch_tokens": 60}}
    config = tmp_path / "config.yaml"
    for ranks in (1, 2):
        config.write_text(
            yaml.safe_dump({**values, "output": str(tmp_path / f"{ranks}" / "run")})
        )  # each with a store of its own
        in_processes(ranks, "-m", "tunewright", "train", str(config))
    one, two = ([json.loads(line) for line in (tmp_path / f"{n}" / "run" / "metrics.jsonl").open()] for n in (1, 2))
    assert [record.get("split") for record in one] == [record.get("split") for record in two]
    losses = ([record["loss"] for record in records] for records in (one, two))
    assert np.allclose(*losses, rtol=1e-9)
    weights = (load_file(tmp_path / f"{n}" / "run" / "model" / "model.safetensors") for n in (1, 2))
    a, b = weights
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9


def with_lora(kind: str, base: dict, folder: Path, decoder: Path, **options: object) -> dict:
    """The run of a kind as a run that trains a LoRA adapter; adapters need weights to start from."""
    values = {**values_for(kind, base, folder), "adapter": {"name": "lora", **options}}
    return {**values, "model": str(decoder)} if isinstance(values["model"], dict) else values


@pytest.mark.parametrize("kind", TASKS)
def test_the_same_holds_with_lora(run_values, tmp_path, tiny_gpt, kind):
    values = with_lora(kind, run_values, tmp_path, tiny_gpt, dropout=0.1)
    run = set_up(values, precision="fp64")
    whole = gradient(run, budget=10**6)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    for budget in (1, 60, 200):
        cut = gradient(run, budget=budget)
        assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9, f"budget {budget}"


class StopAfter(Reporter):
    """Sends this process a SIGTERM after a step, as a scheduler would."""

    def __init__(self, step: int) -> None:
        self.stop = step

    def step(self, step, num_steps) -> None:
        if step.number == self.stop:
            os.kill(os.getpid(), 15)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "stops"), [("classification", [1]), ("classification", [8]), *((kind, [3, 9]) for kind in TASKS)]
)
def test_an_interrupted_run_resumes_bit_identically(run_values, tmp_path, kind, stops):
    values = values_for(kind, run_values, tmp_path)
    straight = train({**values, "output": str(tmp_path / "straight")})
    for stop in stops:
        with pytest.raises(Interrupted):
            train({**values, "output": str(tmp_path / "stopped")}, reporter=StopAfter(stop))
    resumed = train({**values, "output": str(tmp_path / "stopped")})
    one, other = weights(straight.folder), weights(resumed.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert straight.history == resumed.history
    records = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("straight", "stopped")]
    assert records[0] == records[1]


def test_an_interrupted_run_on_two_threads_resumes_bit_identically(run_values, tmp_path, monkeypatch):
    computed, both = [], cpu.run_both_backward
    monkeypatch.setattr(cpu, "run_both_backward", lambda *these: (computed.append(1), both(*these))[1])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    values = {**run_values, "train": {**run_values["train"], "precision": "bf16", "micro_batch_tokens": 32}}
    straight = train({**values, "output": str(tmp_path / "straight")})
    assert len(computed) == 18  # 16 steps, and the two passes of preflight
    with pytest.raises(Interrupted):
        train({**values, "output": str(tmp_path / "stopped")}, reporter=StopAfter(3))
    resumed = train({**values, "output": str(tmp_path / "stopped")})
    one, other = weights(straight.folder), weights(resumed.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert straight.history == resumed.history


@pytest.mark.parametrize("kind", TASKS)
def test_an_interrupted_run_with_lora_resumes_bit_identically(run_values, tmp_path, tiny_gpt, kind):
    values = with_lora(kind, run_values, tmp_path, tiny_gpt)
    straight = train({**values, "output": str(tmp_path / "straight")})
    with pytest.raises(Interrupted):
        train({**values, "output": str(tmp_path / "stopped")}, reporter=StopAfter(3))
    resumed = train({**values, "output": str(tmp_path / "stopped")})
    assert straight.history == resumed.history
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "model/golden.json"):
        assert (straight.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind not in LANGUAGE[1:]])  # masks are new in every epoch
def test_four_rows_are_learned_by_heart(run_values, tmp_path, kind):
    values = values_for(kind, run_values, tmp_path)
    lines = (tmp_path / "data.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    if kind in ("classification", "pairs"):
        lines = [json.dumps({**json.loads(line), "label": "ab"[i % 2]}) for i, line in enumerate(lines)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"epochs": 200, "max_steps": 200, "save_every": 200, "batch_size": 4, "weight_decay": 0}
    settings["learning_rate"] = 1e-2 if kind in TASKS[:5] else 4e-3  # decoders swing at the rate of the encoders
    run = train({
        **values, "data": {**values["data"], "validation_ratio": 0, "test_ratio": 0},
        "train": {**values["train"], **settings},
    })  # fmt: skip
    learned = tw.evaluate(run, str(tmp_path / "data.jsonl"), precision="fp32")["metrics"]
    assert learned["loss"] < 0.1


def test_predictions_do_not_depend_on_their_neighbours_or_order(run_values):
    run = train(run_values)
    model = load(run, precision="fp32")
    texts = [row["text"] for row in messages(60)]
    together = model.scores(texts)
    assert np.allclose(together[::-1], model.scores(texts[::-1]), atol=1e-6)
    assert np.allclose(together, np.concatenate([model.scores([text]) for text in texts]), atol=1e-6)


def test_what_is_saved_is_what_was_trained(run_values):
    run = train(run_values)
    scores = tw.evaluate(run, precision="fp32")
    assert scores["metrics"]["loss"] == pytest.approx(run.scores["test"]["metrics"]["loss"], abs=1e-6)
    assert scores["metrics"]["accuracy"] == run.scores["test"]["metrics"]["accuracy"]
