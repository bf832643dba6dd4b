"""Packed rows and rows end to end as attention computes them: segments of tokens that see each other.

Packed rows contain documents that do not see each other: segments of whole documents are gathered from all rows, those of similar
length together, so that many short documents need one product instead of one each. With rows end to end, each row is a segment.

    layout = SegmentLayout(rows, num_heads, multiple=8)
    for piece, q in zip(layout.pieces, layout.parts(layout.gathered(query), torch.float32, slot=0)): ...

The segments are the same in every layer; queries, keys and values are each reordered for all pieces in one operation.

Shapes: B rows, H heads, L padded length, D features per head, S segments, W the longest of them; N = S H, R all rows of all
pieces, a row being one head of one token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from tunewright.batching.padding import rounded_up
from tunewright.batching.row_context import RowContext
from tunewright.execution import attention as streams
from tunewright.execution.attention import STREAMS_OF_SEGMENT, Segment, segments_of
from tunewright.execution.cpu import pieces
from tunewright.execution.cpu.dropout import fill_keep
from tunewright.execution.cpu.pieces import WHOLE, AttentionCall, Tile, additive, draws_of, groups_of_heads
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.cpu.workspace import in_dtype

_TILE_QUERIES = 128
"""This many queries of a segment are computed together, without the keys that none of them sees."""
_LIKE = 0.75
"""Segments longer than `SEGMENT_TOKENS` are computed together if the shortest has at least this share of the longest one's length."""


def _gathered(rows: RowContext, num_heads: int, multiple: int) -> Iterator[Segments]:
    """Segments of similar length together, the longest first."""
    group: list[Segment] = []
    for segment in sorted(segments_of(rows), key=lambda one: -one.length):
        longest = group[0].length if group else segment.length
        fits = (len(group) + 1) * num_heads * longest**2 <= pieces.PIECE_ELEMENTS
        if group and not (fits and max(segment.length, streams.SEGMENT_TOKENS) >= _LIKE * longest):
            yield from _piece_of(group, rows, num_heads, multiple)
            group = []
        group.append(segment)
    yield from _piece_of(group, rows, num_heads, multiple)


def _piece_of(group: list[Segment], rows: RowContext, num_heads: int, multiple: int) -> Iterator[Segments]:
    length = rounded_up(group[0].length, multiple)
    for heads in groups_of_heads(num_heads, len(group) * length**2):
        yield Segments(tuple(group), *heads, length, rows.width, isinstance(rows, UnpaddedRows))


@dataclass(frozen=True)
class Segments:
    """Segments of packed or unpadded rows, heads `[head, head_stop)`; those shorter than `length` are padded on the right with zeros."""

    segments: tuple[Segment, ...]
    head: int
    head_stop: int
    length: int
    width: int
    end_to_end: bool
    rows_S: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: the row of the tensors that contains each."""
    places_SW: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: the position of each token in its row; for padding, that of the last token."""
    real_SW: torch.Tensor = field(init=False, repr=False, compare=False)
    masks: list[tuple[torch.Tensor, bool, dict[Tile, torch.Tensor]]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )
    """The mask of an earlier layer, whether pieces were whole, and its parts for these segments, tile by tile."""

    def __post_init__(self) -> None:
        lengths_S1 = torch.tensor([[one.length] for one in self.segments])
        rows_S = torch.tensor([0 if self.end_to_end else one.row for one in self.segments])
        steps_W = torch.arange(self.length)
        places_SW = torch.tensor([[one.start] for one in self.segments]) + torch.minimum(steps_W, lengths_S1 - 1)
        real_SW = steps_W < lengths_S1
        for name, value in {"rows_S": rows_S, "places_SW": places_SW, "real_SW": real_SW}.items():
            object.__setattr__(self, name, value)

    @property
    def num_products(self) -> int:
        """N."""
        return len(self.segments) * (self.head_stop - self.head)

    def rows_of(self, num_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 and bool `(N W,)`: the heads of tokens in it, as `token · num_heads + head`, and which of them are real."""
        tokens_SW = self.rows_S[:, None] * self.width + self.places_SW
        rows_SHW = tokens_SW[:, None] * num_heads + torch.arange(self.head, self.head_stop)[:, None]
        return rows_SHW.flatten(), self.real_SW[:, None].expand_as(rows_SHW).flatten()

    @property
    def _is_padded(self) -> bool:
        return self.segments[-1].length < self.length

    def tiles(self, call: AttentionCall, mask_B1LK: torch.Tensor | None, dtype: torch.dtype) -> list[Tile]:
        """Queries that see no later keys are computed without them. With dropout the mask of the whole piece is drawn."""
        return [WHOLE] if mask_B1LK is None else list(self._masks(call, mask_B1LK, dtype))

    def hide(self, call: AttentionCall, mask_B1LK: torch.Tensor | None, scores_NWK: torch.Tensor, tile: Tile) -> None:
        """Add the mask to the scores of these segments, and hide padded keys."""
        scores_SHWK = self._apart(scores_NWK)
        if mask_B1LK is not None:
            scores_SHWK += self._masks(call, mask_B1LK, scores_NWK.dtype)[tile]
            return
        assert self.end_to_end, "packed rows come with a mask: documents of a segment do not see each other"
        for one, part_HWW in zip(self.segments, scores_SHWK, strict=True):
            if one.length < self.length:
                part_HWW[..., one.length :] = torch.finfo(scores_NWK.dtype).min

    def _apart(self, scores_NWW: torch.Tensor) -> torch.Tensor:
        return scores_NWW.unflatten(0, (len(self.segments), self.head_stop - self.head))

    def _masks(self, call: AttentionCall, mask_B1LK: torch.Tensor, dtype: torch.dtype) -> dict[Tile, torch.Tensor]:
        """The tiles to compute, and what to add to the scores of each: `(S, 1, queries, keys)`, or one for every head."""
        whole = call.p > 0
        for seen, were_whole, said in self.masks:
            if seen is mask_B1LK and were_whole == whole:
                return said
        mask_S1WW = additive(self._part_of(call, mask_B1LK), dtype)
        if self._is_padded:
            mask_S1WW = mask_S1WW.masked_fill(~self.real_SW[:, None, None, :], torch.finfo(dtype).min)
        tiles = [WHOLE] if whole else _tiles(mask_S1WW)
        said = {tile: mask_S1WW[:, :, tile.first : tile.stop, : tile.num_keys] for tile in tiles}
        self.masks.append((mask_B1LK, whole, said))
        return said

    def _part_of(self, call: AttentionCall, mask_B1LK: torch.Tensor) -> torch.Tensor:
        """`(S, 1, W, W)`, or one for every head."""
        assert call.rows is not None
        rows_S11 = (self.rows_S if mask_B1LK.shape[0] > 1 else torch.zeros_like(self.rows_S))[:, None, None]
        queries_SW1, keys_S1W = self.places_SW[:, :, None], self.places_SW[:, None, :]
        if (deferred := call.rows.cache.get(("mask", mask_B1LK.data_ptr()))) is not None:
            return deferred.at(rows_S11[:, None], queries_SW1[:, None], keys_S1W[:, None])
        heads = slice(self.head, self.head_stop) if mask_B1LK.shape[1] > 1 else slice(None)
        return mask_B1LK[rows_S11, heads, queries_SW1, keys_S1W].permute(0, 3, 1, 2)

    def keep(self, call: AttentionCall, keep_NWW: torch.Tensor) -> torch.Tensor:
        """The dropout mask, 0 and 1, written into `keep_NWW`. Streams are numbered by row and segment, whatever other segments are in the piece."""
        assert call.rows is not None
        draws = []
        for one, part_HWW in zip(self.segments, self._apart(keep_NWW), strict=True):
            if one.length < self.length:
                part_HWW[:, :, one.length :] = 0
                part_HWW[:, one.length :] = 0
            stream = one.number * STREAMS_OF_SEGMENT
            part_HLL = part_HWW[:, : one.length, : one.length]
            draws += draws_of(part_HLL, call, one.row, self.head, first_stream=stream)
        fill_keep(draws, call.rows, call.p)
        return keep_NWW


def _tiles(mask_SHWW: torch.Tensor) -> list[Tile]:
    """Queries in groups of `_TILE_QUERIES`, each without the keys after the last one that any of them sees; the last tile has all keys."""
    length = mask_SHWW.shape[-1]
    if length <= _TILE_QUERIES:
        return [WHOLE]
    seen_XWW = (mask_SHWW > torch.finfo(mask_SHWW.dtype).min).flatten(0, 1)
    if not seen_XWW.any(-1).all():
        return [WHOLE]  # a query that sees no key attends to all of them equally
    seen_WW = seen_XWW.any(0)
    tiles = []
    for first in range(0, length, _TILE_QUERIES):
        num_seen = int(seen_WW[first : first + _TILE_QUERIES].any(0).nonzero()[-1]) + 1
        last = first + _TILE_QUERIES >= length
        tiles.append(Tile(first, None if last else first + _TILE_QUERIES, None if last else num_seen))
    return [WHOLE] if tiles[0].num_keys in (None, length) else tiles


class SegmentLayout:
    """All pieces of packed or unpadded rows, and how queries, keys and values are reordered for them and back.

    It has the same methods as `Blocks`; `keys` and the slot of an output buffer are used only there, where there may be more keys than
    queries and pieces are copied.
    """

    def __init__(self, rows: RowContext, num_heads: int, multiple: int) -> None:
        self.pieces = list(_gathered(rows, num_heads, multiple))
        self._sizes = [piece.num_products * piece.length for piece in self.pieces]
        found = [piece.rows_of(num_heads) for piece in self.pieces]
        self._rows_R, real_R = (torch.cat(parts) for parts in zip(*found, strict=True))
        self._padding = (~real_R).nonzero()[:, 0]
        # The position of each head of each token after reordering; those in no segment come after all others.
        self._back = torch.full((rows.batch_size * rows.width * num_heads,), len(self._rows_R))
        self._back[self._rows_R[real_R]] = real_R.nonzero()[:, 0]

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self._rows_R)

    def gathered(self, x_BHLD: torch.Tensor) -> torch.Tensor:
        """`(R, D)`, piece after piece, zeros in the padding."""
        rows_RD = x_BHLD.transpose(1, 2).reshape(-1, x_BHLD.shape[3]).index_select(0, self._rows_R)
        return rows_RD.index_fill_(0, self._padding, 0) if len(self._padding) else rows_RD

    def parts(self, rows_RD: torch.Tensor, dtype: torch.dtype, slot: int, *, keys: bool = False) -> list[torch.Tensor]:
        """The `(N, W, D)` of every piece."""
        return self.split(in_dtype(dtype, rows_RD, slot))

    def split(self, rows_RD: torch.Tensor) -> list[torch.Tensor]:
        """Views `(N, W, D)` of the rows of each piece."""
        parts = rows_RD.split(self._sizes)
        return [part.view(piece.num_products, piece.length, -1) for piece, part in zip(self.pieces, parts, strict=True)]

    def output_buffer(
        self, shape_BHLD: Sequence[int], dtype: torch.dtype, computed: torch.dtype, slot: int, *, keys: bool = False
    ) -> _SegmentOutput:
        """A buffer in which pieces are assembled to a tensor of that shape."""
        return _SegmentOutput(self, shape_BHLD, dtype, computed)

    def back(self, rows_RD: torch.Tensor, shape_BHLD: Sequence[int]) -> torch.Tensor:
        """`(B, H, L, D)` from `(R + 1, D)`, whose last row is used for what is in no piece; with the memory layout `(B, L, H, D)`."""
        num_rows, num_heads, length, width = shape_BHLD
        return rows_RD.index_select(0, self._back).view(num_rows, length, num_heads, width).transpose(1, 2)


class _SegmentOutput:
    """Pieces are written directly into the result."""

    def __init__(
        self, layout: SegmentLayout, shape_BHLD: Sequence[int], dtype: torch.dtype, computed: torch.dtype
    ) -> None:
        self._layout, self._shape_BHLD, self._dtype = layout, shape_BHLD, dtype
        self._rows_RD = torch.empty(layout.num_rows + 1, shape_BHLD[3], dtype=computed)
        self._rows_RD[-1] = 0
        self._parts = layout.split(self._rows_RD[:-1])

    def slot(self, number: int) -> torch.Tensor:
        return self._parts[number]

    def commit(self, number: int) -> None:
        pass

    def assemble(self) -> torch.Tensor:
        return self._layout.back(self._rows_RD, self._shape_BHLD).to(self._dtype)
