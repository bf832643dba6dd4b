"""How a step's rows are cut into micro-batches, and how a micro-batch becomes tensors.

    lengths of a step:  12 250 31 30 248         budget 512 tokens
    micro-batches:      [250 248]  [31 30 12]    sorted by length, padded to their longest

The cut changes time and memory, never the update: the loss is a sum over rows, divided by the weight of the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tunewright.batching.padding import LONGEST, Padding, padded_width, rounded_up
from tunewright.batching.row_context import RowContext
from tunewright.records import Batch, Encoded
from tunewright.tokenization.encoder import TextEncoder

FIXED_COST_TOKENS = 64
"""What a micro-batch costs beside its tokens, in tokens: about 12 ms at 5,000 tokens a second on two cores."""
_LONGEST_SEARCH = 512


def cut(
    lengths: np.ndarray,
    token_budget: int,
    *,
    num_ranks: int = 1,
    fixed_cost: int = FIXED_COST_TOKENS,
    multiple: int = 1,
    unpadded: bool = False,
) -> list[np.ndarray]:
    """Positions into `lengths`, longest rows first, as micro-batches of at most `token_budget` padded tokens.

    Of all cuts of the sorted rows the cheapest is taken: padded tokens plus `fixed_cost` for each micro-batch. A row longer
    than the budget is a micro-batch of its own. With several ranks the number of micro-batches is a multiple of `num_ranks`; rank r
    takes every `num_ranks`-th one from r on. Where there are too few rows, some are empty. multiple: the tokens of each are padded to
    a multiple of it. unpadded: rows are put end to end, and only their sum is padded.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = [
        order[start:stop] for start, stop in _cheapest(lengths[order], token_budget, fixed_cost, multiple, unpadded)
    ]
    while len(groups) % num_ranks and max(map(len, groups)) > 1:
        widest = max(
            range(len(groups)), key=lambda g: (len(groups[g]) > 1, len(groups[g]) * int(lengths[groups[g][0]]))
        )
        group = groups[widest]
        groups[widest : widest + 1] = [group[: len(group) // 2], group[len(group) // 2 :]]
    return groups + [order[:0]] * (-len(groups) % num_ranks)


def _cheapest(
    lengths: np.ndarray, token_budget: int, fixed_cost: int, multiple: int, unpadded: bool
) -> list[tuple[int, int]]:
    """Cut descending lengths into runs: dynamic programming over where the last run begins."""
    num_rows = len(lengths)
    costs = np.zeros(num_rows + 1)
    begins = np.zeros(num_rows + 1, dtype=np.int64)
    before = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for stop in range(1, num_rows + 1):
        starts = np.arange(max(0, stop - _LONGEST_SEARCH), stop)
        counts = stop - starts
        if unpadded:
            padded = rounded_up(before[stop] - before[starts], multiple)
        else:
            padded = padded_width(lengths[starts].astype(np.int64), counts, multiple) * counts
        totals = costs[starts] + padded + fixed_cost
        totals[(padded > token_budget) & (counts > 1)] = np.inf
        best = len(totals) - 1 - int(np.argmin(totals[::-1])) if len(totals) else 0
        costs[stop], begins[stop] = totals[best], starts[best]
    runs = []
    stop = num_rows
    while stop:
        runs.append((int(begins[stop]), stop))
        stop = int(begins[stop])
    return runs[::-1]


def pad(
    rows: Sequence[np.ndarray], *, value: float, width: int, left: bool = False, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """Rows of one dimension, each at most `width` long -> `(rows, width)`, filled up with `value` on one side."""
    out = np.full((len(rows), width), value, dtype=np.float64 if dtype.is_floating_point else np.int64)
    for index, row in enumerate(rows):
        if left:
            out[index, width - len(row) :] = row
        else:
            out[index, : len(row)] = row
    return torch.from_numpy(out).to(dtype)


def attention_mask(lengths: np.ndarray, width: int, *, left: bool = False) -> torch.Tensor:
    """int64 `(rows, width)`: 1 on real tokens."""
    positions = np.arange(width)
    real = positions >= (width - lengths)[:, None] if left else positions < lengths[:, None]
    return torch.from_numpy(real.astype(np.int64))


def padded_inputs(rows: Sequence[Encoded], encoder: TextEncoder, padding: Padding = LONGEST) -> Batch:
    """Encoded rows -> the model's inputs, padded on the encoder's side; without targets, rows numbered from 0."""
    left = encoder.padding_side == "left"
    lengths = np.array([len(row.input_ids) for row in rows], dtype=np.int64)
    width = padding.width(lengths, encoder)
    inputs = {
        "input_ids": pad([row.input_ids for row in rows], value=encoder.pad_token_id, width=width, left=left),
        "attention_mask": attention_mask(lengths, width, left=left),
    }
    types = [row.token_type_ids for row in rows]
    if any(one is not None for one in types):
        filled = [np.zeros(n, np.int8) if one is None else one for one, n in zip(types, lengths, strict=True)]
        inputs["token_type_ids"] = pad(filled, value=0, width=width, left=left)
    return Batch(inputs, {}, np.arange(len(rows)), lengths)


def rows_of(batch: Batch, encoder: TextEncoder, *, seed: int = 0, epoch: int = 0) -> RowContext:
    """The identity of a micro-batch's rows, for `batching.row_context.row_context`."""
    return RowContext(
        seed=seed,
        epoch=epoch,
        row_ids=batch.row_ids,
        lengths=batch.lengths,
        width=batch.width,
        left_padded=encoder.padding_side == "left",
        segments=batch.segments,
    )
