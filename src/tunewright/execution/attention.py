"""Attention with row-keyed dropout, in plain operations; and which stream of random bits drops which scores, in every execution.

    lengths 9, 4, 12 heads  ->  row 0: stream 0 drops (12, 9, 9) scores        row 1: stream 0 drops (12, 4, 4)
    2,048 tokens, 12 heads  ->  streams 0, 1, 2: four heads each

Registered with transformers as the attention implementation `tunewright_plain`, for models that use `AttentionInterface`. Without
dropout it is transformers' own SDPA.

Shapes: B rows, H heads, L padded length, D features per head, K keys (L, or more with a prefix before the row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunewright.batching.row_context import RowContext, current_row_context
from tunewright.execution.row_dropout import RowDropout, RowsNotFirst, drawn, keep_scale

NAME = "tunewright_plain"
HEADS_TOGETHER = 4
"""Heads are drawn in multiples of four: then their bits are whole words of the generator, whatever the lengths."""
STREAM_ELEMENTS = 768 * 1024
"""One stream draws the dropout of at most this many scores of a row, in whole groups of heads; in a longer row of one group of heads."""
STREAMS_OF_PREFIX = 1 << 15
STREAMS_OF_SEGMENT = 1 << 6
SEGMENT_TOKENS = 64
"""Documents of a packed row form one segment up to this many tokens."""


class UnsupportedAttention(Exception):
    """The model requests something that row attention does not compute."""


_on_call: Callable[[], object] | None = None


@contextmanager
def on_call(callback: Callable[[], object]) -> Iterator[None]:
    """Call back for every row attention computed inside: this shows an equivalence check that the model uses it."""
    global _on_call
    before, _on_call = _on_call, callback
    try:
        yield
    finally:
        _on_call = before


def checked_rows(
    module: nn.Module,
    query: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    asked: dict[str, Any],
    *,
    without_mask: bool = False,
) -> RowContext | None:
    """The rows of this call. Raises UnsupportedAttention or RowsNotFirst for calls that row attention does not support.

    without_mask: causal attention without a mask is supported.
    """
    if _on_call is not None:
        _on_call()
    for name in ("softcap", "s_aux", "position_bias"):
        if asked.get(name) is not None:
            raise UnsupportedAttention(f"attention with {name}")
    rows = current_row_context()
    if rows is not None and rows.batch_size != query.shape[0]:
        raise RowsNotFirst(f"attention sees {query.shape[0]} rows, the micro-batch has {rows.batch_size}")
    if dropout and rows is None:
        raise UnsupportedAttention("dropout outside row_context")
    if without_mask:
        return rows
    if mask is None and query.shape[2] > 1 and asked.get("is_causal", getattr(module, "is_causal", False)):
        raise UnsupportedAttention("causal attention without a mask")
    return rows


def repeated_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values `(B, H, K, D)`, one head for each query head: grouped heads are repeated."""
    groups = query.shape[1] // key.shape[1]
    return (key, value) if groups == 1 else (key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))


@dataclass(frozen=True)
class Segment:
    """Whole documents of a packed row, tokens `[start, start + length)`: the `number`-th segment of the row. Or a whole row."""

    row: int
    number: int
    start: int
    length: int


def segments_of(rows: RowContext) -> Iterator[Segment]:
    """Row by row: neighbouring documents up to `SEGMENT_TOKENS` together, longer ones alone. A row that is not packed is one segment."""
    for row, (begin, whole) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)):
        documents = [whole] if rows.segments is None else rows.segments[row].tolist()
        start, number, length = begin, 0, 0
        for document in documents:
            if length and length + document > SEGMENT_TOKENS:
                yield Segment(row, number, start, length)
                start, number, length = start + length, number + 1, 0
            length += document
        yield Segment(row, number, start, length)


def heads_within(num_scores: int, scores_of_head: int) -> int:
    """The number of heads with at most this many scores: a multiple of four, at least four."""
    return max(1, num_scores // max(1, HEADS_TOGETHER * scores_of_head)) * HEADS_TOGETHER


def register() -> None:
    """Make `attn_implementation="tunewright_plain"` known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, plain_attention)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(**asked: Any) -> torch.Tensor | None:
    """bool `(B, 1, L, K)`: which keys are visible; None if all are."""
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(**{**asked, "allow_is_causal_skip": False})


def plain_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(query keyᵀ · scaling + mask), with dropout, times value. query `(B, H, L, D)` -> `(B, L, H, D)`."""
    rows = checked_rows(module, query, attention_mask, dropout, kwargs)
    if not dropout:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    assert rows is not None
    keep = _keep(module, torch.Size((*query.shape[:3], key.shape[2])), rows, dropout)
    return attend_with_dropout(query, key, value, attention_mask, scaling, keep, dropout), None


def attend_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    keep_BHLK: torch.Tensor,
    dropout: float,
) -> torch.Tensor:
    """Attention `(B, L, H, D)` whose scores are all in memory. keep_BHLK: bool, on any device."""
    key, value = repeated_heads(query, key, value)
    scores_BHLK = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores_BHLK = scores_BHLK.to(torch.promote_types(scores_BHLK.dtype, torch.float32))
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores_BHLK = scores_BHLK.masked_fill(~attention_mask, torch.finfo(scores_BHLK.dtype).min)
    elif attention_mask is not None:
        scores_BHLK = scores_BHLK + attention_mask
    kept_BHLK = functional.softmax(scores_BHLK, -1) * keep_BHLK.to(scores_BHLK) * keep_scale(dropout)
    return (kept_BHLK.to(value.dtype) @ value).transpose(1, 2).contiguous()


def _keep(module: Any, shape_BHLK: torch.Size, rows: RowContext, p: float) -> torch.Tensor:
    """bool. Only a row's own tokens are drawn."""
    keep_BHLK = torch.zeros(shape_BHLK, dtype=torch.bool)
    _, num_heads, num_queries, num_keys = shape_BHLK

    def heads(row: int, first_stream: int, queries: int, keys: int) -> torch.Tensor:
        together = heads_within(STREAM_ELEMENTS, queries * keys)
        parts = [
            drawn(
                rows, (min(together, num_heads - head), queries, keys), row=row, site=module.dropout_site, p=p,
                stream=first_stream + head // HEADS_TOGETHER,
            )
            for head in range(0, num_heads, together)
        ]  # fmt: skip
        return torch.cat(parts)

    if num_queries != rows.width or num_keys < rows.width:
        for row in range(len(rows)):
            keep_BHLK[row] = heads(row, 0, num_queries, num_keys)
        return keep_BHLK
    num_before = num_keys - num_queries
    for one in segments_of(rows):
        own = slice(one.start, one.start + one.length)
        keys = slice(num_before + one.start, num_before + one.start + one.length)
        first_stream = one.number * STREAMS_OF_SEGMENT
        keep_BHLK[one.row, :, own, keys] = heads(one.row, first_stream, one.length, one.length)
        if num_before:
            keep_BHLK[one.row, :, own, :num_before] = heads(one.row, STREAMS_OF_PREFIX, one.length, num_before)
    if getattr(module, "draws_first_query_apart", False) and not (num_before or rows.left_padded):
        _draw_first_query(module, keep_BHLK, rows, heads)
    return keep_BHLK


# The last layer of an encoder whose head reads the first position


def last_layer(model: Any) -> nn.Module | None:
    """The last layer of a BERT-like encoder (BERT, RoBERTa, ELECTRA, XLM-R, CamemBERT), None for any other model."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    last = layers[-1] if layers is not None and len(layers) else None
    parts = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output",
        "intermediate",
        "output",
    )
    try:
        found = last is not None and all(isinstance(last.get_submodule(name), nn.Module) for name in parts)
    except AttributeError:
        return None
    return last if found and not getattr(last, "is_decoder", True) and hasattr(last, "feed_forward_chunk") else None


def mixes_states(attention: Any) -> bool:
    """Whether the layer's keys and values are linear in its states, so that a single query needs neither."""
    return type(attention.key) is type(attention.value) is nn.Linear


def _draw_first_query(
    attention: Any, keep_BHLK: torch.Tensor, rows: RowContext, heads: Callable[[int, int, int, int], torch.Tensor]
) -> None:
    """The mask of the only query whose result is used, drawn separately: an execution need not draw the others."""
    dropout: RowDropout = attention.dropout
    for row, length in enumerate(rows.lengths.tolist()):
        if mixes_states(attention):
            shape = (length, keep_BHLK.shape[1])
            first_HK = drawn(rows, shape, row=row, site=dropout.site, p=dropout.p).T
        else:
            first_HK = heads(row, 0, 1, length)[:, 0]
        keep_BHLK[row, :, 0, :length] = first_HK
