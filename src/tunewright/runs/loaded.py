"""`load`: a trained model, ready for use, that knows its run.

run = load("runs/reviews-3fa9c1")
run.predict(["Great film"]), run.metrics["accuracy"], run.export("onnx")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright import prediction
from tunewright.artifacts.model_folder import Run
from tunewright.execution.base import AUTO
from tunewright.files.atomic import read_json
from tunewright.prediction import Model
from tunewright.runs.trained import TrainedRun
from tunewright.training.progress import HistoryPoint, history_of

if TYPE_CHECKING:
    from tunewright.evaluation.scores import Scores


@dataclass(repr=False)
class LoadedRun(Model, TrainedRun):
    """A model, and what can be done with its run. A model folder that stands alone has no scores."""

    @property
    def model(self) -> Model:
        return self

    @property
    def verdict(self) -> dict[str, str]:
        """What the loss curves say: kind, reason, advice."""
        return dict(self._facts.get("verdict", {}))

    @property
    def history(self) -> list[HistoryPoint]:
        """Every evaluation during training, in order; empty for a model folder that stands alone."""
        return history_of(self._facts.get("history", []))

    @property
    def _facts(self) -> dict[str, Any]:
        path = self.folder / "scores.json"
        return read_json(path, having=("splits",)) if path.is_file() else {}

    @property
    def _split_scores(self) -> Mapping[str, Scores]:
        return dict(self._facts.get("splits", {}))

    @property
    def _folder(self) -> Path:
        return self.folder

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n  {self._score_line()}"


def load(
    run: Run, *, device: str = "auto", precision: str = "auto", execution: str = AUTO, plugins: Iterable[str] = (), check: bool = True,
    say: Callable[[str], object] = lambda _: None,
) -> LoadedRun:  # fmt: skip
    """Open a trained model: a run folder, its `model/` folder, or what `train` returned.

    precision: auto (bf16 autocast where the device is fast at it), bf16, fp32 or fp64. execution: auto, or plain: without the fast
    path. plugins: modules of your own whose code may run, where the run's task or adapter is one. check: that the files are those that
    were saved; say: told what else has changed. UserError when there is no model, or it is not what was saved.
    """
    model = prediction.load(
        run, device=device, precision=precision, execution=execution, plugins=plugins, check=check, say=say
    )
    return LoadedRun(**{field.name: getattr(model, field.name) for field in fields(model)})
