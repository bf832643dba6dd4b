"""Which rows are in the micro-batch that runs now: what dropout and attention need to treat each row on its own.

The engine opens `rows_in_flight(...)` around forward and backward; `models/dropout.py` and `models/attention.py` read it.

    with rows_in_flight(Rows(seed=0, epoch=2, row_ids=[7, 19], lengths=[12, 9], width=12)):
        loss(model(**batch)).backward()

Each thread has its own (`training/halves.py`). A thread that never opened any sees those opened last: on a GPU gradient
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
class Rows:
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
    """The rows stand end to end, in tensors of one row and `width` tokens (`models/flat.py`)."""
    starts: np.ndarray = field(init=False)
    """int64 `(rows,)`: position of each row's first real token."""
    layouts: dict[tuple[int, int], Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Number of heads, multiple of positions -> how attention computes packed or flat rows (`models/stretches.py`): worked out once, used in all layers."""
    masks: dict[int, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Of flat rows: masks that attention works out where it needs them (`models/attention.py`)."""

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

    def laid_flat(self, multiple: int) -> Rows:
        """The same rows end to end, filled up to a multiple of tokens."""
        width = -(-int(self.lengths.sum()) // multiple) * multiple
        return Rows(self.seed, self.epoch, self.row_ids, self.lengths, width, flat=True)

    def padded(self) -> Rows:
        """The same rows, each padded on the right to the longest."""
        return Rows(self.seed, self.epoch, self.row_ids, self.lengths, int(self.lengths.max()))


_of_thread = threading.local()
_opened_last: Rows | None = None


def current_rows() -> Rows | None:
    """The rows of the micro-batch that this thread computes, or None outside `rows_in_flight`."""
    return getattr(_of_thread, "rows", _opened_last)


@contextmanager
def rows_in_flight(rows: Rows | None) -> Iterator[None]:
    """Declare the rows of the micro-batch that runs inside the block."""
    global _opened_last
    before = getattr(_of_thread, "rows", None)
    _of_thread.rows = _opened_last = rows
    try:
        yield
    finally:
        _of_thread.rows = _opened_last = before


def with_virtual_tokens(rows: Rows | None, count: int) -> Rows | None:
    """The same rows, `count` learned positions before each (their padding on the right)."""
    if rows is None or rows.left_padded:
        return None
    return Rows(rows.seed, rows.epoch, rows.row_ids, rows.lengths + count, rows.width + count)
