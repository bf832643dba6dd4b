"""Model + rows -> outputs and scores, through the same batches as training.

outputs, losses = model_outputs(model, task, store["test"], encoder, settings=settings)      # a float array per row
task.metrics(task.scores(outputs), store["test"], intervals=True)["metrics"]["accuracy"]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.batching.micro_batches import rows_of
from tunewright.batching.row_context import row_context
from tunewright.batching.store import SplitStore
from tunewright.errors import UserError, quoted
from tunewright.execution.cpu.memory import give_back_fragments
from tunewright.execution.cpu.two_threads import dealt_to_both
from tunewright.metrics.metric import Metric, lower
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.engine import Settings, autocast, make_batch

_WINDOW = 4_096  # rows sorted by length together


_Part = tuple[np.ndarray, list[np.ndarray], dict[str, tuple[float, float]]]
"""Positions of rows, what the model says of each, and the sum and the weight of each loss term."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split: metrics (with `loss`) and whatever else the task tells; and each row's scores."""

    split: str
    num_rows: int
    result: dict[str, Any]
    scores: Any

    @property
    def metrics(self) -> dict[str, Metric]:
        return self.result["metrics"]


def evaluate_split(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    *,
    settings: Settings,
    intervals: bool = False,
) -> Evaluation:
    """Score every row of a split. `loss` is the task's loss per row, without class weights or dropout."""
    outputs, losses = model_outputs(model, task, split, encoder, settings=settings)
    scores = task.scores(outputs)
    result = task.metrics(scores, split, intervals=intervals)
    terms = {f"loss_{term}": loss for term, loss in losses.items()} if len(losses) > 1 else {}
    result["metrics"] = {**lower({"loss": sum(losses.values()), **terms}), **result["metrics"]}
    if intervals:
        _add_written(result, model, task, split, encoder, settings)
    if plain := [name for name, value in result["metrics"].items() if not isinstance(value, Metric)]:
        raise UserError(
            f"the task {task.name} does not say whether more of its metrics is better", found=quoted(plain),
            hint="Let its `metrics` give tunewright.metrics.Metric(value, higher_is_better=…) for each.",
        )  # fmt: skip
    return Evaluation(split.name, len(split), result, scores)


def _add_written(
    result: dict[str, Any], model: nn.Module, task: Task, split: SplitStore, encoder: TextEncoder, settings: Settings
) -> None:
    """What the model writes, beside what it should have."""
    was_training = model.training
    model.eval()
    with autocast(settings):
        found = task.generation_metrics(model, split, encoder)
    model.train(was_training)
    result["metrics"] |= found.pop("metrics", {})
    result |= found


def model_outputs(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    *,
    settings: Settings,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[np.ndarray], dict[str, float]]:
    """(the model's outputs, a float array per row in the split's order; the mean of each loss term over its weight).

    With several ranks each computes a share.
    """
    plain = task.for_evaluation()
    was_training = model.training
    model.eval()
    parts: list[_Part] = []
    done, counting = 0, threading.Lock()

    def compute(positions: np.ndarray) -> _Part:
        nonlocal done
        batch = make_batch(plain, split, positions, encoder, settings)
        with row_context(rows_of(batch, encoder)):
            terms, outputs = plain.loss(model, batch)
        sums = {term: (float(total), float(weight)) for term, (total, weight) in terms.items()}
        part = positions, plain.row_outputs(outputs, batch), sums
        give_back_fragments()
        with counting:
            done += len(positions)
            if progress:
                progress(done)
        return part

    with _forward_only(settings):
        plain = plain.for_step(model, split, np.arange(len(split)), encoder, settings)
        for start in range(0, len(split), _WINDOW):
            window = np.arange(start, min(start + _WINDOW, len(split)))
            pieces = [window[piece] for piece in settings.share(settings.cut(split.lengths[window]))]
            if settings.in_halves and len(pieces) > 1:
                parts += dealt_to_both(pieces, lambda piece: _alone(compute, piece, settings))
            else:
                parts += map(compute, pieces)
    model.train(was_training)
    found: list[Any] = [None] * len(split)
    totals: dict[str, np.ndarray] = {}
    for positions, outputs, sums in settings.gathered(parts):
        for position, output in zip(positions.tolist(), outputs, strict=True):
            found[position] = output
        for term, pair in sums.items():
            totals[term] = totals.get(term, 0.0) + np.array(pair)
    return found, {term: float(total / max(1e-12, weight)) for term, (total, weight) in totals.items()}


@contextmanager
def _forward_only(settings: Settings) -> Iterator[None]:
    """Not inference_mode: what a model keeps between calls (rotary tables that grow) is used in training again."""
    with torch.no_grad(), autocast(settings):
        yield


def _alone(compute: Callable[[np.ndarray], _Part], positions: np.ndarray, settings: Settings) -> _Part:
    """Modes of torch are a thread's own."""
    with _forward_only(settings):
        return compute(positions)
