"""How a step's rows are cut into micro-batches, and how a micro-batch becomes tensors.

    lengths of a step:  12 250 31 30 248         budget 512 tokens
    micro-batches:      [250 248]  [31 30 12]    sorted by length, padded to their longest

The cut changes time and memory, never the update: the loss is a sum over rows, divided by what the whole step weighs.
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
_HALVED_EXACTLY = 32


def cut(
    lengths: np.ndarray,
    token_budget: int,
    *,
    num_ranks: int = 1,
    fixed_cost: int = FIXED_COST_TOKENS,
    multiple: int = 1,
    flat: bool = False,
) -> list[np.ndarray]:
    """Positions into `lengths`, longest rows first, as micro-batches of at most `token_budget` padded tokens.

    Of all cuts of the sorted rows the cheapest is taken: padded tokens plus `fixed_cost` for each micro-batch. A row longer
    than the budget stands alone. With several ranks the number of micro-batches is a multiple of `num_ranks`; rank r takes
    every `num_ranks`-th one from r on. Where rows do not suffice the missing ones are empty. multiple: of the tokens
    in each, see `execution/cpu/shape_buckets.py`. flat: rows stand end to end, and only their sum is filled up (`execution/cpu/unpadding.py`).
    """
    order = np.argsort(-lengths, kind="stable")
    groups = [order[start:stop] for start, stop in _cheapest(lengths[order], token_budget, fixed_cost, multiple, flat)]
    while len(groups) % num_ranks and max(map(len, groups)) > 1:
        widest = max(
            range(len(groups)), key=lambda g: (len(groups[g]) > 1, len(groups[g]) * int(lengths[groups[g][0]]))
        )
        group = groups[widest]
        groups[widest : widest + 1] = [group[: len(group) // 2], group[len(group) // 2 :]]
    return groups + [order[:0]] * (-len(groups) % num_ranks)


def _cheapest(
    lengths: np.ndarray, token_budget: int, fixed_cost: int, multiple: int, flat: bool
) -> list[tuple[int, int]]:
    """Cut descending lengths into runs: dynamic programming over where the last run begins."""
    num_rows = len(lengths)
    costs = np.zeros(num_rows + 1)
    begins = np.zeros(num_rows + 1, dtype=np.int64)
    before = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for stop in range(1, num_rows + 1):
        starts = np.arange(max(0, stop - _LONGEST_SEARCH), stop)
        counts = stop - starts
        if flat:
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


def halve(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions into `lengths` in two parts, the one of fewer tokens first; up to 32 rows no other two parts are closer.

    Of more rows the 32 longest are parted so, and the others, longest first, each go to the part that is smaller by then.
    """
    order = np.argsort(-lengths, kind="stable").tolist()
    longest, others = order[:_HALVED_EXACTLY], order[_HALVED_EXACTLY:]
    sums = [1]  # bit n of sums[k]: some of the first k rows have n tokens together
    for position in longest:
        sums.append(sums[-1] | sums[-1] << int(lengths[position]))
    half = int(lengths[longest].sum()) // 2
    left = (sums[-1] & ((2 << half) - 1)).bit_length() - 1  # the most tokens that are no more than half
    parts: tuple[list[int], list[int]] = ([], [])
    for position, reached in zip(reversed(longest), reversed(sums[:-1]), strict=True):
        taken = not reached >> left & 1
        parts[not taken].append(position)
        left -= int(lengths[position]) * taken
    tokens = [int(lengths[part].sum()) for part in parts]
    for position in others:
        smaller = int(tokens[1] < tokens[0])
        parts[smaller].append(position)
        tokens[smaller] += int(lengths[position])
    first, second = (np.array(part, dtype=np.int64) for part in parts)
    return (first, second) if tokens[0] <= tokens[1] else (second, first)


def pad(
    rows: Sequence[np.ndarray], *, value: int, width: int, left: bool = False, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """Rows of one dimension, each at most `width` long -> `(rows, width)`, filled up with `value` on one side."""
    out = np.full((len(rows), width), value, dtype=np.int64)
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
    """Encoded rows -> what a model is called with, padded on the encoder's side; no targets, rows numbered."""
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
