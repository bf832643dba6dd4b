"""The rows of the micro-batch that is running: what dropout and attention need to treat each row on its own.

The engine opens `row_context(...)` around forward and backward; row dropout and row attention (`execution/`) read it.

    with row_context(RowContext(seed=0, epoch=2, row_ids=[7, 19], lengths=[12, 9], width=12)):
        loss(model(**batch)).backward()

Each thread has its own. A thread that never opened any sees those opened last: on a GPU gradient
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
    """Identity and extent of the rows of one micro-batch.

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
    """For packed rows: the lengths of the documents in each, which do not attend to each other."""
    starts: np.ndarray = field(init=False)
    """int64 `(rows,)`: position of each row's first real token."""
    cache: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Values that an execution computes once for these rows and needs in every layer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", self._starts())

    def _starts(self) -> np.ndarray:
        """An execution that puts rows elsewhere overrides this."""
        return self.width - self.lengths if self.left_padded else np.zeros_like(self.lengths)

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def batch_size(self) -> int:
        """The first dimension of the tensors they are in."""
        return len(self)


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
    """The same rows with `count` learned positions before each. None where they are padded on the left."""
    if rows is None or rows.left_padded:
        return None
    return RowContext(rows.seed, rows.epoch, rows.row_ids, rows.lengths + count, rows.width + count)
