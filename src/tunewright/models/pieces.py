"""What row attention computes at a time: pieces whose scores fit the second-level cache.

    rows of 248, 246, 31, 30 tokens          Block of row 0, Block of row 1, Block of rows 2 and 3
    packed rows [40 20 | 260] [50 9 | 33]    Stretches of 60, 59 and 33 tokens, Stretches of 260
    flat rows 248, 246, 31, 30               Stretches of 248, Stretches of 246, Stretches of 31 and 30

A Block is cut out of a padded micro-batch. Packed rows hold documents that do not see each other: stretches of whole documents
are gathered from all rows, those of like length together, so that many short documents cost one product, not one each. Rows
that stand end to end are a stretch each.

Shapes: B rows, H heads, L padded length, D features per head, K keys, S stretches, W the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tunewright.models.dropout import Draw, fill_keep
from tunewright.models.rows import Rows
from tunewright.tokens.padding import rounded_up

HEADS_PER_STREAM = 4
_STREAMS_OF_PREFIX = 1 << 15
_STREAMS_OF_STRETCH = 1 << 6
_STRETCH_TOKENS = 64
"""Documents of a packed row form one stretch up to this many tokens, and stretches this short are computed together."""
_LIKE = 0.75
"""Longer stretches are computed together where the shortest has this share of the longest one's length."""
PIECE_ELEMENTS = 768 * 1024  # scores held at a time: 3 MB in fp32


@dataclass(frozen=True)
class Plan:
    """What stays the same over the pieces of one call of attention."""

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
    multiple: int = 1
    """Pieces are filled up to a multiple of so many positions, where rows are computed at their real extents."""


def pieces_of(
    plan: Plan, num_rows: int, num_heads: int, num_queries: int, num_keys: int
) -> Sequence[Block | Stretches]:
    """All that one call computes. Of packed and flat rows it is the same in every layer, and worked out once."""
    if not plan.ragged or plan.rows is None or not (plan.rows.flat or plan.rows.segments):
        return list(_blocks(plan, num_rows, num_heads, num_queries, num_keys))
    layouts, key = plan.rows.layouts, (num_heads, plan.multiple)
    if key not in layouts:
        layouts[key] = list(_gathered(plan.rows, num_heads, plan.multiple))
    return layouts[key]


def _blocks(plan: Plan, num_rows: int, num_heads: int, num_queries: int, num_keys: int) -> Iterator[Block]:
    """Neighbouring rows together, long rows by groups of heads."""
    if plan.ragged and plan.rows is not None:
        spans = [
            (start, min(num_queries, start + rounded_up(length, plan.multiple)))
            for start, length in zip(plan.rows.starts.tolist(), plan.rows.lengths.tolist(), strict=True)
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
        for heads in _groups_of_heads(num_heads, (stop - start) * (stop - start + extra_keys)):
            yield Block(first, last, *heads, start, stop)
        first = last


def _groups_of_heads(num_heads: int, scores_of_head: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of heads whose scores fit; a stream of dropout is never cut."""
    streams = max(1, PIECE_ELEMENTS // max(1, HEADS_PER_STREAM * scores_of_head))
    for head in range(0, num_heads, streams * HEADS_PER_STREAM):
        yield head, min(head + streams * HEADS_PER_STREAM, num_heads)


@dataclass(frozen=True)
class Block:
    """Rows `[first, last)`, heads `[head, head_stop)`, positions `[start, stop)` of a padded micro-batch."""

    first: int
    last: int
    head: int
    head_stop: int
    start: int
    stop: int

    def _view(self, x_BHLD: torch.Tensor, whole: bool) -> torch.Tensor:
        part = x_BHLD[self.first : self.last, self.head : self.head_stop]
        return part if whole else part[:, :, self.start : self.stop]

    def of(self, x_BHLD: torch.Tensor, dtype: torch.dtype, *, whole: bool = False) -> torch.Tensor:
        """A contiguous copy of this piece's part in the computing dtype. whole: all positions (keys with a prefix before them)."""
        return self._view(x_BHLD, whole).to(dtype, memory_format=torch.contiguous_format).contiguous()

    def put(self, total_BHLD: torch.Tensor, part: torch.Tensor, *, whole: bool = False) -> None:
        """Write this piece's part into its place."""
        self._view(total_BHLD, whole).copy_(part)

    def hide(self, plan: Plan, mask_B1LK: torch.Tensor | None, scores_BHLK: torch.Tensor) -> None:
        """Add the mask to this piece's scores."""
        visible = self._mask(plan, mask_B1LK, scores_BHLK.dtype)
        if visible is not None:
            scores_BHLK += visible

    def _mask(self, plan: Plan, mask_B1LK: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
        """The additive mask, broadcastable to the scores, or None when every query sees every key."""
        if mask_B1LK is not None:
            rows = slice(self.first, self.last) if mask_B1LK.shape[0] > 1 else slice(None)
            heads = slice(self.head, self.head_stop) if mask_B1LK.shape[1] > 1 else slice(None)
            positions = slice(self.start, self.stop) if plan.ragged else slice(None)
            return _additive(mask_B1LK[rows, heads, positions, positions], dtype)
        if not (plan.ragged or plan.ragged_keys) or plan.rows is None:
            return None
        starts = plan.rows.starts[self.first : self.last]
        stops = starts + plan.rows.lengths[self.first : self.last]
        start, stop = (self.start, self.stop) if plan.ragged else (0, plan.rows.width)
        if (starts == start).all() and (stops == stop).all():
            return None
        places_L = np.arange(start, stop)
        outside_BL = torch.from_numpy((places_L < starts[:, None]) | (places_L >= stops[:, None]))
        return torch.zeros(outside_BL.shape, dtype=dtype).masked_fill_(outside_BL, -torch.inf)[:, None, None, :]

    def keep(self, plan: Plan, keep_BHLK: torch.Tensor) -> torch.Tensor:
        """The dropout mask, 0 and 1, written over what is there. One stream for every four heads of a row: any cut draws the same."""
        assert plan.rows is not None
        draws = []
        for offset, row in enumerate(range(self.first, self.last)):
            part_HLK = keep_BHLK[offset]
            begin, length = int(plan.rows.starts[row]), int(plan.rows.lengths[row])
            if plan.ragged:
                begin -= self.start
                if length < part_HLK.shape[1]:
                    part_HLK.zero_()  # whatever padding attends to is of no use to anyone
                part_HLK = part_HLK[:, begin : begin + length, begin : begin + length]
            elif plan.ragged_keys:
                part_HLK.zero_()
                part_HLK = part_HLK[:, :, begin : begin + length]
            elif plan.num_before:
                part_HLK.zero_()
                before, part_HLK = part_HLK[:, begin : begin + length].split([plan.num_before, plan.rows.width], -1)
                draws += _draws(before, plan, row, self.head, first_stream=_STREAMS_OF_PREFIX)
                part_HLK = part_HLK[:, :, begin : begin + length]
            draws += _draws(part_HLK, plan, row, self.head)
        fill_keep(draws, plan.rows, plan.p)
        return keep_BHLK


@dataclass(frozen=True)
class Stretch:
    """Whole documents of a packed row, tokens `[start, start + length)`: the `number`-th stretch of the row. Or a flat row."""

    row: int
    number: int
    start: int
    length: int


def _stretches(rows: Rows) -> Iterator[Stretch]:
    """Row by row: neighbouring documents up to `_STRETCH_TOKENS` together, longer ones alone. Each flat row alone."""
    if rows.flat:
        for row, (start, length) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)):
            yield Stretch(row, 0, start, length)
        return
    assert rows.segments is not None
    for row, (begin, documents) in enumerate(zip(rows.starts.tolist(), rows.segments, strict=True)):
        start, number, length = begin, 0, 0
        for document in documents.tolist():
            if length and length + document > _STRETCH_TOKENS:
                yield Stretch(row, number, start, length)
                start, number, length = start + length, number + 1, 0
            length += document
        yield Stretch(row, number, start, length)


def _gathered(rows: Rows, num_heads: int, multiple: int) -> Iterator[Stretches]:
    """Stretches of like length together, the longest first."""
    group: list[Stretch] = []
    for stretch in sorted(_stretches(rows), key=lambda one: -one.length):
        longest = group[0].length if group else stretch.length
        fits = (len(group) + 1) * num_heads * longest**2 <= PIECE_ELEMENTS
        if group and not (fits and max(stretch.length, _STRETCH_TOKENS) >= _LIKE * longest):
            yield from _piece_of(group, rows, num_heads, multiple)
            group = []
        group.append(stretch)
    yield from _piece_of(group, rows, num_heads, multiple)


def _piece_of(group: list[Stretch], rows: Rows, num_heads: int, multiple: int) -> Iterator[Stretches]:
    length = rounded_up(group[0].length, multiple)
    for heads in _groups_of_heads(num_heads, len(group) * length**2):
        yield Stretches(tuple(group), *heads, length, rows.width, rows.flat)


@dataclass(frozen=True)
class Stretches:
    """Stretches of packed or flat rows, heads `[head, head_stop)`; shorter ones than `length` are padded behind with zeros."""

    stretches: tuple[Stretch, ...]
    head: int
    head_stop: int
    length: int
    width: int
    flat: bool
    rows_S: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: the row of the tensors that each is in."""
    places_SW: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: where in its row each token stands; in the padding, where the last one does."""
    real_SW: torch.Tensor = field(init=False, repr=False, compare=False)
    flat_SW: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: where each token stands among those of all rows."""
    real_T: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: which of the S · W tokens are real."""
    padding_P: torch.Tensor = field(init=False, repr=False, compare=False)
    """int64: which are not."""
    masks: list[tuple[torch.Tensor, torch.Tensor]] = field(init=False, repr=False, compare=False, default_factory=list)
    """What came in as a mask in an earlier layer, and what it says of these stretches."""

    def __post_init__(self) -> None:
        lengths_S1 = torch.tensor([[one.length] for one in self.stretches])
        rows_S = torch.tensor([0 if self.flat else one.row for one in self.stretches])
        steps_W = torch.arange(self.length)
        places_SW = torch.tensor([[one.start] for one in self.stretches]) + torch.minimum(steps_W, lengths_S1 - 1)
        real_SW = steps_W < lengths_S1
        for name, value in {
            "rows_S": rows_S, "places_SW": places_SW, "real_SW": real_SW, "real_T": real_SW.flatten().nonzero()[:, 0],
            "padding_P": (~real_SW).flatten().nonzero()[:, 0], "flat_SW": rows_S[:, None] * self.width + places_SW,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def _is_padded(self) -> bool:
        return self.stretches[-1].length < self.length

    def _alone(self, x_BHLD: torch.Tensor) -> torch.Tensor:
        """The only stretch there is, `(1, H, W, D)`, as it lies in memory."""
        (one,) = self.stretches
        row = int(self.rows_S)
        return x_BHLD[row : row + 1, self.head : self.head_stop, one.start : one.start + one.length]

    def of(self, x_BHLD: torch.Tensor, dtype: torch.dtype, *, whole: bool = False) -> torch.Tensor:
        """These stretches of `(B, H, L, D)` as a contiguous `(S, H, W, D)` in the computing dtype."""
        if len(self.stretches) == 1:
            alone = self._alone(x_BHLD)
            part_1HWD = alone.new_empty(*alone.shape[:2], self.length, alone.shape[3], dtype=dtype)
            part_1HWD[:, :, : alone.shape[2]] = alone
            part_1HWD[:, :, alone.shape[2] :] = 0
            return part_1HWD
        flat_THD = x_BHLD.transpose(1, 2).flatten(0, 1)[:, self.head : self.head_stop]
        part_THD = flat_THD.index_select(0, self.flat_SW.flatten()).index_fill_(0, self.padding_P, 0)
        part_SHWD = part_THD.unflatten(0, self.flat_SW.shape).transpose(1, 2)
        return part_SHWD.to(dtype, memory_format=torch.contiguous_format).contiguous()

    def put(self, total_BHLD: torch.Tensor, part_SHWD: torch.Tensor, *, whole: bool = False) -> None:
        """Write the real tokens into their places in a tensor that lies in memory as `(B, L, H, D)`."""
        if len(self.stretches) == 1:
            self._alone(total_BHLD).copy_(part_SHWD[:, :, : self.stretches[0].length])
            return
        flat_THD = total_BHLD.transpose(1, 2).view(-1, *total_BHLD.shape[1::2])[:, self.head : self.head_stop]
        places_T, part_THD = self.flat_SW.flatten(), part_SHWD.transpose(1, 2).to(total_BHLD.dtype).flatten(0, 1)
        if self._is_padded:
            places_T, part_THD = places_T[self.real_T], part_THD.index_select(0, self.real_T)
        flat_THD.index_copy_(0, places_T, part_THD)

    def hide(self, plan: Plan, mask_B1LK: torch.Tensor | None, scores_SHWW: torch.Tensor) -> None:
        """Add the mask to the scores of these stretches, and hide padded keys."""
        if mask_B1LK is not None:
            scores_SHWW += self._mask(plan, mask_B1LK, scores_SHWW.dtype)
            return
        assert self.flat, "packed rows come with a mask: documents of a stretch do not see each other"
        for one, part_HWW in zip(self.stretches, scores_SHWW, strict=True):
            part_HWW[..., one.length :] = torch.finfo(scores_SHWW.dtype).min

    def _mask(self, plan: Plan, mask_B1LK: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        for seen, said in self.masks:
            if seen is mask_B1LK:
                return said
        said = _additive(self._part_of(plan, mask_B1LK), dtype)
        if self._is_padded:
            said = said.masked_fill(~self.real_SW[:, None, None, :], torch.finfo(dtype).min)
        self.masks.append((mask_B1LK, said))
        return said

    def _part_of(self, plan: Plan, mask_B1LK: torch.Tensor) -> torch.Tensor:
        """`(S, 1, W, W)`, or of every head."""
        assert plan.rows is not None
        rows_S11 = (self.rows_S if mask_B1LK.shape[0] > 1 else torch.zeros_like(self.rows_S))[:, None, None]
        queries_SW1, keys_S1W = self.places_SW[:, :, None], self.places_SW[:, None, :]
        if (deferred := plan.rows.masks.get(mask_B1LK.data_ptr())) is not None:
            return deferred.at(rows_S11[:, None], queries_SW1[:, None], keys_S1W[:, None])
        heads = slice(self.head, self.head_stop) if mask_B1LK.shape[1] > 1 else slice(None)
        return mask_B1LK[rows_S11, heads, queries_SW1, keys_S1W].permute(0, 3, 1, 2)

    def keep(self, plan: Plan, keep_SHWW: torch.Tensor) -> torch.Tensor:
        """The dropout mask, 0 and 1, written over what is there. Streams are numbered by row and stretch: any company draws the same."""
        assert plan.rows is not None
        draws = []
        for one, part_HWW in zip(self.stretches, keep_SHWW, strict=True):
            part_HWW[:, :, one.length :] = 0
            part_HWW[:, one.length :] = 0
            stream = one.number * _STREAMS_OF_STRETCH
            draws += _draws(part_HWW[:, : one.length, : one.length], plan, one.row, self.head, first_stream=stream)
        fill_keep(draws, plan.rows, plan.p)
        return keep_SHWW


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as numbers to add; a boolean one says what is visible."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
    return mask.to(dtype)


def _draws(part_HLK: torch.Tensor, plan: Plan, row: int, first_head: int, *, first_stream: int = 0) -> list[Draw]:
    """Four heads of a row each from a stream of their own."""
    return [
        Draw(
            part_HLK[head : head + HEADS_PER_STREAM],
            row,
            plan.site,
            first_stream + (first_head + head) // HEADS_PER_STREAM,
        )
        for head in range(0, part_HLK.shape[0], HEADS_PER_STREAM)
    ]
