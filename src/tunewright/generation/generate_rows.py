"""Many prompts -> the tokens that `generate` gives for each of them, computed in batches.

    answers = generate_rows(model, [[1, 403], [1, 77, 9]], Sampling(temperature=0), end_ids=frozenset({2}), pad_id=0)
    answers[0]          [261, 378, 2]

Prompts are sorted by length and cut into batches under a budget of tokens, answers included; each batch is padded on the left. A row
is removed from its batch when it ends, so that nothing more is computed for it. Each row samples with its own generator and does not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tunewright.generation.generate import Continued, Sampling, next_token

TOKEN_BUDGET = 8_192
_LEAVE_SHARE = 0.25
"""Ended rows are removed from a batch when they are this share of it, since copying the cache has a cost, too."""


@torch.inference_mode()
def generate_rows(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: frozenset[int],
    pad_id: int,
    longest: int | None = None,
    token_budget: int = TOKEN_BUDGET,
) -> list[list[int]]:
    """New tokens of each prompt, in order; an end token is the last one. longest: positions the model has, prompts included."""
    answers: list[list[int]] = [[] for _ in prompts]
    lengths = [len(one) for one in prompts]
    for batch in _batches(lengths, sampling.max_new_tokens, token_budget, alike=_reads_near_virtual_tokens(model)):
        rows = [_Row(number, prompts[number], sampling, longest) for number in batch]
        for row in _written(model, rows, sampling, end_ids, pad_id):
            answers[row.number] = row.tokens
    return answers


class _Row:
    """One answer in progress."""

    def __init__(self, number: int, prompt: Sequence[int], sampling: Sampling, longest: int | None) -> None:
        self.number, self.prompt, self.tokens = number, list(prompt), list[int]()
        self.rng = np.random.default_rng(sampling.seed)
        self.room = sampling.max_new_tokens if longest is None else min(sampling.max_new_tokens, longest - len(prompt))


def _reads_near_virtual_tokens(model: Any) -> bool:
    """Whether rows begin with a learned prompt and attention has a window: padding between them would push the prompt out of it."""
    learned = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    config = model.config.get_text_config()
    return learned and any(getattr(config, name, None) for name in ("sliding_window", "window_size", "attention_types"))


def _batches(lengths: Sequence[int], num_new: int, token_budget: int, *, alike: bool = False) -> Iterator[list[int]]:
    """Numbers of prompts of about one length (alike: of one length), as many as fit. A prompt over the budget is a batch of its own."""
    batch: list[int] = []
    for number in map(int, np.argsort([-length for length in lengths], kind="stable")):
        over = batch and (len(batch) + 1) * (lengths[batch[0]] + num_new) > token_budget
        if over or (batch and alike and lengths[number] != lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _written(model: Any, rows: list[_Row], sampling: Sampling, end_ids: frozenset[int], pad_id: int) -> Iterator[_Row]:
    """Rows as they end."""
    device, width = next(model.parameters()).device, max(len(row.prompt) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row.prompt)) + row.prompt for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows], device=device)
    yield from (row for row in rows if row.room <= 0)
    going = [number for number, row in enumerate(rows) if row.room > 0]
    rows, ids, mask = [rows[number] for number in going], ids[going], mask[going]
    step = Continued(model)
    while rows:
        logits_BV = step.logits(ids, mask)
        if step.anew and not mask.all():  # recomputing would include padding in the state: each row by itself
            for row in rows:
                yield from _written(model, [row], sampling, end_ids, pad_id)
            return
        tokens, ended = [], []
        for row, logits_V in zip(rows, logits_BV, strict=True):
            over = bool(row.tokens) and (row.tokens[-1] in end_ids or len(row.tokens) == row.room)
            ended.append(over)
            tokens.append(pad_id if over else next_token(logits_V, sampling, row.rng))
            if not over:
                row.tokens.append(tokens[-1])
                ended[-1] = tokens[-1] in end_ids or len(row.tokens) == row.room
        ids = torch.tensor(tokens, device=device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        if all(ended) or (sum(ended) >= _LEAVE_SHARE * len(rows) and step.rows_can_leave):
            yield from (row for row, over in zip(rows, ended, strict=True) if over)
            left = torch.tensor(
                [number for number, over in enumerate(ended) if not over], dtype=torch.int64, device=device
            )
            rows = [rows[int(number)] for number in left]
            if rows:
                step.keep(left)
                ids, mask = ids[left], mask[left]
