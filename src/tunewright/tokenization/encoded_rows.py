"""Encoded examples in flat arrays: what tasks give to the store, and what prediction batches.

    two texts, the second cut into two windows:
    input_ids  [101 7592 102 | 101 2748 102 | 101 2053 102]      offsets  [0 3 6 9]
    example    [0 1 1]                                           part     [0 0 1]

One example may give several rows (windows), one row (the usual case) or none (rejected after encoding, with its reason).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunewright.records import Encoded


@dataclass(frozen=True)
class EncodedRows:
    """Rows of token ids, flat. R rows, T tokens over all rows.

    input_ids: int32 (T,). offsets: int64 (R + 1,), row r is `[offsets[r], offsets[r + 1])`.
    token_type_ids: int8 (T,), or None where the tokenizer gives none.
    num_cut: int32 (R,), tokens that truncation removed. num_supervised: int32 (R,), tokens that the loss looks at.
    example: int64 (R,), which of the encoded examples a row is of, ascending. part: int32 (R,), its number within the example.
    values: the task's own store columns, R entries each. rejected: example -> why no row was made of it.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None
    num_cut: np.ndarray
    num_supervised: np.ndarray
    example: np.ndarray
    part: np.ndarray
    values: Mapping[str, Any] = field(default_factory=dict)
    rejected: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Sequence[Encoded],
        *,
        example: Sequence[int] | np.ndarray | None = None,
        num_supervised: Sequence[int] | np.ndarray | None = None,
        values: Mapping[str, Any] | None = None,
        rejected: Mapping[int, str] | None = None,
    ) -> EncodedRows:
        """From one record per row. example: one row per example where it is not given."""
        lengths = np.array([len(row.input_ids) for row in rows], dtype=np.int64)
        examples = np.arange(len(rows)) if example is None else np.asarray(example, dtype=np.int64)
        typed = bool(rows) and rows[0].token_type_ids is not None
        return cls(
            input_ids=concatenated([row.input_ids for row in rows], np.int32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            token_type_ids=concatenated([row.token_type_ids for row in rows], np.int8) if typed else None,
            num_cut=np.array([row.num_cut for row in rows], dtype=np.int32),
            num_supervised=np.zeros(len(rows), np.int32)
            if num_supervised is None
            else np.asarray(num_supervised, dtype=np.int32),
            example=examples,
            part=part_numbers(examples),
            values=values or {},
            rejected=rejected or {},
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Encoded:
        """One row as views into the flat arrays."""
        span = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        types = None if self.token_type_ids is None else self.token_type_ids[span]
        values = {name: column[row] for name, column in self.values.items()} if self.values else None
        return Encoded(self.input_ids[span], types, int(self.num_cut[row]), values)

    def __iter__(self) -> Iterator[Encoded]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """int64 (R,): tokens of each row."""
        return np.diff(self.offsets)


def part_numbers(example: np.ndarray) -> np.ndarray:
    """0, 1, 2 … within each run of equal, ascending numbers. [0 1 1 3] -> [0 0 1 0]"""
    if not len(example):
        return np.zeros(0, dtype=np.int32)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(example) != 0]))
    return (np.arange(len(example)) - np.repeat(starts, np.diff([*starts, len(example)]))).astype(np.int32)


def concatenated(arrays: Sequence[Any], dtype: Any) -> np.ndarray:
    """One array of this dtype, also of no arrays."""
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
