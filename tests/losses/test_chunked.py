"""Cross-entropy by pieces against the plain computation: loss, gradients, weights, biases, and what the model gives without its head."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional

import tunewright.execution.cpu.embedding as embedding
import tunewright.execution.cpu.output_rows as output_rows
import tunewright.losses.chunked as chunked
from tunewright.execution.cpu.output_rows import CpuOutputKernels
from tunewright.execution.output_rows import install_output_kernels
from tunewright.losses.chunked import has_plain_output, linear_cross_entropy, skip_output_projection
from tunewright.losses.language import labelled_loss


def inputs(dtype: torch.dtype, *, tokens: int = 11, width: int = 6, vocabulary: int = 17) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(tokens, width), (vocabulary, width), (vocabulary,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(("piece", "softmax"), [(1, 1), (40, 40), (800, 40), (10**6, 40), (10**6, 10**6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("on_cpu", [False, True])
def test_loss_and_gradients_equal_the_plain_computation(monkeypatch, piece, softmax, bias, dtype, tolerance, on_cpu):
    monkeypatch.setattr(chunked, "PIECE_BYTES", piece)
    monkeypatch.setattr(output_rows, "SOFTMAX_ELEMENTS", softmax)
    monkeypatch.setattr(chunked, "LEAST_TOKENS", 1)
    monkeypatch.setattr(CpuOutputKernels, "takes_gradient", False)
    hidden, weight, offset = inputs(dtype)
    if on_cpu:
        weight.output_kernels = CpuOutputKernels()
    labels, weights = torch.arange(11) % 17, torch.linspace(0, 2, 11, dtype=dtype)
    wanted = [hidden, weight, *([offset] if bias else [])]
    plain = functional.cross_entropy(
        functional.linear(hidden, weight, offset if bias else None), labels, reduction="none"
    )
    expected = torch.autograd.grad((plain * weights).sum() / 3, wanted)
    total, losses = linear_cross_entropy(hidden, weight, offset if bias else None, labels, weights_S=weights)
    assert torch.allclose(losses, plain, atol=tolerance)
    assert torch.allclose(total, (plain * weights).sum(), rtol=tolerance)
    for found, grad in zip(torch.autograd.grad(total / 3, wanted), expected, strict=True):
        assert torch.allclose(found, grad, atol=tolerance)


@pytest.mark.parametrize("piece", [40, 10**6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.05)])
def test_output_rows_take_their_gradient_in_place(monkeypatch, piece, dtype, tolerance):
    """As they would from autograd, also when another thread's gradients are added later, one micro-batch after the other."""
    monkeypatch.setattr(chunked, "PIECE_BYTES", piece)
    monkeypatch.setattr(chunked, "LEAST_TOKENS", 1)
    monkeypatch.setattr(embedding, "_ELEMENTS_TOGETHER", 7)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    hidden, weight, _ = inputs(wide)
    layer = torch.nn.Linear(6, 17, bias=False)
    layer.weight, labels = torch.nn.Parameter(weight.detach().clone()), torch.arange(11) % 17
    layer.get_output_embeddings = lambda: layer
    (expected,) = torch.autograd.grad(functional.cross_entropy(hidden @ weight.T, labels, reduction="sum"), weight)

    def backward(factor: float) -> None:
        (factor * linear_cross_entropy(hidden.detach().to(dtype), layer.weight, None, labels)[0]).backward()

    backward(1.0)
    assert torch.allclose(layer.weight.grad, expected, atol=tolerance)
    layer.weight.grad = None
    install_output_kernels(layer, CpuOutputKernels())
    backward(0.5)
    later = embedding.DeferredGradients()
    with embedding.deferred_gradients(later):
        for factor in (1.0, 2.0, 4.0):
            backward(factor)
    assert torch.allclose(layer.weight.grad, 0.5 * expected, atol=tolerance)
    later.add_to(layer.weight)
    assert torch.allclose(layer.weight.grad, 7.5 * expected, atol=7.5 * tolerance)


def test_two_tokens_by_hand():
    hidden, weight = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [0.0]])
    total, losses = linear_cross_entropy(hidden, weight, None, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-2)), math.log(2)], abs=1e-6)
    assert float(total) == pytest.approx(0.126928 + 0.693147, abs=1e-5)


def test_no_token_is_a_loss_of_zero_with_gradients_of_zero():
    hidden, weight, _ = inputs(torch.float32, tokens=0)
    total, losses = linear_cross_entropy(hidden, weight, None, torch.zeros(0, dtype=torch.long))
    total.backward()
    assert (float(total), len(losses), float(weight.grad.abs().sum())) == (0.0, 0, 0.0)


def test_half_precision_products_are_summed_in_fp32():
    hidden, weight, _ = inputs(torch.float32, tokens=64, width=32)
    labels = torch.arange(64) % 17
    exact, _ = linear_cross_entropy(hidden, weight, None, labels)
    rounded, losses = linear_cross_entropy(hidden.bfloat16(), weight, None, labels)
    assert (rounded.dtype, losses.dtype) == (torch.float32, torch.float32)
    assert float(rounded) == pytest.approx(float(exact), rel=1e-2)


def test_under_autocast_products_are_bf16_and_odd_numbers_of_tokens_change_nothing(monkeypatch):
    hidden, weight, _ = inputs(torch.float32, tokens=45, width=32)
    monkeypatch.setattr(CpuOutputKernels, "takes_gradient", False)
    weight.output_kernels = CpuOutputKernels()
    labels, weights = torch.arange(45) % 17, torch.linspace(0, 2, 45)
    expected, _ = linear_cross_entropy(hidden.bfloat16(), weight, None, labels, weights_S=weights)
    with torch.autocast("cpu", torch.bfloat16):
        total, losses = linear_cross_entropy(hidden, weight, None, labels, weights_S=weights)
    parts = [linear_cross_entropy(hidden[n : n + 1].bfloat16(), weight, None, labels[n : n + 1])[1] for n in range(45)]
    assert torch.equal(total, expected) and torch.allclose(losses, torch.cat(parts), atol=1e-6)
    d_hidden, d_weight = torch.autograd.grad(total, (hidden, weight))
    assert (d_hidden.shape, d_hidden.dtype) == (hidden.shape, torch.float32)
    plain = functional.cross_entropy(functional.linear(hidden, weight), labels, reduction="none")
    for found, grad in zip(
        (d_hidden, d_weight), torch.autograd.grad((plain * weights).sum(), (hidden, weight)), strict=True
    ):
        assert torch.allclose(found, grad, rtol=0.05, atol=0.02 * float(grad.abs().max()))


def small_llama(**config):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, **config
        )
    ).eval()


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_without_its_head_gives_the_loss_and_gradient_of_the_whole(tied):
    model = small_llama(tie_word_embeddings=tied)
    ids = torch.randint(0, 40, (2, 9))
    plain = functional.cross_entropy(model(ids).logits[:, :-1].reshape(-1, 40), ids[:, 1:].reshape(-1), reduction="sum")
    expected = torch.autograd.grad(plain, list(model.parameters()))
    with skip_output_projection(model) as (weight, bias):
        hidden = model(ids).logits[:, :-1].reshape(-1, 16)
    total, _ = linear_cross_entropy(hidden, weight, bias, ids[:, 1:].reshape(-1))
    found = torch.autograd.grad(total, list(model.parameters()))
    assert float(total) == pytest.approx(float(plain), rel=1e-6)
    assert max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)) < 1e-5
    assert model(ids).logits.shape == (2, 9, 40)
    assert has_plain_output(model)


def causal(name: str, **values) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **shape, **values))


def test_another_thread_gets_logits_meanwhile():
    model, ids = causal("llama"), torch.tensor([[3, 9, 4]])
    with skip_output_projection(model), ThreadPoolExecutor(1) as pool:
        states, logits = model(ids).logits, pool.submit(lambda: model(ids).logits).result()
    assert (states.shape[-1], logits.shape[-1]) == (model.config.hidden_size, model.config.vocab_size)
    assert torch.equal(model(ids).logits, logits)


def test_capped_logits_are_no_plain_product():
    capped = {"num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 30.0}
    assert not has_plain_output(causal("gemma2", **capped))
    assert has_plain_output(causal("gemma2", **capped | {"final_logit_softcapping": None}))
    assert not has_plain_output(causal("recurrent_gemma", lru_width=16, attention_window_size=8, logits_soft_cap=30.0))


def test_scaled_logits_are_the_product_of_scaled_states():
    model = causal("cohere", num_key_value_heads=2, logit_scale=0.25)
    ids, labels = torch.tensor([[3, 9, 4]]), torch.tensor([[9, 4, 7]])
    plain = functional.cross_entropy(model(ids).logits[0], labels[0], reduction="sum")
    assert float(labelled_loss(model, {"input_ids": ids}, labels).total) == pytest.approx(float(plain), rel=1e-5)


def test_a_model_that_reads_its_output_layer_goes_the_plain_way():
    from transformers import MobileBertConfig, MobileBertForMaskedLM

    config = MobileBertConfig(
        vocab_size=40, hidden_size=32, embedding_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        intra_bottleneck_size=16,
    )  # fmt: skip
    model = MobileBertForMaskedLM(config).eval()
    assert not has_plain_output(model)
    ids, labels = torch.tensor([[3, 9, 4]]), torch.tensor([[-100, 4, 7]])
    found = labelled_loss(model, {"input_ids": ids}, labels)
    plain = functional.cross_entropy(model(ids).logits[0, 1:], labels[0, 1:], reduction="sum")
    assert float(found.total) == pytest.approx(float(plain), rel=1e-5)
