"""Ids of many texts one after the other: two arrays instead of a list per text.

RaggedIds.of([[7592], [], [2748, 999]])     # ids [7592 2748 999], offsets [0 1 1 3]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np


@dataclass(frozen=True)
class RaggedIds:
    """ids: int32 (T,). offsets: int64 (R + 1,), text r is `[offsets[r], offsets[r + 1])`."""

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> RaggedIds:
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets)

    @classmethod
    def empty(cls, num_rows: int) -> RaggedIds:
        return cls(np.zeros(0, np.int32), np.zeros(num_rows + 1, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)
