"""The pieces that row attention computes at a time: their scores fit into the second-level cache.

    rows of 248, 246, 31, 30 tokens          Block of row 0, Block of row 1, Block of rows 2 and 3
    packed rows [40 20 | 260] [50 9 | 33]    Segments of 60, 59 and 33 tokens, Segments of 260
    unpadded rows 248, 246, 31, 30           Segments of 248, Segments of 246, Segments of 31 and 30

A Block is cut out of a padded micro-batch; Segments (`execution/cpu/segments.py`) are gathered from packed rows, or from rows end to end.

Shapes: B rows, H heads, L padded length, D features per head, K keys; N products of a piece, one for each of its rows and heads,
of W positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tunewright.batching.padding import rounded_up
from tunewright.batching.row_context import RowContext
from tunewright.execution.attention import HEADS_TOGETHER, STREAM_ELEMENTS, STREAMS_OF_PREFIX, heads_within
from tunewright.execution.cpu.dropout import Draw, fill_keep
from tunewright.execution.cpu.workspace import scratch

PIECE_ELEMENTS = 768 * 1024  # scores held at a time: 3 MB in fp32


@dataclass(frozen=True)
class AttentionCall:
    """The settings common to all pieces of one call of attention."""

    rows: RowContext | None
    ragged: bool
    """Rows are computed at their real lengths; otherwise with their padding, and the mask says what is visible."""
    num_before: int
    """Keys of a prefix, seen by every row before its own."""
    ragged_keys: bool
    """Keys are visible at the real lengths of their rows, and there is no mask that says so."""
    site: int
    p: float
    scale: float
    multiple: int = 1
    """Pieces are padded to a multiple of this many positions, if rows are computed at their real lengths."""


@dataclass(frozen=True)
class Tile:
    """Queries `[first, stop)` of a piece, and keys `[0, num_keys)`, which include all that any of them sees. None: to the end."""

    first: int = 0
    stop: int | None = None
    num_keys: int | None = None

    def queries_of(self, x_NWX: torch.Tensor) -> torch.Tensor:
        return x_NWX if self is WHOLE else x_NWX[:, self.first : self.stop]

    def keys_of(self, x_NWX: torch.Tensor) -> torch.Tensor:
        return x_NWX if self.num_keys is None else x_NWX[:, : self.num_keys]


WHOLE = Tile()


def _blocks(call: AttentionCall, num_rows: int, num_heads: int, num_queries: int, num_keys: int) -> Iterator[Block]:
    """Neighbouring rows together, long rows by groups of heads."""
    if call.ragged and call.rows is not None:
        spans = [
            (start, min(num_queries, start + rounded_up(length, call.multiple)))
            for start, length in zip(call.rows.starts.tolist(), call.rows.lengths.tolist(), strict=True)
        ]
    else:
        spans = [(0, num_queries)] * num_rows
    extra_keys = num_keys - num_queries
    first = 0
    while first < num_rows:
        start, stop = spans[first]
        last = first + 1
        while last < num_rows:
            wide_start, wide_stop = min(start, spans[last][0]), max(stop, spans[last][1])
            width = wide_stop - wide_start
            if (last + 1 - first) * num_heads * width * (width + extra_keys) > PIECE_ELEMENTS:
                break
            start, stop, last = wide_start, wide_stop, last + 1
        for heads in groups_of_heads(num_heads, (stop - start) * (stop - start + extra_keys)):
            yield Block(first, last, *heads, start, stop)
        first = last


def groups_of_heads(num_heads: int, scores_of_head: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of heads whose scores fit."""
    together = heads_within(PIECE_ELEMENTS, scores_of_head)
    for head in range(0, num_heads, together):
        yield head, min(head + together, num_heads)


@dataclass(frozen=True)
class Block:
    """Rows `[first, last)`, heads `[head, head_stop)`, positions `[start, stop)` of a padded micro-batch."""

    first: int
    last: int
    head: int
    head_stop: int
    start: int
    stop: int

    def of(self, x_BHLD: torch.Tensor, *, whole: bool = False) -> torch.Tensor:
        """The part of x for this piece. whole: all positions (keys with a prefix before them)."""
        part = x_BHLD[self.first : self.last, self.head : self.head_stop]
        return part if whole else part[:, :, self.start : self.stop]

    def _apart(self, scores_NLK: torch.Tensor) -> torch.Tensor:
        return scores_NLK.unflatten(0, (self.last - self.first, self.head_stop - self.head))

    def tiles(self, call: AttentionCall, mask_B1LK: torch.Tensor | None, dtype: torch.dtype) -> list[Tile]:
        """The whole piece."""
        return [WHOLE]

    def hide(self, call: AttentionCall, mask_B1LK: torch.Tensor | None, scores_NLK: torch.Tensor, tile: Tile) -> None:
        """Add the mask to this piece's scores."""
        visible = self._mask(call, mask_B1LK, scores_NLK.dtype)
        if visible is not None:
            self._apart(scores_NLK).add_(visible)

    def _mask(self, call: AttentionCall, mask_B1LK: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
        """The additive mask, broadcastable to the scores, or None when every query sees every key."""
        if mask_B1LK is not None:
            rows = slice(self.first, self.last) if mask_B1LK.shape[0] > 1 else slice(None)
            heads = slice(self.head, self.head_stop) if mask_B1LK.shape[1] > 1 else slice(None)
            positions = slice(self.start, self.stop) if call.ragged else slice(None)
            return additive(mask_B1LK[rows, heads, positions, positions], dtype)
        if not (call.ragged or call.ragged_keys) or call.rows is None:
            return None
        starts = call.rows.starts[self.first : self.last]
        stops = starts + call.rows.lengths[self.first : self.last]
        start, stop = (self.start, self.stop) if call.ragged else (0, call.rows.width)
        if (starts == start).all() and (stops == stop).all():
            return None
        places_L = np.arange(start, stop)
        outside_BL = torch.from_numpy((places_L < starts[:, None]) | (places_L >= stops[:, None]))
        return torch.zeros(outside_BL.shape, dtype=dtype).masked_fill_(outside_BL, -torch.inf)[:, None, None, :]

    def keep(self, call: AttentionCall, keep_NLK: torch.Tensor) -> torch.Tensor:
        """The dropout mask, 0 and 1, written into `keep_NLK`. Streams belong to rows and heads: any cut draws the same."""
        assert call.rows is not None
        draws = []
        for row, part_HLK in zip(range(self.first, self.last), self._apart(keep_NLK), strict=True):
            begin, length = int(call.rows.starts[row]), int(call.rows.lengths[row])
            if call.ragged:
                begin -= self.start
                if length < part_HLK.shape[1]:
                    part_HLK.zero_()  # the output of padding is not used
                part_HLK = part_HLK[:, begin : begin + length, begin : begin + length]
            elif call.ragged_keys:
                part_HLK.zero_()
                part_HLK = part_HLK[:, :, begin : begin + length]
            elif call.num_before:
                part_HLK.zero_()
                before, part_HLK = part_HLK[:, begin : begin + length].split([call.num_before, call.rows.width], -1)
                draws += draws_of(before, call, row, self.head, first_stream=STREAMS_OF_PREFIX)
                part_HLK = part_HLK[:, :, begin : begin + length]
            draws += draws_of(part_HLK, call, row, self.head)
        fill_keep(draws, call.rows, call.p)
        return keep_NLK


class Blocks:
    """A padded micro-batch, block by block. Only the input is kept; the parts of a block are valid until the next is requested."""

    def __init__(self, call: AttentionCall, num_rows: int, num_heads: int, num_queries: int, num_keys: int) -> None:
        self.pieces = list(_blocks(call, num_rows, num_heads, num_queries, num_keys))
        self._keys_whole = not call.ragged

    def gathered(self, x_BHLD: torch.Tensor) -> torch.Tensor:
        """The argument of `parts`: x itself."""
        return x_BHLD

    def parts(
        self, x_BHLD: torch.Tensor, dtype: torch.dtype, slot: int, *, keys: bool = False
    ) -> Iterator[torch.Tensor]:
        """The `(N, W, D)` of every block, in scratch memory."""
        for block in self.pieces:
            part = block.of(x_BHLD, whole=keys and self._keys_whole)
            yield scratch(slot, part.shape, dtype).copy_(part).flatten(0, 1)

    def output_buffer(
        self, shape_BHLD: Sequence[int], dtype: torch.dtype, computed: torch.dtype, slot: int, *, keys: bool = False
    ) -> _BlockOutput:
        """A buffer in which blocks are assembled to a tensor of that shape."""
        blocks = [(block, keys and self._keys_whole) for block in self.pieces]
        return _BlockOutput(blocks, shape_BHLD, dtype, computed, slot)


class _BlockOutput:
    """Blocks are computed in scratch memory and copied into the result."""

    def __init__(
        self,
        blocks: list[tuple[Block, bool]],
        shape_BHLD: Sequence[int],
        dtype: torch.dtype,
        computed: torch.dtype,
        slot: int,
    ) -> None:
        num_rows, num_heads, length, width = shape_BHLD
        # The memory layout of queries, keys and values that a linear layer computed: (B, L, H, D).
        self._output_BHLD = torch.zeros(num_rows, length, num_heads, width, dtype=dtype).transpose(1, 2)
        self._blocks, self._computed, self._scratch_slot = blocks, computed, slot

    def slot(self, number: int) -> torch.Tensor:
        """Where the `(N, W, D)` of a piece is to be written."""
        self._written_BHLD = scratch(self._scratch_slot, self._part(number).shape, self._computed)
        return self._written_BHLD.flatten(0, 1)

    def commit(self, number: int) -> None:
        """The content of the slot is the result of the piece."""
        self._part(number).copy_(self._written_BHLD)

    def assemble(self) -> torch.Tensor:
        """`(B, H, L, D)`, with the memory layout `(B, L, H, D)`."""
        return self._output_BHLD

    def _part(self, number: int) -> torch.Tensor:
        block, whole = self._blocks[number]
        return block.of(self._output_BHLD, whole=whole)


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as numbers to add; a boolean one says what is visible."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
    return mask.to(dtype)


def draws_of(
    part_HLK: torch.Tensor, call: AttentionCall, row: int, first_head: int, *, first_stream: int = 0
) -> list[Draw]:
    """The draws of heads `[first_head, first_head + H)`. Which heads share a stream depends only on the row's own length."""
    scores_of_head = part_HLK.shape[1] * part_HLK.shape[2]
    together = heads_within(STREAM_ELEMENTS, scores_of_head)
    stop, draws = first_head + part_HLK.shape[0], []
    for head in range(first_head // together * together, stop, together):
        begin, end = max(head, first_head), min(head + together, stop)
        part = part_HLK[begin - first_head : end - first_head]
        draws.append(Draw(part, row, call.site, first_stream + head // HEADS_TOGETHER, (begin - head) * scores_of_head))
    return draws
