"""The progress of a run, and when something is due.

due = Due("epoch", plan)
due.after(step=12, last=False)       # True at the end of an epoch
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast

from tunewright.batching.schedule import BatchSchedule
from tunewright.metrics import Metric
from tunewright.settings import Cadence

if TYPE_CHECKING:
    from tunewright.training.engine import Step


class HistoryPoint(TypedDict):
    """An evaluation during training. train_loss: mean over the steps since the previous evaluation. score: of the metric that chooses the checkpoint.

    metrics: every metric of the validation split; empty in runs of versions before 0.2.
    """

    step: int
    samples: int
    epoch: float
    train_loss: float
    validation_loss: float
    score: float
    is_best: bool
    metrics: dict[str, float]


def history_of(points: Iterable[Mapping[str, Any]]) -> list[HistoryPoint]:
    """A history as a checkpoint or `scores.json` holds it; the points of older versions have no metrics."""
    return [cast(HistoryPoint, {"metrics": {}, **point}) for point in points]


@dataclass
class Progress:
    """The state besides weights and optimizer that a resumed run needs."""

    step: int = 0
    samples: int = 0
    best_score: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    num_bad_evaluations: int = 0
    stopped_early: bool = False
    history: list[HistoryPoint] = field(default_factory=list)
    loss_sum: float = 0.0
    """Sum over the steps since the last evaluation, for the training curve."""
    loss_steps: int = 0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def judge(self, score: Metric, loss: float, step: int) -> bool:
        """Record an evaluation; whether it is the best so far. Of equal scores the one with the lower loss is, though it does not count as a better score."""
        sign = 1 if score.higher_is_better else -1
        is_better = self.best_score is None or sign * score > sign * self.best_score
        is_best = is_better or (score == self.best_score and self.best_loss is not None and loss < self.best_loss)
        self.num_bad_evaluations = 0 if is_better else self.num_bad_evaluations + 1
        if is_best:
            self.best_score, self.best_loss, self.best_step = float(score), float(loss), step
        return is_best


class Due:
    """After which steps something is due."""

    def __init__(self, every: str | int, plan: BatchSchedule) -> None:
        self._cadence, self._plan, self._since = Cadence.parse(every), plan, time.monotonic()

    def after(self, step: int, last: bool) -> bool:
        kind, amount = self._cadence.kind, self._cadence.amount
        if last or kind == "never":
            return last
        if kind == "epoch":
            return step % self._plan.steps_per_epoch == 0
        if kind == "steps":
            return step % amount == 0
        if time.monotonic() - self._since < amount:
            return False
        self._since = time.monotonic()
        return True


@dataclass
class Speed:
    """The progress line after the number of the step: the last loss, and tokens per second since this process started."""

    num_tokens: int = 0
    num_padded_tokens: int = 0
    seconds: float = 0.0

    def after(self, step: Step) -> str:
        """`epoch  0.50  loss 0.6123  lr 1.00e-04  5,120 tokens/s  padding 4%`."""
        self.num_tokens += step.num_tokens
        self.num_padded_tokens += step.num_padded_tokens
        self.seconds += step.seconds
        rate, padding = self.num_tokens / self.seconds, 1 - self.num_tokens / self.num_padded_tokens
        learned = f"epoch {step.epoch:5.2f}  loss {step.loss:.4f}  lr {step.learning_rate:.2e}"
        return f"{learned}  {rate:,.0f} tokens/s  padding {padding:.0%}"
