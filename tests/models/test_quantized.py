"""A base in 8 and 4 bit: products and gradients by hand, exact under any cut, saved as whole numbers that answer as trained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

import tunewright as tw
from tests.adapters.test_adapters import resumed_as_straight
from tests.tasks.test_contract import gradient, values_for, with_lora
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.models.linear import num_weights
from tunewright.runs.early_checks import refuse_early
from tunewright.runs.setup import build_components
from tunewright.runs.train import train
from tunewright.verification import verify

pytest.importorskip("bitsandbytes")
CPU = torch.device("cpu")
NF4 = [-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0]
NF4 += [0.0795803, 0.1609302, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1.0]


class Body(nn.Module):
    """What `linear_layers` asks of a model: a body, a head beside it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.ModuleDict({"layer": layer})
        self.classifier = nn.Linear(8, 2)


def nf4_by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Blocks of 64 numbers, divided by their largest, each to the nearest of 16 (Dettmers et al. 2023, appendix E)."""
    blocks = weight.reshape(-1, 64).double()
    largest = blocks.abs().amax(dim=1, keepdim=True)
    codes = torch.tensor(NF4, dtype=torch.float64)
    nearest = (blocks / largest).unsqueeze(-1).sub(codes).abs().argmin(dim=-1)
    return (codes[nearest] * largest).reshape(weight.shape)


def int8_by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Each output's numbers to 255 steps of the same size; bitsandbytes looks at them in half precision."""
    half = weight.half().double()
    largest = half.abs().amax(dim=1, keepdim=True)
    return (half / largest * 127).round() * largest / 127


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", ["linear", "no bias", "conv1d"])
def test_a_layer_computes_with_the_rounded_weights(bits, kind):
    from tunewright.models.quantized import quantize, rounded

    torch.manual_seed(0)
    layer = {"linear": nn.Linear(64, 6), "no bias": nn.Linear(64, 6, bias=False), "conv1d": Conv1D(6, 64)}[kind]
    before = layer.weight.detach().clone()
    whole = before.T if kind == "conv1d" else before
    wanted = (nf4_by_hand(whole.contiguous()) if bits == 4 else int8_by_hand(whole)).float()

    twin = Body(type(layer)(6, 64) if kind == "conv1d" else nn.Linear(64, 6, bias=kind == "linear"))
    twin.base_model["layer"].load_state_dict(layer.state_dict())
    rounded(twin, ["classifier"], bits, CPU)
    held = twin.base_model["layer"].weight.T if kind == "conv1d" else twin.base_model["layer"].weight
    assert torch.allclose(held, wanted, atol=1e-6)

    model = Body(layer)
    saved = quantize(model, ["classifier"], bits, CPU)
    small = model.base_model["layer"]
    assert saved == before.nbytes - small.weight.nbytes and num_weights(small.weight) == before.numel()
    assert isinstance(model.classifier, nn.Linear)
    states = torch.randn(5, 64, requires_grad=True)
    found = small(states)
    assert torch.allclose(found, functional.linear(states, held, layer.bias), atol=1e-6)
    (found * torch.arange(6)).sum().backward()
    assert torch.allclose(states.grad, (torch.arange(6.0) @ held).expand(5, 64), atol=1e-5)
    alone = small(states[:1])
    assert torch.allclose(alone, found[:1], atol=1e-6)  # no row rounds another's states


def test_rounding_twice_changes_nothing():
    from tunewright.models.quantized import rounded

    for bits in (4, 8):
        body = Body(nn.Linear(128, 16))
        rounded(body, [], bits, CPU)
        once = body.base_model["layer"].weight.detach().clone()
        rounded(body, [], bits, CPU)
        assert torch.equal(body.base_model["layer"].weight, once)


def quantized(values: dict, quantize: str, adapter: object = "lora", **train: object) -> dict:
    model = {"name": values["model"]} if isinstance(values["model"], str) else values["model"]
    changed = {**values["train"], **train}
    return {**values, "model": {**model, "quantize": quantize}, "adapter": adapter, "train": changed}


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_a_steps_gradient_does_not_depend_on_its_cut(run_values, quantize):
    notes: list[str] = []
    run = build_components(parse_config(quantized(run_values, quantize)), say=notes.append)
    assert f"the base stays in {quantize.replace('bit', '-bit')} (" in notes[0] and " and float32 (" in notes[0]
    whole = gradient(run, budget=10**6, precision="fp32")
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    for budget in (1, 60):
        cut = gradient(run, budget=budget, precision="fp32")
        assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-5


@pytest.mark.parametrize("kind", ["classification", "ner"])
@pytest.mark.parametrize("adapter", ["lora", "ia3", "prefix", {"name": "lora", "dora": True}])
def test_a_run_resumes_bit_identically_and_is_served_as_it_was_trained(run_values, tmp_path, kind, adapter):
    values = values_for(kind, quantized(run_values, "4bit", adapter), tmp_path)
    straight = resumed_as_straight(values, tmp_path)
    assert not [check for check in verify(straight.folder) if check.broken]


def test_a_decoder_in_8_bit_and_its_plain_use(run_values, tmp_path, tiny_gpt):
    """GPT-2's transposed layers too; the folders open without bitsandbytes and without this package."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    values = quantized(with_lora("sft", run_values, tmp_path, tiny_gpt), "8bit", {"name": "lora", "rank": 4})
    run = train({**values, "train": {**values["train"], "max_steps": 4}}).folder
    assert "quantization_config" not in json.loads((run / "base" / "config.json").read_text())
    ids = torch.arange(5, 15)[None]
    merged = AutoModelForCausalLM.from_pretrained(run / "model")(input_ids=ids).logits
    base = AutoModelForCausalLM.from_pretrained(run / "base")
    start = AutoModelForCausalLM.from_pretrained(tiny_gpt).eval()(input_ids=ids).logits
    assert 1e-5 < (base(input_ids=ids).logits - start).abs().max() < 0.1
    beside = PeftModel.from_pretrained(base, run / "adapter")(input_ids=ids).logits
    assert torch.allclose(merged, beside, atol=1e-5)


def test_the_reference_of_a_preference_run_is_the_rounded_model(run_values, tmp_path, tiny_gpt):
    values = quantized({**values_for("dpo", run_values, tmp_path), "model": str(tiny_gpt)}, "4bit")
    whole = build_components(parse_config({**values, "model": str(tiny_gpt)})).task.reference["train"]
    run = build_components(parse_config(values)).task.reference["train"]
    assert np.abs(run - whole).max() > 1e-4
    result = train(values)
    metrics = tw.evaluate(result, precision="fp32")["metrics"]
    assert metrics["loss"] == pytest.approx(result.scores["test"]["metrics"]["loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": "none"}, "quantized weights cannot be trained; found adapter=none. Set adapter=lora beside it"),
        ({"train": {"precision": "fp64"}}, "model.quantize cannot be combined with fp64"),
        ({"model": {"name": "scratch:bert-tiny", "quantize": "4bit"}}, "an adapter needs a pretrained base"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(run_values, tiny_bert, changes, said):
    values = quantized(run_values, "4bit") | changes
    if "scratch" in str(values["model"]):
        values["model"]["tokenizer"] = str(tiny_bert)
    for refusing in (refuse_early, build_components):
        with pytest.raises(UserError, match=said):
            refusing(parse_config(values))


def test_without_bitsandbytes_it_says_what_to_install(run_values, monkeypatch):
    monkeypatch.setattr("tunewright.adapters.base.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"bitsandbytes is not installed.*tunewright\[quant\]"):
        refuse_early(parse_config(quantized(run_values, "8bit")))


def test_a_device_that_bitsandbytes_does_not_know_is_refused():
    from tunewright.models.quantized import check

    with pytest.raises(UserError, match="does not support this device; found meta"):
        check(4, torch.device("meta"))


def test_a_checkpoint_that_is_quantized_already_is_refused(run_values, tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "rounded")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match="quantized already; found gptq"):
        build_components(parse_config({**run_values, "model": str(folder)}))
