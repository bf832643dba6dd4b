"""Norms whose backward pass is written down: the values and gradients of the stock ones, and nothing else is taken for one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from tunewright.execution.cpu.norms import emit_bf16_from_norms, install_fused_rms_norm

WIDTH = 12
NORMS = {
    "llama": lambda: LlamaRMSNorm(WIDTH, eps=1e-3),
    "t5": lambda: T5LayerNorm(WIDTH, eps=1e-3),
    "gemma, by weight and one": lambda: Gemma3RMSNorm(WIDTH, eps=1e-3),
    "torch": lambda: nn.RMSNorm(WIDTH, eps=1e-3),
}


def computed(norm, x):
    x = x.clone().requires_grad_()
    norm.zero_grad()
    y = norm(x)
    (y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum().backward()
    return y.detach(), x.grad, norm.weight.grad


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 50.0])
def test_values_and_gradients_are_those_of_the_stock_norm(name, scale):
    torch.manual_seed(0)
    norm = NORMS[name]()
    nn.init.uniform_(norm.weight, -1, 2)
    x = torch.randn(2, 5, WIDTH) * scale
    expected = computed(norm, x)
    assert install_fused_rms_norm(norm) == 1
    for found, one in zip(computed(norm, x), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=2e-5, atol=2e-6 * float(one.abs().max()))


def test_a_worked_value():
    norm = LlamaRMSNorm(2, eps=7.5)
    norm.weight.data = torch.tensor([2.0, 10.0])
    assert install_fused_rms_norm(norm) == 1
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)  # mean of squares 12.5, with eps 20
    y = norm(x)
    torch.testing.assert_close(y, torch.tensor([[6.0, 40.0]]) / 20**0.5)
    y[0, 0].backward()
    # d y0 / d x0 = s (r - x0² r³ / 2), d y0 / d x1 = -s x0 x1 r³ / 2, d y0 / d s0 = x0 r
    r = 20**-0.5
    torch.testing.assert_close(x.grad, torch.tensor([[2 * (r - 4.5 * r**3), -12 * r**3]]))
    torch.testing.assert_close(norm.weight.grad, torch.tensor([3 * r, 0]))


class Centred(LlamaRMSNorm):
    def forward(self, hidden_states):
        return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))


class OutsideTheRoot(LlamaRMSNorm):
    def forward(self, hidden_states):
        return self.weight * hidden_states / (hidden_states.square().mean(-1, keepdim=True).sqrt() + 1e-3)


class OfTwo(LlamaRMSNorm):
    def forward(self, hidden_states, gate):
        return super().forward(hidden_states * gate)


@pytest.mark.parametrize(
    "module", [Centred(WIDTH, 1e-3), OutsideTheRoot(WIDTH, 1e-3), OfTwo(WIDTH, 1e-3), nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH),
               nn.LayerNorm(WIDTH, bias=False), nn.BatchNorm1d(WIDTH), LlamaRMSNorm(WIDTH).bfloat16()],
)  # fmt: skip
def test_what_is_not_such_a_norm_stays(module):
    assert install_fused_rms_norm(module) == 0
    assert "forward" not in vars(module)


def small_llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def test_a_whole_model_learns_the_same():
    ids = torch.arange(3, 23).view(2, 10)
    gradients = []
    for write in (False, True):
        model = small_llama()
        assert not write or install_fused_rms_norm(model) == 5
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-6)


def test_installed_twice_it_is_installed_once_and_a_copy_has_weights_of_its_own():
    model = small_llama()
    assert (install_fused_rms_norm(model), install_fused_rms_norm(model)) == (5, 0)
    other = copy.deepcopy(model)
    ids = torch.arange(3, 13)[None]
    before = model(input_ids=ids).logits
    with torch.no_grad():
        other.model.norm.weight.mul_(2)
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    torch.testing.assert_close(other(input_ids=ids).logits, 2 * before)


def test_states_of_another_dtype_are_computed_as_ever():
    norm, stock = LlamaRMSNorm(WIDTH), LlamaRMSNorm(WIDTH)
    install_fused_rms_norm(norm)
    x = torch.randn(3, WIDTH).bfloat16()
    assert torch.equal(norm(x), stock(x)) and norm(x).dtype == stock(x).dtype
    torch.testing.assert_close(norm(hidden_states=x.float()), stock(x.float()))


def states_and_gradients(model):
    ids, seen = torch.arange(3, 23).view(2, 10), []
    hook = model.model.layers[0].input_layernorm.register_forward_hook(lambda _, __, y: seen.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(input_ids=ids, labels=ids)
    output.loss.backward()
    hook.remove()
    return seen[0], output.logits.detach(), {name: one.grad for name, one in model.named_parameters()}


def test_under_autocast_norms_round_once_for_all_that_follow():
    plain, rounding = small_llama(), small_llama()
    for model in (plain, rounding):
        install_fused_rms_norm(model)
    assert emit_bf16_from_norms(rounding)
    dtype, logits, gradients = states_and_gradients(plain)
    found_dtype, found_logits, found_gradients = states_and_gradients(rounding)
    assert (dtype, found_dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(found_logits, logits)
    for name, expected in gradients.items():
        assert float((found_gradients[name] - expected).norm()) <= 0.01 * float(expected.norm()), name
    ids = torch.arange(3, 13)[None]
    assert torch.equal(
        rounding(input_ids=ids).logits, plain(input_ids=ids).logits
    )  # without autocast nothing is rounded


def test_norms_do_not_round_where_something_reads_what_they_give():
    model = small_llama()
    install_fused_rms_norm(model)
    layer = model.model.layers[1].mlp
    stock = layer.forward
    layer.forward = lambda states: stock(states * 1.3)
    assert not emit_bf16_from_norms(model)
    assert states_and_gradients(model)[0] == torch.float32


def test_without_such_norms_nothing_rounds():
    assert not emit_bf16_from_norms(nn.Linear(2, 2))
