"""What a run tells its driver: what was decided about its data, notes, the preflight, every step, every evaluation, the result.

class Quiet(Reporter):
    def step(self, step, num_steps): self.losses.append(step.loss)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tunewright import hints
from tunewright.errors import counted
from tunewright.reading.tables import TableLike
from tunewright.reporting.phases import paused
from tunewright.runs.trained import TrainedRun

if TYPE_CHECKING:  # they import torch, which a command that only prints a mistake does not wait for
    from tunewright.evaluation.estimate import Estimate
    from tunewright.evaluation.score_split import Evaluation
    from tunewright.evaluation.scores import Scores
    from tunewright.prediction import Model, Text
    from tunewright.records import AnyPrediction
    from tunewright.runs.decision import Decision
    from tunewright.training.engine import Step
    from tunewright.training.preflight import Preflight
    from tunewright.training.progress import HistoryPoint

TableT = TypeVar("TableT", bound=TableLike)


class Reporter:
    """What a run tells while it goes. A subclass overrides what it is interested in: `tw.train(…, reporter=…)`."""

    def note(self, text: str) -> None: ...

    def decided(self, decision: Decision) -> None: ...

    def before_first_step(self, preflight: Preflight, estimate: Estimate) -> None: ...

    def step(self, step: Step, num_steps: int) -> None: ...

    def evaluated(self, evaluation: Evaluation, step: int, *, is_best: bool, metric: str) -> None: ...

    def finished(self, result: RunResult) -> None: ...


class LineReporter(Reporter):
    """Prints a line on stderr for what was decided, what is worth knowing, and each evaluation."""

    def note(self, text: str) -> None:
        with paused():
            print(text, file=sys.stderr)

    def decided(self, decision: Decision) -> None:
        self.note("\n".join(decision.lines()))

    def evaluated(self, evaluation: Evaluation, step: int, *, is_best: bool, metric: str) -> None:
        metrics = evaluation.metrics
        shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in dict.fromkeys(("loss", metric)) if name in metrics)
        self.note(f"validation after step {step}: {shown}{'  (best so far)' if is_best else ''}")


@dataclass(frozen=True, repr=False)
class RunResult(TrainedRun):
    """A finished run. scores: split -> what `scores.json` holds for it. verdict: kind, reason, advice, kept. history: every evaluation.

    `predict`, `evaluate`, `compare` and `export` do what those of a model from `load` do, with the model as it was saved.
    """

    folder: Path
    scores: dict[str, Scores]
    verdict: dict[str, str]
    history: list[HistoryPoint]
    num_steps: int
    already_finished: bool = False

    @cached_property
    def model(self) -> Model:
        from tunewright.runs.loaded import load

        return load(self.folder)

    @overload
    def predict(self, texts: TableT, *, min_score: float = 0.0) -> TableT: ...
    @overload
    def predict(self, texts: Sequence[Mapping[str, object]], *, min_score: float = 0.0) -> list[dict[str, object]]: ...
    @overload
    def predict(self, texts: Mapping[str, object], *, min_score: float = 0.0) -> dict[str, object]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(
        self, texts: str | Path | Sequence[Path] | Iterable[Text], *, min_score: float = 0.0
    ) -> list[AnyPrediction]: ...
    def predict(self, texts: Any, *, min_score: float = 0.0) -> Any:
        """As `Model.predict`: one prediction per input; rows come back as what they came as, with further columns."""
        return self.model.predict(texts, min_score=min_score)

    @property
    def _split_scores(self) -> Mapping[str, Scores]:
        return self.scores

    @property
    def _folder(self) -> Path:
        return self.folder

    def __repr__(self) -> str:
        advice = " ".join(filter(None, (self.verdict.get("reason", ""), self.verdict.get("advice", ""))))
        verdict = [f"  {advice}"] if advice else []
        return "\n".join([f"Run {self.folder}: {counted(self.num_steps, 'step')}", f"  {self._score_line()}", *verdict])


class Interrupted(Exception):
    """The run was asked to stop and did, after a checkpoint."""

    def __init__(self, signal_number: int, folder: Path, step: int) -> None:
        self.signal_number, self.folder, self.step = signal_number, folder, step
        config = folder / "config.yaml"
        go_on = f"resume with: {hints.train(config)}" if config.is_file() else "the same command continues"
        super().__init__(f"stopped {f'after step {step}' if step else 'before the first step'}; {go_on}")
