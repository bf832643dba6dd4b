"""Which rows are in the micro-batch that runs now: what dropout and attention need to treat each row on its own.

The engine opens `row_context(...)` around forward and backward; `execution/row_dropout.py` and `execution/cpu/attention.py` read it.

    with row_context(RowContext(seed=0, epoch=2, row_ids=[7, 19], lengths=[12, 9], width=12)):
        loss(model(**batch)).backward()

Each thread has its own (`execution/cpu/two_threads.py`). A thread that never opened any sees those opened last: on a GPU gradient
checkpointing recomputes in autograd's own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RowContext:
    """Identity and extent of the rows of one micro-batch, padded or flat.

    row_ids, lengths: int64 `(rows,)`. width: the padded length. left_padded: real tokens stand at the end of each row.
    With (seed, epoch) a row's id keys all of its randomness.
    """

    seed: int
    epoch: int
    row_ids: np.ndarray
    lengths: np.ndarray
    width: int
    left_padded: bool = False
    segments: tuple[np.ndarray, ...] | None = None
    """Of packed rows: the lengths of the documents in each, which do not see each other."""
    flat: bool = False
    """The rows stand end to end, in tensors of one row and `width` tokens (`execution/cpu/unpadding.py`)."""
    starts: np.ndarray = field(init=False)
    """int64 `(rows,)`: position of each row's first real token."""
    layouts: dict[tuple[int, int], Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Number of heads, multiple of positions -> how attention computes packed or flat rows (`execution/cpu/segments.py`): worked out once."""
    masks: dict[int, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Of flat rows: masks that attention works out where it needs them (`execution/cpu/attention.py`)."""

    def __post_init__(self) -> None:
        starts = np.zeros_like(self.lengths)
        if self.flat:
            starts = np.cumsum(self.lengths) - self.lengths
        elif self.left_padded:
            starts = self.width - self.lengths
        object.__setattr__(self, "starts", starts)

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def batch_size(self) -> int:
        """The first dimension of the tensors they are in."""
        return 1 if self.flat else len(self)

    def laid_flat(self, multiple: int) -> RowContext:
        """The same rows end to end, filled up to a multiple of tokens."""
        width = -(-int(self.lengths.sum()) // multiple) * multiple
        return RowContext(self.seed, self.epoch, self.row_ids, self.lengths, width, flat=True)

    def padded(self) -> RowContext:
        """The same rows, each padded on the right to the longest."""
        return RowContext(self.seed, self.epoch, self.row_ids, self.lengths, int(self.lengths.max()))


_of_thread = threading.local()
_opened_last: RowContext | None = None


def current_row_context() -> RowContext | None:
    """The rows of the micro-batch that this thread computes, or None outside `row_context`."""
    return getattr(_of_thread, "rows", _opened_last)


@contextmanager
def row_context(rows: RowContext | None) -> Iterator[None]:
    """Declare the rows of the micro-batch that runs inside the block."""
    global _opened_last
    before = getattr(_of_thread, "rows", None)
    _of_thread.rows = _opened_last = rows
    try:
        yield
    finally:
        _of_thread.rows = _opened_last = before


def with_virtual_tokens(rows: RowContext | None, count: int) -> RowContext | None:
    """The same rows, `count` learned positions before each (their padding on the right)."""
    if rows is None or rows.left_padded:
        return None
    return RowContext(rows.seed, rows.epoch, rows.row_ids, rows.lengths + count, rows.width + count)
