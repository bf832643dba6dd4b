"""Hidden states, output rows and labels -> cross-entropy, without holding the logits of all tokens at a time.

    total, losses_S = linear_cross_entropy(hidden_SH, weight_VH, bias_V, labels_S)

The plain computation holds logits `(tokens, vocabulary)` three times in fp32: 2,048 tokens with a vocabulary of 128,256 are 1.05 GB
each. Here the logits of one chunk of tokens at a time are computed, then its loss and its gradient; what remains is as large as the inputs.
The gradient is that of the sum; a later division of the sum only scales it (the idea of Liger's fused loss, Hsu et al. 2024).
How the products are computed is up to the execution (`execution/output_rows.py`).

Shapes: S supervised tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution.output_rows import OutputKernels, kernels_of

PIECE_BYTES, LEAST_TOKENS = 1 << 24, 256
"""Logits held at a time: 16 MB, or 256 tokens if that is more (66 MB with a vocabulary of 128,256 in bf16)."""


def linear_cross_entropy(
    hidden_SH: torch.Tensor,
    weight_VH: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_S: torch.Tensor,
    *,
    weights_S: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum over tokens of weight · loss, each token's loss without gradient `(S,)`), in nats, fp32 or wider.

    Products are computed in the dtype of `hidden_SH`, under autocast in autocast's dtype; softmax and sums in fp32 or wider. Under
    `no_grad` no gradient is computed.
    """
    kernels = kernels_of(weight_VH)
    if (
        not torch.is_grad_enabled()
    ):  # not visible inside a function of autograd: there a parameter still requires a gradient
        hidden_SH, weight_VH = hidden_SH.detach(), weight_VH.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    if weights_S is None:
        weights_S = hidden_SH.new_ones(len(labels_S), dtype=_wide(hidden_SH.dtype))
    weights_S = weights_S.to(_wide(hidden_SH.dtype))
    if torch.is_autocast_enabled(hidden_SH.device.type):
        hidden_SH = hidden_SH.to(torch.get_autocast_dtype(hidden_SH.device.type))
    num_tokens = len(labels_S)
    if missing := -num_tokens % kernels.token_multiple(hidden_SH.dtype):
        hidden_SH = functional.pad(hidden_SH, (0, 0, 0, missing))
        labels_S, weights_S = functional.pad(labels_S, (0, missing)), functional.pad(weights_S, (0, missing))
    total, losses_S = _LinearCrossEntropy.apply(hidden_SH, weight_VH, bias_V, labels_S, weights_S, kernels)
    return total, losses_S[:num_tokens]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


class _LinearCrossEntropy(torch.autograd.Function):
    """Keeps the gradients of the sum, computed in the forward pass; the backward pass scales them."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, weights, kernels):
        wanted = ctx.needs_input_grad[:3]
        wide = _wide(hidden.dtype)
        rows_VH = kernels.rows(weight, hidden.dtype)
        losses_S = torch.empty(len(labels), dtype=wide, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = None
        d_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted[2] else None
        piece = max(LEAST_TOKENS, PIECE_BYTES // max(1, len(rows_VH) * hidden.itemsize))
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(labels), piece):
                part = slice(start, start + piece)
                logits_PV = kernels.product(hidden[part], rows_VH)
                losses_S[part] = _to_gradients(
                    logits_PV, bias, labels[part], weights[part], d_bias, wanted=any(wanted), kernels=kernels
                )
                if d_hidden is not None:
                    torch.matmul(logits_PV, rows_VH, out=d_hidden[part])
                if wanted[1]:
                    d_weight = _plus_product(d_weight, logits_PV.T, hidden[part], wide)
        if wanted[1] and d_weight is None:  # no token at all
            d_weight = torch.zeros_like(weight)
        ctx.save_for_backward(*(x for x in (d_hidden, d_weight, d_bias) if x is not None))
        ctx.wanted = (d_hidden is not None, d_weight is not None, d_bias is not None)
        ctx.kernels = kernels
        ctx.table = weight if d_weight is not None and kernels.takes_gradient and weight.is_leaf else None
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(losses_S)
        return (losses_S * weights).sum(), losses_S

    @staticmethod
    def backward(ctx, d_total, _):
        saved = iter(ctx.saved_tensors)
        d_hidden, d_weight, d_bias = (next(saved) if wanted else None for wanted in ctx.wanted)
        if ctx.table is not None and d_weight is not None:
            ctx.kernels.add_gradient(ctx.table, d_weight, float(d_total))
            d_weight = None
        grads = [
            None if grad is None else (grad * d_total).to(dtype)
            for grad, dtype in zip((d_hidden, d_weight, d_bias), ctx.dtypes, strict=True)
        ]
        return *grads, None, None, None


def _to_gradients(
    logits_PV: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_P: torch.Tensor,
    weights_P: torch.Tensor,
    d_bias_V: torch.Tensor | None,
    *,
    wanted: bool,
    kernels: OutputKernels,
) -> torch.Tensor:
    """Each token's loss; the logits, still without their bias, are overwritten: with the gradient of the weighted sum, if it is wanted."""
    wide = weights_P.dtype
    losses_P = torch.empty_like(weights_P)
    tokens = kernels.softmax_tokens(*logits_PV.shape)
    for start in range(0, len(labels_P), tokens):
        part = slice(start, start + tokens)
        written_PV, label_P1, weight_P1 = logits_PV[part], labels_P[part, None], weights_P[part, None]
        wide_PV = kernels.wide(written_PV, wide)
        if bias_V is not None:
            wide_PV += bias_V.to(wide)
        at_label_P, largest_P = wide_PV.gather(1, label_P1)[:, 0], wide_PV.amax(-1)
        wide_PV = kernels.softmax(wide_PV)
        losses_P[part] = largest_P - at_label_P - wide_PV.amax(-1).log()
        if not wanted:
            continue
        wide_PV.mul_(weight_P1).scatter_add_(1, label_P1, -weight_P1)
        if d_bias_V is not None:
            d_bias_V += wide_PV.sum(0)
        if wide_PV is not written_PV:
            written_PV.copy_(wide_PV)
    return losses_P


def _plus_product(
    total_VH: torch.Tensor | None, left_VP: torch.Tensor, right_PH: torch.Tensor, wide: torch.dtype
) -> torch.Tensor:
    """total + left · right. The first product keeps its dtype; sums are `wide`."""
    if total_VH is None:
        return left_VP @ right_PH
    if left_VP.dtype == total_VH.dtype == wide:
        return total_VH.addmm_(left_VP, right_PH)
    return total_VH.to(wide).add_(left_VP @ right_PH)


_of_thread = threading.local()


@contextmanager
def skip_output_projection(model: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Inside, the model returns the inputs of its output layer in this thread; yields (rows `(V, H)`, bias) of that layer.

    Earlier parts of the head (dense, GELU and norm of masked models) and adapters are still computed.
    """
    output = _inner(model).get_output_embeddings()
    if "forward" not in vars(output):
        output.forward = partial(_multiplied, output, output.forward)
    _of_thread.passed = output
    try:
        yield output.weight, getattr(output, "bias", None)
    finally:
        _of_thread.passed = None


def _multiplied(
    layer: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor
) -> torch.Tensor:
    return states if getattr(_of_thread, "passed", None) is layer else forward(states)


@contextmanager
def _in_place_of(layer: nn.Module, other: nn.Module, model: Any) -> Iterator[None]:
    places = [
        (parent, name)
        for parent in _inner(model).modules()
        for name, child in parent.named_children()
        if child is layer
    ]
    for parent, name in places:
        setattr(parent, name, other)
    try:
        yield
    finally:
        for parent, name in places:
            setattr(parent, name, layer)


def _inner(model: Any) -> Any:
    return getattr(model, "module", model)


def has_plain_output(model: Any) -> bool:
    """Whether a logit is the product with an output row and nothing else. Not if logits are capped, or the layer is used in another way.

    Tested once per model: config values do not show what a model computes.
    """
    inner = _inner(model)
    with _trying:  # two threads may compute with one model, which is changed during this check
        if inner not in _PLAIN:
            was_training = inner.training
            inner.eval()
            try:
                _PLAIN[inner] = _is_plain(inner)
            except Exception:  # a model without its layer may raise anything
                _PLAIN[inner] = False
            inner.train(was_training)
        return _PLAIN[inner]


_PLAIN: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_trying = threading.Lock()
_LARGE = 1_000.0


@torch.no_grad()
def _is_plain(model: Any) -> bool:
    """Whether large numbers in place of logits are returned unchanged, or times one factor, and the product of the states equals the logits."""
    output = model.get_output_embeddings()
    if type(output) is not nn.Linear:
        return False
    logits = _tried(model)
    large = torch.linspace(-_LARGE, _LARGE, logits.numel(), device=logits.device).view_as(logits)
    with _in_place_of(output, _Gives(large.to(logits.dtype)), model):
        found = _tried(model).double()
    factor = found.flatten()[-1] / _LARGE
    if factor == 0 or not torch.allclose(
        found, factor * large.to(logits.dtype).double(), rtol=1e-3, atol=1e-3 * _LARGE
    ):
        return False
    with skip_output_projection(model):
        states = _tried(model)
    product = functional.linear(states.to(output.weight.dtype), output.weight, output.bias).double()
    return torch.allclose(product, logits.double(), rtol=0.02, atol=0.02 * float(logits.double().abs().max()))


class _Gives(nn.Module):
    def __init__(self, what: torch.Tensor) -> None:
        super().__init__()
        self.what = what

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.what


def _tried(model: Any) -> torch.Tensor:
    """The model's output for a row of two tokens."""
    rows = RowContext(seed=0, epoch=0, row_ids=np.zeros(1, np.int64), lengths=np.array([2]), width=2)
    ids = torch.tensor([[1, 2]], device=next(model.parameters()).device)
    with row_context(rows):
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return found.logits if hasattr(found, "logits") else found.prediction_logits
