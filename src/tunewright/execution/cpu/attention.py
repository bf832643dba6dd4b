"""Attention on a CPU, row by row at real lengths, in pieces that stay in the cache.

Registered with transformers as the attention implementation `tunewright`, for models that use `AttentionInterface`: BERT, RoBERTa,
GPT-2, Llama, Qwen and others. It is faster with dropout for two reasons: the scores of a few rows at a time stay in the cache, and
hardly any padding is computed. Dropout masks belong to rows (`execution/row_dropout.py`).

    rows of 248, 246, 31, 30 tokens, 12 heads  ->  pieces [248] [246] [31 30]

Shapes: B rows, H heads, L padded length, D features per head, K keys (L, or more with a prefix before the row).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunewright.batching.row_context import current_row_context
from tunewright.execution.attention import UnsupportedAttention, checked_rows, repeated_heads
from tunewright.execution.cpu.pieces import AttentionCall, Block, Blocks
from tunewright.execution.cpu.segments import SegmentLayout, Segments
from tunewright.execution.cpu.shape_buckets import shape_positions
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.cpu.workspace import in_dtype, scratch
from tunewright.execution.row_dropout import keep_scale

NAME = "tunewright"


def register() -> None:
    """Make `attn_implementation="tunewright"` known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, row_attention)
    AttentionMaskInterface.register(NAME, row_mask)


@dataclass(frozen=True)
class DeferredMask:
    """A model's mask, computed only where it is needed. marker takes its place in calls: a tensor of its shape without memory."""

    marker: torch.Tensor
    visible: Any

    def at(self, row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """bool, in the broadcast shape of the indices: whether the query of that row sees the key."""
        shape = torch.broadcast_shapes(row.shape, query.shape, key.shape)
        # Not broadcast before the call: what the function looks up per position would be looked up per pair of positions.
        return self.visible(row, torch.zeros_like(row), query, key).expand(shape)


def row_mask(
    *, mask_function: Any, attention_mask: torch.Tensor | None = None, q_length: int, kv_length: int, **kwargs: Any
) -> torch.Tensor | None:
    """The additive mask `(B, 1, L, K)`, or None if the row context determines it (plain padding).

    For unpadded rows, whose mask would have the size of all their tokens squared, its marker.
    """
    from transformers.masking_utils import bidirectional_mask_function, eager_mask

    rows = current_row_context()
    if rows is not None and q_length == kv_length == rows.width:
        if mask_function is bidirectional_mask_function and kwargs.get("allow_is_bidirectional_skip"):
            return None
        if isinstance(rows, UnpaddedRows) and attention_mask is None and not kwargs.get("use_vmap"):
            marker = torch.zeros(1, dtype=torch.bool).expand(1, 1, q_length, kv_length)
            rows.cache["mask", marker.data_ptr()] = DeferredMask(marker, mask_function)
            return marker
    if isinstance(rows, UnpaddedRows):
        raise UnsupportedAttention("a mask of rows end to end that cannot be computed row by row")
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
    """softmax(query keyᵀ · scaling + mask), with dropout, times value. query `(B, H, L, D)` -> `(B, L, H, D)`.

    Scores and probabilities are fp32 if the inputs have half precision, otherwise they have the inputs' dtype.
    """
    rows = checked_rows(module, query, attention_mask, dropout, kwargs)
    key, value = repeated_heads(query, key, value)
    if isinstance(rows, UnpaddedRows) and not query.shape[2] == key.shape[2] == rows.width:
        raise UnsupportedAttention("queries or keys that are not those of the rows end to end")
    call = AttentionCall(
        rows=rows,
        # With a prefix or a cache before the rows they are computed with their padding; the mask says what is visible.
        ragged=rows is not None and query.shape[2] == key.shape[2] == rows.width,
        num_before=0 if rows is None or query.shape[2] != rows.width else key.shape[2] - rows.width,
        # One query that sees every real key: `execution/cpu/cls_only_last_layer.py`.
        ragged_keys=rows is not None and query.shape[2] == 1 and attention_mask is None and key.shape[2] == rows.width,
        site=getattr(module, "dropout_site", 0),
        p=dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        multiple=shape_positions(value.dtype, value.device),
    )
    return _RowAttention.apply(query, key, value, attention_mask, call), None


class _RowAttention(torch.autograd.Function):
    """Forward and backward piece by piece.

    Keeps one number per score: its probability, negative where dropout keeps it. With bf16 inputs scores and their gradients are
    computed in fp32, and the four products with probabilities or gradients of scores as factors in bf16 (as in FlashAttention,
    Dao et al. 2022).
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, call):
        dtype = torch.float32 if query.dtype in (torch.bfloat16, torch.float16) else query.dtype
        # With a single query (a first position, a token being generated) each number of keys would be another product to compile.
        factors = value.dtype if value.dtype == torch.bfloat16 and query.shape[2] > 1 else dtype
        ctx.given = [(x.shape, x.dtype) for x in (query, key, value)]
        layout = layout_of(call, query.shape, key.shape[2])
        out_shape = (*query.shape[:3], value.shape[3])
        query, key, value = (layout.gathered(x) for x in (query, key, value))
        out = layout.output_buffer(out_shape, value.dtype, factors, _RESULT)
        pieces: Sequence[Block | Segments] = layout.pieces
        tiles_of_pieces = [piece.tiles(call, mask, dtype) for piece in pieces]
        kept_for_backward = []
        training = any(ctx.needs_input_grad[:3])
        with torch.autocast(query.device.type, enabled=False):
            parts = zip(
                pieces,
                tiles_of_pieces,
                layout.parts(query, dtype, _QUERY),
                layout.parts(key, dtype, _KEY, keys=True),
                layout.parts(value, factors, _VALUE, keys=True),
                strict=True,
            )
            for number, (piece, tiles, q, k, v) in enumerate(parts):
                result = out.slot(number)
                for tile in tiles:
                    queries, keys = tile.queries_of(q), tile.keys_of(k)
                    scores = scratch(_SCORES, (len(q), queries.shape[1], keys.shape[1]), dtype)
                    _multiply(queries, keys.transpose(1, 2), scores, factor=call.scale)
                    piece.hide(call, mask, scores, tile)
                    probabilities = torch.softmax(scores, -1, out=scores)
                    if training or call.p:
                        kept = _signed(probabilities, piece, call, factors)
                    else:
                        kept = in_dtype(factors, probabilities, _DROPPED)
                    _multiply(_dropped(kept, call), tile.keys_of(v), tile.queries_of(result), factor=_kept_factor(call))
                    if training:
                        kept_for_backward.append(kept)
                out.commit(number)
        whole = out.assemble().transpose(1, 2)
        if kept_for_backward:
            if factors.itemsize < dtype.itemsize:  # later only the factors of products are needed
                query, key = query.to(factors), key.to(factors)
            ctx.save_for_backward(query, key, value, whole, *kept_for_backward)
            ctx.call, ctx.layout, ctx.tiles_of_pieces, ctx.dtypes = call, layout, tiles_of_pieces, (dtype, factors)
        return whole

    @staticmethod
    def backward(ctx, grad_BLHD):
        query, key, value, out_BLHD, *kept_for_backward = ctx.saved_tensors
        layout, call, (dtype, factors) = ctx.layout, ctx.call, ctx.dtypes
        out, grad = (layout.gathered(x_BLHD.transpose(1, 2)) for x_BLHD in (out_BLHD, grad_BLHD))
        d_query, d_key, d_value = (
            layout.output_buffer(shape, as_given, factors, slot, keys=slot != _RESULT)
            for (shape, as_given), slot in zip(ctx.given, (_RESULT, _OF_KEY, _OF_VALUE), strict=True)
        )
        sign = -1.0 if call.p else 1.0
        with torch.autocast(query.device.type, enabled=False):
            parts = zip(
                layout.parts(query, factors, _QUERY),
                layout.parts(key, factors, _KEY, keys=True),
                layout.parts(value, dtype, _VALUE, keys=True),
                layout.parts(out, dtype, _OUT),
                layout.parts(grad, dtype, _GRAD),
                layout.parts(grad, factors, _GRAD_FACTOR),
                ctx.tiles_of_pieces,
                strict=True,
            )
            all_kept = iter(kept_for_backward)
            for number, (q, k, v, o, d_out, d_out_factor, tiles) in enumerate(parts):
                sums_NW1 = torch.sum(o * d_out, -1, keepdim=True).mul_(-sign * call.scale)
                d_q, d_k, d_v = d_query.slot(number), d_key.slot(number), d_value.slot(number)
                add = False
                for tile, kept in reversed([(tile, next(all_kept)) for tile in tiles]):
                    dropped = _dropped(kept, call)
                    d_scores = _to_d_scores(
                        kept, dropped, tile.queries_of(d_out), tile.keys_of(v), tile.queries_of(sums_NW1), call
                    )
                    d_scores = in_dtype(factors, d_scores, _CAST)
                    _multiply(d_scores, tile.keys_of(k), tile.queries_of(d_q), factor=sign)
                    _multiply(d_scores.transpose(1, 2), tile.queries_of(q), tile.keys_of(d_k), factor=sign, add=add)
                    _multiply(
                        dropped.transpose(1, 2), tile.queries_of(d_out_factor), tile.keys_of(d_v),
                        factor=_kept_factor(call), add=add,
                    )  # fmt: skip
                    add = True  # the last tile sees all keys
                d_query.commit(number)
                d_key.commit(number)
                d_value.commit(number)
        return d_query.assemble(), d_key.assemble(), d_value.assemble(), None, None


# Slots of scratch memory.
(
    _QUERY, _KEY, _VALUE, _OUT, _GRAD, _GRAD_FACTOR, _SCORES, _PROBABILITIES, _DROPPED, _RESULT, _OF_KEY,
    _OF_VALUE, _KEEP, _CAST,
) = range(14)  # fmt: skip
_BITS_OF = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def layout_of(call: AttentionCall, shape_BHLD: Sequence[int], num_keys: int) -> Blocks | SegmentLayout:
    """The pieces that one call computes. For packed and unpadded rows they are the same in every layer, and determined once."""
    num_rows, num_heads, num_queries, _ = shape_BHLD
    if not call.ragged or call.rows is None or not (isinstance(call.rows, UnpaddedRows) or call.rows.segments):
        return Blocks(call, num_rows, num_heads, num_queries, num_keys)
    cache, key = call.rows.cache, ("layout", num_heads, call.multiple)
    if key not in cache:
        cache[key] = SegmentLayout(call.rows, num_heads, call.multiple)
    return cache[key]


def _multiply(
    a_NWX: torch.Tensor, b_NXV: torch.Tensor, out_NWV: torch.Tensor, factor: float = 1.0, *, add: bool = False
) -> None:
    """out = factor · a b, or out += factor · a b."""
    torch.baddbmm(out_NWV, a_NWX, b_NXV, beta=int(add), alpha=factor, out=out_NWV)


def _signed(
    probabilities_NWK: torch.Tensor, piece: Block | Segments, call: AttentionCall, dtype: torch.dtype
) -> torch.Tensor:
    """The probabilities, negative where dropout keeps them, in `dtype` and in new memory. Without dropout none is negative."""
    if not call.p:
        return probabilities_NWK.to(dtype, copy=True)
    if dtype.itemsize > 2:
        keep = piece.keep(call, scratch(_KEEP, probabilities_NWK.shape, dtype))
        return torch.addcmul(probabilities_NWK, probabilities_NWK, keep, value=-2)
    signed = probabilities_NWK.to(dtype)
    keep = piece.keep(call, scratch(_KEEP, signed.shape, torch.int16))
    signed.view(torch.int16).add_(keep, alpha=torch.iinfo(torch.int16).min)  # sets the sign bit
    return signed


def _dropped(signed_NWK: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """The probabilities that dropout keeps, the others 0, with the signs of `_signed`. Not scaled."""
    if not call.p:
        return signed_NWK
    bits = _BITS_OF[signed_NWK.element_size()]  # as integers these are negative for negative numbers
    dropped = scratch(_DROPPED, signed_NWK.shape, signed_NWK.dtype)
    torch.clamp_max(signed_NWK.view(bits), 0, out=dropped.view(bits))
    return dropped


def _to_d_scores(
    kept_NWK: torch.Tensor,
    dropped_NWK: torch.Tensor,
    d_out_NWV: torch.Tensor,
    values_NKV: torch.Tensor,
    sums_NW1: torch.Tensor,
    call: AttentionCall,
) -> torch.Tensor:
    """The scores' gradient times the call's scale, with the sign of what is kept; in scratch memory, in the dtype of the values.

    With probabilities p it is dropped · d dropped - p · sum(dropped · d dropped), and that sum is out · d out (Dao et al. 2022,
    appendix B.4). sums: the negative sum, times scale and sign.
    """
    dtype = values_NKV.dtype
    d_scores_NWK = scratch(_SCORES, kept_NWK.shape, dtype)
    values_NVK = values_NKV.transpose(1, 2)
    if not call.p:
        torch.baddbmm(sums_NW1, d_out_NWV, values_NVK, alpha=call.scale, out=d_scores_NWK)
        return d_scores_NWK.mul_(in_dtype(dtype, kept_NWK, _CAST))
    _multiply(d_out_NWV, values_NVK, d_scores_NWK, factor=-_kept_factor(call) * call.scale)
    d_scores_NWK.mul_(in_dtype(dtype, dropped_NWK, _CAST))
    probabilities_NWK = in_dtype(dtype, kept_NWK, _PROBABILITIES)
    torch.abs(probabilities_NWK, out=scratch(_PROBABILITIES, kept_NWK.shape, dtype))
    return d_scores_NWK.addcmul_(scratch(_PROBABILITIES, kept_NWK.shape, dtype), sums_NW1)


def _kept_factor(call: AttentionCall) -> float:
    """The factor of `_dropped`: the scale of what is kept, and its sign."""
    return -keep_scale(call.p) if call.p else 1.0
