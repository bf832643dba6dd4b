"""What a run tells its driver: what was decided about its data, notes, the preflight, every step, every evaluation, the result.

class Quiet(Reporter):
    def step(self, step, num_steps): self.losses.append(step.loss)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright import hints

if TYPE_CHECKING:  # they import torch, which a command that only prints a mistake does not wait for
    from tunewright.evaluation.estimate import Estimate
    from tunewright.evaluation.score_split import Evaluation
    from tunewright.evaluation.scores import Scores
    from tunewright.runs.decision import Decision
    from tunewright.training.engine import Step
    from tunewright.training.preflight import Preflight
    from tunewright.training.progress import HistoryPoint


class Reporter:
    """What a run tells while it goes. Every method may be left as it is; the command line's prints."""

    def note(self, text: str) -> None: ...

    def decided(self, decision: Decision) -> None: ...

    def before_first_step(self, preflight: Preflight, estimate: Estimate) -> None: ...

    def step(self, step: Step, num_steps: int) -> None: ...

    def evaluated(self, evaluation: Evaluation, step: int, *, is_best: bool, metric: str) -> None: ...

    def finished(self, result: RunResult) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """A finished run. scores: split -> what `scores.json` holds for it. verdict: kind, reason, advice, kept. history: every evaluation."""

    folder: Path
    scores: dict[str, Scores]
    verdict: dict[str, str]
    history: list[HistoryPoint]
    num_steps: int
    already_finished: bool = False


class Interrupted(Exception):
    """The run was asked to stop and did, after a checkpoint."""

    def __init__(self, signal_number: int, folder: Path, step: int) -> None:
        self.signal_number, self.folder, self.step = signal_number, folder, step
        config = folder / "config.yaml"
        go_on = f"resume with: {hints.train(config)}" if config.is_file() else "the same command continues"
        super().__init__(f"stopped {f'after step {step}' if step else 'before the first step'}; {go_on}")
