"""Config, task and token store -> the metric that chooses the best checkpoint, determined before the first step.

best_metric(config.evaluate.metric, task, store)      "f1_macro"; UserError for one that has no value on the validation split
"""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.batching.store import TokenStore
from tunewright.errors import UserError, suggestion
from tunewright.evaluation.score_split import metric_names
from tunewright.preparation import VALIDATION
from tunewright.tasks.base import Task


def best_metric(metric: str, task: Task, store: TokenStore, *, plugins: Sequence[str] = ()) -> str:
    """`metric`, or the one that "auto" stands for. UserError if neither the task nor a plug-in has it, or if it has no value on the validation rows."""
    judges = VALIDATION in store.splits
    # Also for "auto": this imports the plug-ins, so that a missing one is reported before the first step.
    names = [*task.metric_names(), *metric_names(plugins)]
    if metric == "auto":
        return str(task.best_metric_on(store[VALIDATION]) if judges else task.best_metric())
    if metric not in names:
        hint = suggestion(metric, names, "Choose one of them.")
        raise UserError(f"no metric {metric!r}", where="evaluate.metric", found=", ".join(names), hint=hint)
    absent = task.metrics_without_value(store[VALIDATION]) if judges else {}
    if metric in absent:
        raise UserError(
            f"{metric!r} has no value on the validation split: {absent[metric]}", where="evaluate.metric",
            expected=f"one of {', '.join(name for name in names if name not in absent)}",
            hint="Set evaluate.metric=auto, or give a validation split that holds both.",
        )  # fmt: skip
    return metric


def without_value(metric: str, task: Task, store: TokenStore) -> str | None:
    """The message if "auto" falls back to the loss because the task's own metric has no value; else None."""
    if metric != "auto" or VALIDATION not in store.splits:
        return None
    best, absent = task.best_metric(), task.metrics_without_value(store[VALIDATION])
    if best not in absent:
        return None
    return f"{best} has no value on the validation split ({absent[best]}): the best checkpoint is chosen by the loss."
