"""Model + rows -> outputs and scores, through the same batches as training.

outputs, losses = model_outputs(model, task, store["test"], encoder, execution=execution)    # a float array per row
task.metrics(task.scores(outputs), store["test"], intervals=True)["metrics"]["accuracy"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tunewright.batching.store import SplitStore
from tunewright.errors import UserError, quoted
from tunewright.execution.base import Execution
from tunewright.metrics.metric import Metric, lower
from tunewright.plugins import find
from tunewright.records import Batch
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.forward import forward_rows


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split: metrics (with `loss`) and whatever else the task returns; and each row's scores."""

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
    plugins: Sequence[str] = (),
) -> Evaluation:
    """Score every row of a split. `loss` is the task's loss per row, without class weights or dropout. plugins: metrics in addition to the task's."""
    with phase(f"scoring {split.name}", len(split)) as shown:
        outputs, losses = model_outputs(model, task, split, encoder, execution=execution, progress=shown.reached)
        scores = task.scores(outputs)
        result = task.metrics(scores, split, intervals=intervals)
    terms = {f"loss_{term}": loss for term, loss in losses.items()} if len(losses) > 1 else {}
    result["metrics"] = {**lower({"loss": sum(losses.values()), **terms}), **result["metrics"]}
    for name in plugins:
        result["metrics"] |= _of_plugin(name, Scored(task, split, scores), result["metrics"])
    if intervals:
        _add_written(result, model, task, split, encoder, execution)
    if plain := [name for name, value in result["metrics"].items() if not isinstance(value, Metric)]:
        raise UserError(
            f"the task {task.name} does not say whether higher values of its metrics are better", found=quoted(plain),
            hint="Return tunewright.metrics.Metric(value, higher_is_better=…) for each in its `metrics`.",
        )  # fmt: skip
    return Evaluation(split.name, len(split), result, scores)


@dataclass(frozen=True)
class Scored:
    """The argument of a metric plug-in: one split with its outputs.

    scores: as returned by `task.scores`, in the order of the rows: probabilities `(rows, labels)` in classification, numbers `(rows,
    numbers)` in regression. gold: the right answers, if the task has one per row, else None.
    """

    task: Task
    split: SplitStore
    scores: Any

    @property
    def gold(self) -> np.ndarray | None:
        return self.task.gold(self.split)

    @property
    def labels(self) -> Sequence[str]:
        return self.task.output_names


def _of_plugin(name: str, scored: Scored, known: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics of one plug-in. UserError if it fails, returns something else than Metric values, or a name that is taken."""
    module, where = find("metrics", name), f"evaluate.metrics: {name}"
    try:
        found = dict(module.score(scored))
    except Exception as error:  # a plug-in's own code may raise anything
        raise UserError(f"the metric fails ({type(error).__name__}: {error})", where=where) from error
    if plain := [one for one, value in found.items() if not isinstance(value, Metric)]:
        raise UserError(
            "the metric does not say whether higher values are better", where=where, found=quoted(plain),
            hint="Return tunewright.metrics.Metric(value, higher_is_better=…) for each name in `score`.",
        )  # fmt: skip
    if taken := found.keys() & known.keys():
        raise UserError(
            "the task has a metric of that name", where=where, found=quoted(sorted(taken)), hint="Rename it."
        )
    if other := sorted(found.keys() - set(metric_names([name]))):
        raise UserError(
            "the metric returns names that it does not declare",
            where=where,
            found=quoted(other),
            hint="List them in NAMES of its module.",
        )
    return found


def metric_names(plugins: Sequence[str]) -> list[str]:
    """The metrics of these plug-ins: `NAMES` of their modules, or a module's own name."""
    return [one for name in plugins for one in getattr(find("metrics", name), "NAMES", (name.rpartition(".")[2],))]


def _add_written(
    result: dict[str, Any], model: nn.Module, task: Task, split: SplitStore, encoder: TextEncoder, execution: Execution
) -> None:
    """Add the generated texts, next to the expected ones."""
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
