"""Attention on a CPU, row by row at real lengths, in pieces that stay in the cache.

Registered with transformers as the attention implementation `tunewright`; BERT, RoBERTa, GPT-2, Llama, Qwen and the others that
go through `AttentionInterface` reach it. Two facts make it faster when
dropout is on: scores of a few rows at a time stay in the cache, and next to no padding is computed. Dropout masks belong to
rows (`models/dropout.py`).

    rows of 248, 246, 31, 30 tokens, 12 heads  ->  pieces [248] [246] [31 30]

Shapes: B rows, H heads, L padded length, D features per head, K keys (L, or more when a prefix stands before).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunewright.models.dropout import RowsNotFirst, keep_scale
from tunewright.models.pieces import PIECE_ELEMENTS, Plan, pieces_of
from tunewright.models.rows import current_rows
from tunewright.models.shapes import shape_positions

NAME = "tunewright"


class UnsupportedAttention(Exception):
    """The model asks its attention for something this implementation does not compute."""


_on_call: Callable[[], object] | None = None


@contextmanager
def on_call(callback: Callable[[], object]) -> Iterator[None]:
    """Call back on every attention computed inside the block: how a trial run learns that a model reaches this file."""
    global _on_call
    before, _on_call = _on_call, callback
    try:
        yield
    finally:
        _on_call = before


def register() -> None:
    """Make `attn_implementation="tunewright"` known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, row_attention)
    AttentionMaskInterface.register(NAME, row_mask)


@dataclass(frozen=True)
class DeferredMask:
    """What a model's mask says, worked out where it is asked. marker stands for it: a tensor of its shape without memory."""

    marker: torch.Tensor
    visible: Any

    def at(self, row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """bool, as the places broadcast: whether the query of that row sees the key."""
        places = torch.broadcast_tensors(row, query, key)
        return self.visible(places[0], torch.zeros_like(places[0]), *places[1:])


def row_mask(
    *, mask_function: Any, attention_mask: torch.Tensor | None = None, q_length: int, kv_length: int, **kwargs: Any
) -> torch.Tensor | None:
    """The additive mask `(B, 1, L, K)`, or None where the rows in flight already say everything (plain padding).

    Of flat rows, whose mask would be as large as all their tokens squared, its marker.
    """
    from transformers.masking_utils import bidirectional_mask_function, eager_mask

    rows = current_rows()
    if rows is not None and q_length == kv_length == rows.width:
        if mask_function is bidirectional_mask_function and kwargs.get("allow_is_bidirectional_skip"):
            return None
        if rows.flat and attention_mask is None and not kwargs.get("use_vmap"):
            marker = torch.zeros(1, dtype=torch.bool).expand(1, 1, q_length, kv_length)
            rows.masks[marker.data_ptr()] = DeferredMask(marker, mask_function)
            return marker
    if rows is not None and rows.flat:
        raise UnsupportedAttention("a mask of rows end to end that cannot be worked out row by row")
    return eager_mask(
        mask_function=mask_function, attention_mask=attention_mask, q_length=q_length, kv_length=kv_length, **kwargs
    )


def row_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(query keyᵀ · scaling + mask), dropped out, times value. query `(B, H, L, D)` -> `(B, L, H, D)`.

    Scores and probabilities are fp32 when the inputs are of half precision, of their own dtype otherwise.
    """
    if _on_call is not None:
        _on_call()
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(f"attention with {name}")
    if key.shape[1] != query.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    rows = current_rows()
    if rows is not None and rows.batch_size != query.shape[0]:
        raise RowsNotFirst(f"attention sees {query.shape[0]} rows, the micro-batch has {rows.batch_size}")
    if rows is not None and rows.flat and not query.shape[2] == key.shape[2] == rows.width:
        raise UnsupportedAttention("queries or keys that are not the rows end to end")
    if dropout and rows is None:
        raise UnsupportedAttention("dropout outside rows_in_flight")
    if attention_mask is None and query.shape[2] > 1 and kwargs.get("is_causal", getattr(module, "is_causal", False)):
        raise UnsupportedAttention("causal attention without a mask")
    plan = Plan(
        rows=rows,
        # With a prefix or a cache before the rows they are computed whole; the mask says what is visible.
        ragged=rows is not None and query.shape[2] == key.shape[2] == rows.width,
        num_before=0 if rows is None or query.shape[2] != rows.width else key.shape[2] - rows.width,
        # One query that sees every real key: `models/first_position.py`.
        ragged_keys=rows is not None and query.shape[2] == 1 and attention_mask is None and key.shape[2] == rows.width,
        site=getattr(module, "dropout_site", 0),
        p=dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        multiple=shape_positions(value.dtype, value.device),
    )
    return _RowAttention.apply(query, key, value, attention_mask, plan), None


class _RowAttention(torch.autograd.Function):
    """Forward and backward piece by piece.

    Keeps probabilities, before and after dropout. Of bf16 values scores and their gradients are computed in fp32, and the four
    products that probabilities or gradients of scores are factors of in bf16 (as FlashAttention does, Dao et al. 2022).
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, plan):
        dtype = torch.float32 if query.dtype in (torch.bfloat16, torch.float16) else query.dtype
        num_rows, num_heads, num_queries, _ = query.shape
        # Of a single query (a first position, a word being written) every number of keys would be another product to compile.
        factors = value.dtype if value.dtype == torch.bfloat16 and num_queries > 1 else dtype
        pieces = pieces_of(plan, num_rows, num_heads, num_queries, key.shape[2])
        out_BLHD = value.new_zeros(num_rows, num_queries, num_heads, value.shape[-1])
        kept_for_backward = []
        training = any(ctx.needs_input_grad[:3])
        with torch.autocast(query.device.type, enabled=False):
            for piece in pieces:
                whole = not plan.ragged
                q, k = piece.of(query, dtype).mul(plan.scale), piece.of(key, dtype, whole=whole)
                v = piece.of(value, factors, whole=whole)
                shape = (*q.shape[:-1], k.shape[-2])
                # What dropout leaves is written over the scores; where it is kept as it stands, they need memory of their own.
                own = training and plan.p and factors == dtype
                scores = q.new_empty(shape) if own else _scratch(0, shape, dtype)
                torch.matmul(q, k.transpose(-1, -2), out=scores)
                piece.hide(plan, mask, scores)
                probabilities = torch.softmax(scores, -1)
                dropped = probabilities
                if plan.p:
                    dropped = piece.keep(plan, scores).mul_(probabilities)
                    v = v * keep_scale(plan.p)
                dropped = dropped.to(factors)
                piece.put(out_BLHD.transpose(1, 2), torch.matmul(dropped, v))
                if training:
                    kept_for_backward += [probabilities, dropped]
        if training:
            ctx.save_for_backward(query, key, value, *kept_for_backward)
            ctx.plan, ctx.pieces, ctx.dtypes = plan, pieces, (dtype, factors)
        return out_BLHD

    @staticmethod
    def backward(ctx, grad_BLHD):
        query, key, value, *kept = ctx.saved_tensors
        plan, (dtype, factors) = ctx.plan, ctx.dtypes
        # As queries, keys and values lie in memory where a linear layer made them: (B, L, H, D).
        grads = [
            torch.zeros_like(x.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
            for x in (query, key, value)
        ]
        keep = keep_scale(plan.p) if plan.p else 1.0
        whole = not plan.ragged
        with torch.autocast(query.device.type, enabled=False):
            for piece, probabilities, dropped in zip(ctx.pieces, kept[::2], kept[1::2], strict=True):
                q, k = piece.of(query, factors), piece.of(key, factors, whole=whole)
                v = piece.of(value, dtype, whole=whole)
                grad = piece.of(grad_BLHD.transpose(1, 2), dtype).mul(keep)
                # d scores = p * (keep * d dropped) - p * sum(p * keep * d dropped), and p * keep is `dropped`.
                products = torch.matmul(
                    grad.mul(plan.scale), v.transpose(-1, -2), out=_scratch(0, probabilities.shape, dtype)
                ).mul_(_in(dtype, dropped, 1) if plan.p else probabilities)
                d_scores = products.addcmul_(probabilities, products.sum(-1, keepdim=True), value=-1)
                d_scores = _in(factors, d_scores, 2)
                d_query, d_key = torch.matmul(d_scores, k), torch.matmul(d_scores.transpose(-1, -2), q)
                d_value = torch.matmul(dropped.transpose(-1, -2), grad.to(factors))
                for total, part, all_keys in zip(grads, (d_query, d_key, d_value), (False, True, True), strict=True):
                    piece.put(total, part, whole=all_keys and whole)
        return *grads, None, None


_MOST_SCRATCH = 4 * PIECE_ELEMENTS
_of_thread = threading.local()  # "slots": (number, dtype) -> tensor


def _scratch(slot: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Memory of this thread that every piece uses again, and that therefore stays in the cache. Not of very large pieces."""
    size = math.prod(shape)
    if size > _MOST_SCRATCH:
        return torch.empty(shape, dtype=dtype)
    slots = _of_thread.__dict__.setdefault("slots", {})
    held = slots.get((slot, dtype))
    if held is None or held.numel() < size:
        with torch.inference_mode(False):  # what prediction made must do for training too
            held = slots[slot, dtype] = torch.empty(size, dtype=dtype)
    return held[:size].view(shape)


def _in(dtype: torch.dtype, x: torch.Tensor, slot: int) -> torch.Tensor:
    """x itself, or a copy in scratch memory where it is of another dtype."""
    return x if x.dtype == dtype else _scratch(slot, x.shape, dtype).copy_(x)
