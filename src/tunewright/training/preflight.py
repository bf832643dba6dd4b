"""Facts about a run before its first step: rows, labels, lengths, cuts, steps, padding, time and memory.

The estimate comes from running the largest micro-batch once, forward and backward, and discarding its gradient.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import psutil
import torch

from tunewright.batching.store import SplitStore
from tunewright.files.user_cache import is_first_time
from tunewright.models.linear import num_weights
from tunewright.training.engine import accumulate_gradient
from tunewright.training.out_of_memory import within_memory

_STEPS_SAMPLED = 64


@dataclass(frozen=True)
class SplitFacts:
    rows: int
    tokens: int
    length_quantiles: dict[str, int]
    """`50%`, `95%`, `max` in tokens, after truncation."""
    cut_rows: int
    cut_tokens: int


@dataclass(frozen=True)
class Preflight:
    """The facts; the command line lays them out in about ten lines."""

    splits: dict[str, SplitFacts]
    task: str
    labels: dict[str, int]
    """Name -> how often it occurs in the training split."""
    stored_as: str
    """What a row of the store is called if it is several rows of the user or a part of one: block, piece, window."""
    answer: str | None
    """The beginning of the first row's answer, in context."""
    max_length: int
    num_parameters: int
    num_trainable: int
    fresh: list[str]
    num_steps: int
    first_step: int
    batch_size: int
    token_budget: int
    padding_share: float
    learning_rates: tuple[float, float]
    precision: str
    device: str
    seconds_left: float
    """Of the steps only."""
    memory_bytes: int
    memory_available: int
    ledger: dict[str, Any]
    notes: list[str]
    store_reused: bool


def preflight(run: Any, *, first_step: int = 0) -> Preflight:
    """The facts about a run that is set up. UserError if its largest micro-batch does not fit into memory."""
    store, manifest, execution = run.prepared.store, run.prepared.manifest, run.execution
    split = store["train"]
    sampled = np.linspace(0, run.plan.steps_per_epoch - 1, min(_STEPS_SAMPLED, run.plan.steps_per_epoch)).astype(int)
    real = padded = 0
    for step in sampled:
        lengths = split.lengths[run.plan.rows_of_step(int(step))[1]]
        for piece in filter(len, chain.from_iterable(execution.split(lengths))):
            real += int(lengths[piece].sum())
            padded += execution.num_computed(lengths[piece], execution.padding.width(lengths[piece], run.encoder))
    notes: list[str] = []
    seconds, memory = _largest(run, split, notes)
    left = run.plan.num_steps - first_step
    parameters = list(run.model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Preflight(
        splits={name: _facts(store[name], manifest["splits"][name]) for name in store.splits},
        task=manifest["task"],
        labels=run.task.label_counts(split),
        answer=run.task.answer_shown(split, run.encoder),
        stored_as=run.task.stored_as,
        max_length=run.encoder.max_length,
        num_parameters=sum(num_weights(p) for p in parameters),
        num_trainable=trainable,
        fresh=run.fresh,
        num_steps=run.plan.num_steps,
        first_step=first_step,
        batch_size=run.plan.batch_size,
        token_budget=execution.token_budget,
        padding_share=1 - real / max(1, padded),
        learning_rates=run.rates,
        precision=execution.precision,
        device=str(execution.device),
        seconds_left=left * (seconds * (padded / len(sampled)) + trainable * 2e-9),
        memory_bytes=memory + trainable * 8,
        memory_available=_available(execution.device),
        ledger=manifest["ledger"],
        notes=[
            *manifest["notes"],
            *notes,
            *run.task.data_warnings(store),
            *run.task.findings(store),
            *manifest["tokenizer"]["findings"],
            *_new_hints(run, manifest["tokenizer"]["hints"]),
        ],
        store_reused=run.prepared.reused,
    )


def _new_hints(run: Any, hints: list[str]) -> list[str]:
    """The hints that were not yet shown on this machine for this tokenizer. A hint is identified by its text before the share of letters: `(4.1% …`."""
    if not run.processes.is_main:
        return []
    tokenizer = run.prepared.model.tokenizer_hash()
    return [hint for hint in hints if is_first_time("tokenizer", tokenizer, hint.partition(" (")[0])]


def _facts(split: SplitStore, counted: dict[str, Any]) -> SplitFacts:
    quantiles = np.quantile(split.lengths, [0.5, 0.95, 1.0], method="higher")
    return SplitFacts(
        rows=len(split),
        tokens=counted["tokens"],
        length_quantiles=dict(zip(("50%", "95%", "max"), map(int, quantiles), strict=True)),
        cut_rows=counted["cut_rows"],
        cut_tokens=counted["cut_tokens"],
    )


def _largest(run: Any, split: SplitStore, notes: list[str]) -> tuple[float, int]:
    """(seconds per padded token, bytes of memory) of the micro-batch with the longest rows, or of those that are computed at the same time.

    The model is not changed. notes: a line is added for every time the micro-batch was made smaller to fit.
    """
    execution = run.execution
    if execution.num_ranks > 1:
        return 0.0, _used(execution.device)
    longest = np.argsort(-split.lengths, kind="stable")[: run.plan.batch_size]
    rows = longest[np.concatenate([pieces[0] for pieces in execution.split(split.lengths[longest])])]
    weights = run.task.for_epoch(seed=run.plan.seed, epoch=0).weights(split)
    was_training = run.model.training
    run.model.train()
    times = []
    gradient = partial(
        accumulate_gradient, run.model, run.task, split, run.encoder, rows, weights,
        seed=run.plan.seed, epoch=0, step=0, execution=execution,
    )  # fmt: skip
    for _ in range(2):
        began = time.perf_counter()
        done = within_memory(
            gradient, execution, longest=int(split.lengths[rows].max()), clear=run.model.zero_grad, say=notes.append
        )
        times.append((time.perf_counter() - began) / done.num_padded_tokens)
    memory = _used(execution.device)
    run.model.zero_grad(set_to_none=execution.device.type != "cpu")
    run.model.train(was_training)
    return min(times), memory


def _used(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
