"""Attention on a CPU, row by row at real lengths, in pieces that stay in the cache.

Registered with transformers as the attention implementation `tunewright`; BERT, RoBERTa, GPT-2, Llama, Qwen and the others that
go through `AttentionInterface` reach it. Three facts make it faster when
dropout is on: scores of a few rows at a time fit the second-level cache, padding is never
computed, and fp32 products of narrow heads beat bf16 ones. Dropout masks belong to rows (`models/dropout.py`).

    rows of 248, 246, 31, 30 tokens, 12 heads  ->  pieces [248] [246] [31 30]

Shapes: B rows, H heads, L padded length, D features per head, K keys (L, or more when a prefix stands before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunewright.models.dropout import Draw, RowsNotFirst, fill_keep, keep_scale
from tunewright.models.rows import Rows, current_rows

NAME = "tunewright"
HEADS_PER_STREAM = 4
_STREAMS_OF_PREFIX = 1 << 15
_STREAMS_OF_PART = 1 << 6
_PART_TOKENS = 64
"""Documents of a packed row are computed together up to this many tokens: below, calls cost more than scores."""
_PIECE_ELEMENTS = 768 * 1024  # scores held at a time: 3 MB in fp32


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


def row_mask(
    *, mask_function: Any, attention_mask: torch.Tensor | None = None, q_length: int, kv_length: int, **kwargs: Any
) -> torch.Tensor | None:
    """The additive mask `(B, 1, L, K)`, or None where the rows in flight already say everything (plain padding)."""
    from transformers.masking_utils import bidirectional_mask_function, eager_mask

    rows = current_rows()
    if (
        rows is not None
        and mask_function is bidirectional_mask_function
        and kwargs.get("allow_is_bidirectional_skip")
        and q_length == kv_length == rows.width
    ):
        return None
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

    Computed in fp32 when the inputs are of half precision, in their own dtype otherwise.
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
    if rows is not None and len(rows) != query.shape[0]:
        raise RowsNotFirst(f"attention sees {query.shape[0]} rows, the micro-batch has {len(rows)}")
    if dropout and rows is None:
        raise UnsupportedAttention("dropout outside rows_in_flight")
    if attention_mask is None and query.shape[2] > 1 and kwargs.get("is_causal", getattr(module, "is_causal", False)):
        raise UnsupportedAttention("causal attention without a mask")
    plan = _Plan(
        rows=rows,
        # With a prefix or a cache before the rows they are computed whole; the mask says what is visible.
        ragged=rows is not None and query.shape[2] == key.shape[2] == rows.width,
        num_before=0 if rows is None or query.shape[2] != rows.width else key.shape[2] - rows.width,
        # One query that sees every real key: `models/first_position.py`.
        ragged_keys=rows is not None and query.shape[2] == 1 and attention_mask is None and key.shape[2] == rows.width,
        site=getattr(module, "dropout_site", 0),
        p=dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
    )
    return _RowAttention.apply(query, key, value, attention_mask, plan), None


@dataclass(frozen=True)
class _Plan:
    """What stays the same over the pieces of one call."""

    rows: Rows | None
    ragged: bool
    """Rows are computed at their real extents; otherwise whole, and the mask says what is visible."""
    num_before: int
    """Keys of a prefix, seen by every row before its own."""
    ragged_keys: bool
    """Keys are visible at their rows' real extents, and nothing else says so."""
    site: int
    p: float
    scale: float


@dataclass(frozen=True)
class _Piece:
    """What is computed at a time: rows `[first, last)`, heads `[head, head_stop)`, positions `[start, stop)`."""

    first: int
    last: int
    head: int
    head_stop: int
    start: int
    stop: int
    part: int | None = None
    """Of a packed row: the number of this stretch of whole documents, which see each other's scores masked and no one else's."""

    def view(self, x_BHLD: torch.Tensor, *, whole: bool = False) -> torch.Tensor:
        """This piece's part of `(B, H, L, D)`; `whole`: all positions (keys with a prefix before them)."""
        part = x_BHLD[self.first : self.last, self.head : self.head_stop]
        return part if whole else part[:, :, self.start : self.stop]

    def of(self, x_BHLD: torch.Tensor, dtype: torch.dtype, *, whole: bool = False) -> torch.Tensor:
        """A contiguous copy of that part in the computing dtype."""
        return self.view(x_BHLD, whole=whole).to(dtype, memory_format=torch.contiguous_format).contiguous()


def _pieces(plan: _Plan, num_rows: int, num_heads: int, num_queries: int, num_keys: int) -> Iterator[_Piece]:
    """Cut the call so that a piece's scores fit the cache: neighbouring rows together, long rows by groups of heads."""
    if plan.ragged and plan.rows is not None:
        spans = [(int(start), int(start + n)) for start, n in zip(plan.rows.starts, plan.rows.lengths, strict=True)]
    else:
        spans = [(0, num_queries)] * num_rows
    if plan.ragged and plan.rows is not None and plan.rows.segments is not None:
        yield from _packed_pieces(plan.rows, num_heads)
        return
    extra_keys = num_keys - num_queries
    first = 0
    while first < num_rows:
        start, stop = spans[first]
        last = first + 1
        while last < num_rows:
            wide_start, wide_stop = min(start, spans[last][0]), max(stop, spans[last][1])
            width = wide_stop - wide_start
            if (last + 1 - first) * num_heads * width * (width + extra_keys) > _PIECE_ELEMENTS:
                break
            start, stop, last = wide_start, wide_stop, last + 1
        width = stop - start
        streams = max(1, _PIECE_ELEMENTS // max(1, HEADS_PER_STREAM * width * (width + extra_keys)))
        heads = min(num_heads, streams * HEADS_PER_STREAM)
        for head in range(0, num_heads, heads):
            yield _Piece(first, last, head, min(head + heads, num_heads), start, stop)
        first = last


def _packed_pieces(rows: Rows, num_heads: int) -> Iterator[_Piece]:
    """Stretches of whole documents, row by row: what lies between two documents is not computed at all."""
    assert rows.segments is not None
    for row, (begin, segments) in enumerate(zip(rows.starts, rows.segments, strict=True)):
        start = stop = int(begin)
        part = 0
        for number, length in enumerate(segments.tolist()):
            stop += length
            if number + 1 < len(segments) and stop + int(segments[number + 1]) - start <= _PART_TOKENS:
                continue
            streams = max(1, _PIECE_ELEMENTS // (HEADS_PER_STREAM * (stop - start) ** 2))
            heads = min(num_heads, streams * HEADS_PER_STREAM)
            for head in range(0, num_heads, heads):
                yield _Piece(row, row + 1, head, min(head + heads, num_heads), start, stop, part)
            start, part = stop, part + 1


def _mask_of(piece: _Piece, plan: _Plan, mask_B1LK: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """The piece's additive mask, broadcastable to its scores, or None when every query sees every key."""
    if mask_B1LK is not None:
        rows = slice(piece.first, piece.last) if mask_B1LK.shape[0] > 1 else slice(None)
        heads = slice(piece.head, piece.head_stop) if mask_B1LK.shape[1] > 1 else slice(None)
        positions = slice(piece.start, piece.stop) if plan.ragged else slice(None)
        part = mask_B1LK[rows, heads, positions, positions]
        if part.dtype == torch.bool:
            return torch.zeros(part.shape, dtype=dtype).masked_fill_(~part, torch.finfo(dtype).min)
        return part.to(dtype)
    if not (plan.ragged or plan.ragged_keys) or plan.rows is None:
        return None
    starts = plan.rows.starts[piece.first : piece.last]
    stops = starts + plan.rows.lengths[piece.first : piece.last]
    start, stop = (piece.start, piece.stop) if plan.ragged else (0, plan.rows.width)
    if (starts == start).all() and (stops == stop).all():
        return None
    positions_L = torch.arange(start, stop)
    outside_BL = (positions_L < torch.from_numpy(starts)[:, None]) | (positions_L >= torch.from_numpy(stops)[:, None])
    return torch.zeros(outside_BL.shape, dtype=dtype).masked_fill_(outside_BL, -torch.inf)[:, None, None, :]


def _keep_of(piece: _Piece, plan: _Plan, like_BHLK: torch.Tensor) -> torch.Tensor:
    """The piece's dropout mask, 0 and 1. One stream for every four heads of a row: any cut by heads draws the same."""
    assert plan.rows is not None
    keep_BHLK = torch.empty_like(like_BHLK)
    draws = []
    for offset, row in enumerate(range(piece.first, piece.last)):
        part_HLK = keep_BHLK[offset]
        if piece.part is not None:
            draws += _draws(part_HLK, piece, plan, row, first_stream=piece.part * _STREAMS_OF_PART)
            continue
        if plan.ragged:
            begin, length = int(plan.rows.starts[row]) - piece.start, int(plan.rows.lengths[row])
            if length < part_HLK.shape[1]:
                part_HLK.zero_()  # whatever padding attends to is of no use to anyone
            part_HLK = part_HLK[:, begin : begin + length, begin : begin + length]
        elif plan.ragged_keys:
            begin, length = int(plan.rows.starts[row]), int(plan.rows.lengths[row])
            part_HLK.zero_()
            part_HLK = part_HLK[:, :, begin : begin + length]
        elif plan.num_before:
            begin, length = int(plan.rows.starts[row]), int(plan.rows.lengths[row])
            part_HLK.zero_()
            before, part_HLK = part_HLK[:, begin : begin + length].split([plan.num_before, plan.rows.width], -1)
            draws += _draws(before, piece, plan, row, first_stream=_STREAMS_OF_PREFIX)
            part_HLK = part_HLK[:, :, begin : begin + length]
        draws += _draws(part_HLK, piece, plan, row)
    fill_keep(draws, plan.rows, plan.p)
    return keep_BHLK


def _draws(part_HLK: torch.Tensor, piece: _Piece, plan: _Plan, row: int, *, first_stream: int = 0) -> list[Draw]:
    """Four heads of a row each from a stream of their own."""
    return [
        Draw(
            part_HLK[head : head + HEADS_PER_STREAM],
            row,
            plan.site,
            first_stream + (piece.head + head) // HEADS_PER_STREAM,
        )
        for head in range(0, part_HLK.shape[0], HEADS_PER_STREAM)
    ]


class _RowAttention(torch.autograd.Function):
    """Forward and backward piece by piece. Saves probabilities, before and after dropout, in the computing dtype."""

    @staticmethod
    def forward(ctx, query, key, value, mask, plan):
        dtype = torch.float32 if query.dtype in (torch.bfloat16, torch.float16) else query.dtype
        num_rows, num_heads, num_queries, _ = query.shape
        pieces = list(_pieces(plan, num_rows, num_heads, num_queries, key.shape[2]))
        out_BLHD = value.new_zeros(num_rows, num_queries, num_heads, value.shape[-1])
        kept_for_backward = []
        training = any(ctx.needs_input_grad[:3])
        with torch.autocast(query.device.type, enabled=False):
            for piece in pieces:
                q, k, v = _parts(piece, plan, query, key, value, dtype)
                scores = torch.matmul(q.mul(plan.scale), k.transpose(-1, -2))
                visible = _mask_of(piece, plan, mask, dtype)
                if visible is not None:
                    scores += visible
                probabilities = dropped = torch.softmax(scores, -1)
                if plan.p:
                    dropped = _keep_of(piece, plan, probabilities).mul_(probabilities)
                    v = v * keep_scale(plan.p)
                part = torch.matmul(dropped, v).transpose(1, 2)
                out_BLHD[piece.first : piece.last, piece.start : piece.stop, piece.head : piece.head_stop] = part
                if training:
                    kept_for_backward += [probabilities, dropped]
        if training:
            ctx.save_for_backward(query, key, value, *kept_for_backward)
            ctx.plan, ctx.pieces, ctx.dtype = plan, pieces, dtype
        return out_BLHD

    @staticmethod
    def backward(ctx, grad_BLHD):
        query, key, value, *kept = ctx.saved_tensors
        plan, dtype = ctx.plan, ctx.dtype
        grads = [torch.zeros_like(x) for x in (query, key, value)]
        keep = keep_scale(plan.p) if plan.p else 1.0
        with torch.autocast(query.device.type, enabled=False):
            for piece, probabilities, dropped in zip(ctx.pieces, kept[::2], kept[1::2], strict=True):
                q, k, v = _parts(piece, plan, query, key, value, dtype)
                grad = piece.of(grad_BLHD.transpose(1, 2), dtype).mul(keep)
                # d scores = p * (keep * d dropped) - p * sum(p * keep * d dropped), and p * keep is `dropped`.
                products = torch.matmul(grad, v.transpose(-1, -2)).mul_(dropped)
                d_scores = products.addcmul_(probabilities, products.sum(-1, keepdim=True), value=-1)
                d_query = torch.matmul(d_scores, k).mul_(plan.scale)
                d_key = torch.matmul(d_scores.transpose(-1, -2), q).mul_(plan.scale)
                d_value = torch.matmul(dropped.transpose(-1, -2), grad)
                for total, part, whole in zip(grads, (d_query, d_key, d_value), (False, True, True), strict=True):
                    piece.view(total, whole=whole and not plan.ragged).copy_(part)
        return *grads, None, None


def _parts(
    piece: _Piece, plan: _Plan, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    whole = not plan.ragged
    return piece.of(query, dtype), piece.of(key, dtype, whole=whole), piece.of(value, dtype, whole=whole)
