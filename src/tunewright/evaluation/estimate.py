"""How long a run will take in total: the remaining steps, every evaluation, baselines, golden examples, and writing files.

    found = estimate(parts, first_step=0, training=42.0)
    found.total, found.scoring       # seconds; with a large test split and few steps, scoring takes most of the time

Scoring is measured on a few rows of the split; the rest is estimated from bytes to write, bytes to read again, and characters of the
baselines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.batching.store import SplitStore
from tunewright.config.run_config import RunConfig
from tunewright.evaluation.scores import MOST_BASELINE_ROWS
from tunewright.preparation import TEST, TRAIN, VALIDATION
from tunewright.reading.unchanged import size_of
from tunewright.records import Batch
from tunewright.settings import Cadence
from tunewright.training.forward import forward_rows

_ROWS_MEASURED = 64
_BYTES_READ, _BYTES_WRITTEN = 25e6, 4e8
"""Per second: of text files whose rows are read again, and of checkpoints, including their hashes."""
_CHARACTERS_OF_TOKEN = 4.5
_LEARNED, _SCORED = 0.6e-6, 0.2e-6
"""Seconds per character of the baselines' texts, on one core."""
_GOLDEN_ROWS = 16
_STATES = 3
"""A checkpoint holds the weights and two moments of each."""


@dataclass(frozen=True)
class Estimate:
    """Seconds. training: the steps; scoring: every evaluation of validation and test; rest: baselines, golden examples, files."""

    training: float
    scoring: float
    rest: float
    rows_scored: Mapping[str, int]

    @property
    def total(self) -> float:
        return self.training + self.scoring + self.rest


def estimate(parts: Any, *, first_step: int, training: float) -> Estimate:
    """The time of a run that is set up. training: seconds of the remaining steps."""
    config: RunConfig = parts.config
    store = parts.prepared.store
    splits = {name: store[name] for name in (VALIDATION, TEST) if name in store.splits}
    if parts.execution.num_ranks > 1 or not splits:
        return Estimate(training, 0.0, _writing(parts, 1), {})
    per_token = _seconds_per_token(parts, next(iter(splits.values())))
    evaluations = _num_due(config.evaluate.every, parts.plan, first_step, training)
    scored = {VALIDATION: evaluations + 1, TEST: 1}
    scoring = sum(per_token * split.lengths.sum() * scored[name] for name, split in splits.items())
    saves = _num_due(config.train.save_every, parts.plan, first_step, training) + evaluations
    rest = _writing(parts, saves) + _of_texts(parts, splits, has_baselines=config.evaluate.baselines)
    longest = int(store[TRAIN].lengths.max())
    rest += 3 * per_token * _GOLDEN_ROWS * longest  # one by one, in fp32
    return Estimate(training, float(scoring), float(rest), {name: len(split) for name, split in splits.items()})


def _num_due(every: str | int, plan: Any, first_step: int, training: float) -> int:
    """How often something happens in the remaining steps, including the last one."""
    cadence, steps = Cadence.parse(every), plan.num_steps - first_step
    if steps <= 0 or cadence.kind == "never":
        return int(steps > 0)
    if cadence.kind == "seconds":
        return 1 + int(training // cadence.amount)
    period = plan.steps_per_epoch if cadence.kind == "epoch" else cadence.amount
    return int(max(1, -(-plan.num_steps // period) - first_step // period))


def _seconds_per_token(parts: Any, split: SplitStore) -> float:
    """Seconds per token of scoring, measured on rows spread over a split."""
    task, encoder, execution = parts.task.for_evaluation(), parts.encoder, parts.execution
    rows = np.linspace(0, len(split) - 1, min(_ROWS_MEASURED, len(split))).astype(int)
    with execution.autocast():
        task = task.for_step(parts.model, split, rows, encoder, execution)

    def compute(batch: Batch) -> tuple[list[Any], None]:
        _, outputs = task.loss(parts.model, batch)
        return task.row_outputs(outputs, batch), None

    def batch_of(positions: np.ndarray) -> Batch:
        batch: Batch = task.collate(split, rows[positions], encoder, execution.padding)
        return batch

    began = time.perf_counter()
    forward_rows(parts.model, encoder, execution, split.lengths[rows], batch_of, compute, in_parallel=True)
    return (time.perf_counter() - began) / max(1, int(split.lengths[rows].sum()))


def _writing(parts: Any, num_saves: int) -> float:
    parameters = list(parts.model.parameters())
    trained = sum(one.numel() for one in parameters if one.requires_grad) * 4
    whole = sum(one.numel() * one.element_size() for one in parameters)
    return float((num_saves * trained * _STATES + 2 * whole) / _BYTES_WRITTEN)


def _of_texts(parts: Any, splits: Mapping[str, SplitStore], *, has_baselines: bool) -> float:
    """Seconds to read the files once more for their texts, and to train and score the baselines."""
    train, tokens = parts.prepared.store[TRAIN], sum(int(split.lengths.sum()) for split in splits.values())
    again = size_of(parts.prepared.files.stamps) / _BYTES_READ
    if not has_baselines or parts.task.gold(train) is None:
        return again
    learned = min(1.0, MOST_BASELINE_ROWS / len(train)) * int(train.lengths.sum())
    return again + (learned * _LEARNED + tokens * _SCORED) * _CHARACTERS_OF_TOKEN
