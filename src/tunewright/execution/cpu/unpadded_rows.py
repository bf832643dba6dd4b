"""The row context of rows that are end to end in tensors of one row; `unpadding.py` opens it around a model's layers.

RowContext of lengths 5 2 3, width 5        tensors (3, 5)
UnpaddedRows of the same, width 32          tensors (1, 32): rows begin at 0, 5 and 7, followed by 22 tokens of padding
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunewright.batching.row_context import RowContext


@dataclass(frozen=True)
class UnpaddedRows(RowContext):
    """width: the tokens of all rows, and the padding."""

    @classmethod
    def of(cls, rows: RowContext, multiple: int) -> UnpaddedRows:
        """The same rows end to end, padded to a multiple of tokens."""
        width = -(-int(rows.lengths.sum()) // multiple) * multiple
        return cls(rows.seed, rows.epoch, rows.row_ids, rows.lengths, width)

    @property
    def batch_size(self) -> int:
        return 1

    def _starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def padded(self) -> RowContext:
        """The same rows, each padded on the right to the longest."""
        return RowContext(self.seed, self.epoch, self.row_ids, self.lengths, int(self.lengths.max()))
