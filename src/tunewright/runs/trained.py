"""A trained run as an object: what `train` gives and what `load` gives do the same things.

    run = train(frame, output="runs/x")        run = load("runs/x")
    run.metrics["accuracy"]                    of the test split
    run.evaluate(other), run.predict(["…"]), run.compare("runs/y"), run.export("onnx")

Nothing of the network is loaded before it is needed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they import torch, and train says what it decided before that
    from tunewright.artifacts.model_folder import Run
    from tunewright.evaluation.scores import Scores
    from tunewright.prediction import Model
    from tunewright.reading import Readable
    from tunewright.runs.comparison import Comparison

_SHOWN = 5


class TrainedRun:
    """What can be done with a run, for those that know its folder and its scores."""

    @property
    @abstractmethod
    def model(self) -> Model:
        """Ready for use; loaded when it is first asked for."""

    @property
    def metrics(self) -> dict[str, float]:
        """Metric -> value, of the test split; of the validation split where there is no test split."""
        split = self._scored_split()
        return dict(self._split_scores[split]["metrics"]) if split else {}

    @property
    @abstractmethod
    def _split_scores(self) -> Mapping[str, Scores]: ...

    @property
    @abstractmethod
    def _folder(self) -> Path: ...

    def evaluate(
        self, data: Readable | None = None, *, split: str = "test", skip_bad_rows: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> Scores:  # fmt: skip
        """Scores on the run's own `split`, or on a file or rows in memory with labels. UserError for bad input."""
        from tunewright.evaluation.score_run import evaluate

        return evaluate(self.model, data, split=split, skip_bad_rows=skip_bad_rows, note=note)

    def compare(self, other: Run) -> Comparison:
        """This run beside another: what of the configs differs, and the scores."""
        from tunewright.artifacts.model_folder import path_of
        from tunewright.runs.comparison import compare

        return compare(self._folder, path_of(other))

    def export(self, to: str, *, output: str | Path | None = None, dtype: str = "fp32") -> Path:
        """Write the model for other programs: merged, onnx, hub-folder. Gives the folder. UserError for what the user can fix."""
        from tunewright.exporters import export

        return export(self._folder, to, output=output, dtype=dtype)

    def _scored_split(self) -> str | None:
        return next((split for split in ("test", "validation") if split in self._split_scores), None)

    def _score_line(self) -> str:
        split = self._scored_split()
        if split is None:
            return "no scores"
        shown = [f"{name} {value:.4f}" for name, value in list(self.metrics.items())[:_SHOWN]]
        return f"{split}: {', '.join(shown)}"

    def _repr_html_(self) -> str:
        from tunewright.evaluation.scores import scores_html

        tables = (scores_html(name, scores) for name, scores in self._split_scores.items())
        return f"<p><b>{self._folder}</b></p>" + "".join(tables)
