"""Which rows are in the micro-batch that runs now: what dropout and attention need to treat each row on its own.

The engine opens `rows_in_flight(...)` around forward and backward; `models/dropout.py` and `models/attention.py` read it.

    with rows_in_flight(Rows(seed=0, epoch=2, row_ids=[7, 19], lengths=[12, 9], width=12)):
        loss(model(**batch)).backward()

It is a module global and not a context variable: gradient checkpointing recomputes in autograd's own thread on a GPU, and a
process trains one model at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Identity and extent of the rows of one padded micro-batch.

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
    starts: np.ndarray = field(init=False)
    """int64 `(rows,)`: position of each row's first real token."""
    layouts: dict[int, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Number of heads -> how attention computes packed rows (`models/pieces.py`): worked out in the first layer, used in all."""

    def __post_init__(self) -> None:
        starts = self.width - self.lengths if self.left_padded else np.zeros_like(self.lengths)
        object.__setattr__(self, "starts", starts)

    def __len__(self) -> int:
        return len(self.row_ids)


_current: Rows | None = None


def current_rows() -> Rows | None:
    """The rows of the running micro-batch, or None outside `rows_in_flight`."""
    return _current


@contextmanager
def rows_in_flight(rows: Rows | None) -> Iterator[None]:
    """Declare the rows of the micro-batch that runs inside the block."""
    global _current
    before, _current = _current, rows
    try:
        yield
    finally:
        _current = before


def with_virtual_tokens(rows: Rows | None, count: int) -> Rows | None:
    """The same rows, `count` learned positions before each (their padding on the right)."""
    if rows is None or rows.left_padded:
        return None
    return Rows(rows.seed, rows.epoch, rows.row_ids, rows.lengths + count, rows.width + count)
