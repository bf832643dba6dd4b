"""Where a run stands, and when something is due.

due = Due("epoch", plan)
due.after(step=12, last=False)       # True at the end of an epoch
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tunewright.section import Cadence
from tunewright.tokens.plan import Plan


@dataclass
class Progress:
    """What must survive an interruption beside weights and optimizer."""

    step: int = 0
    samples: int = 0
    best_score: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    num_bad_evaluations: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    """Of the steps since the last evaluation, for the training curve."""
    loss_steps: int = 0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Due:
    """Tells after which steps something is due."""

    def __init__(self, every: str | int, plan: Plan) -> None:
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
