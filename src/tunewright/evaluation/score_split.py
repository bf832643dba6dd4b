"""Model + rows -> outputs and scores, through the same batches as training.

outputs, losses = model_outputs(model, task, store["test"], encoder, execution=execution)    # a float array per row
task.metrics(task.scores(outputs), store["test"], intervals=True)["metrics"]["accuracy"]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tunewright.batching.store import SplitStore
from tunewright.errors import UserError, quoted
from tunewright.execution.base import Execution
from tunewright.metrics.metric import Metric, lower
from tunewright.records import Batch
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.forward import forward_rows


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split: metrics (with `loss`) and whatever else the task tells; and each row's scores."""

    split: str
    num_rows: int
    result: dict[str, Any]
    scores: Any

    @property
    def metrics(self) -> dict[str, Metric]:
        found: dict[str, Metric] = self.result["metrics"]
        return found


def evaluate_split(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    *,
    execution: Execution,
    intervals: bool = False,
) -> Evaluation:
    """Score every row of a split. `loss` is the task's loss per row, without class weights or dropout."""
    with phase(f"scoring {split.name}", len(split)) as shown:
        outputs, losses = model_outputs(model, task, split, encoder, execution=execution, progress=shown.reached)
        scores = task.scores(outputs)
        result = task.metrics(scores, split, intervals=intervals)
    terms = {f"loss_{term}": loss for term, loss in losses.items()} if len(losses) > 1 else {}
    result["metrics"] = {**lower({"loss": sum(losses.values()), **terms}), **result["metrics"]}
    if intervals:
        _add_written(result, model, task, split, encoder, execution)
    if plain := [name for name, value in result["metrics"].items() if not isinstance(value, Metric)]:
        raise UserError(
            f"the task {task.name} does not say whether more of its metrics is better", found=quoted(plain),
            hint="Let its `metrics` give tunewright.metrics.Metric(value, higher_is_better=…) for each.",
        )  # fmt: skip
    return Evaluation(split.name, len(split), result, scores)


def _add_written(
    result: dict[str, Any], model: nn.Module, task: Task, split: SplitStore, encoder: TextEncoder, execution: Execution
) -> None:
    """What the model writes, beside what it should have."""
    was_training = model.training
    model.eval()
    with execution.autocast(), phase("writing answers"):
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
    execution: Execution,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[np.ndarray], dict[str, float]]:
    """(the model's outputs, a float array per row in the split's order; the mean of each loss term over its weight)."""
    plain = task.for_evaluation()
    with execution.autocast():
        plain = plain.for_step(model, split, np.arange(len(split)), encoder, execution)

    def compute(batch: Batch) -> tuple[list[np.ndarray], dict[str, tuple[float, float]]]:
        terms, outputs = plain.loss(model, batch)
        sums = {term: (float(total), float(weight)) for term, (total, weight) in terms.items()}
        return plain.row_outputs(outputs, batch), sums

    found, sums_of_batches = forward_rows(
        model,
        encoder,
        execution,
        split.lengths,
        lambda rows: plain.collate(split, rows, encoder, execution.padding),
        compute,
        in_parallel=True,
        progress=progress,
    )
    totals: dict[str, np.ndarray] = {}
    for sums in sums_of_batches:
        for term, pair in sums.items():
            totals[term] = totals.get(term, 0.0) + np.array(pair)
    return found, {term: float(total / max(1e-12, weight)) for term, (total, weight) in totals.items()}
