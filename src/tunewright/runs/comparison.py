"""Two runs beside each other: what of their configs differs, and their scores. Behind `tunewright runs compare` and `run.compare(other)`.

found = compare("runs/a", "runs/b")
found.config["train.epochs"], found.scores["accuracy"]      (3.0, 5.0), (0.91, 0.93)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright import hints
from tunewright.artifacts.run_files import changed_run_files
from tunewright.config.load import load_config
from tunewright.errors import UserError
from tunewright.files.atomic import read_json
from tunewright.files.manifests import describe_change
from tunewright.reporting import html
from tunewright.runs.resume import flat

_ROWS_SHOWN = 7


@dataclass(frozen=True, repr=False)
class Comparison:
    """runs: their folders. config: key -> its value in both, where it differs. scores: metric -> both, of the test split if there is one."""

    runs: tuple[str, str]
    config: dict[str, tuple[object, object]]
    scores: dict[str, tuple[float | None, float | None]]

    def rows(self) -> list[list[str]]:
        """For a table: the key or metric, and its values."""
        changed = [[key, *map(str, values)] for key, values in self.config.items()]
        return changed + [[key, *map(shown, values)] for key, values in self.scores.items()]

    def __repr__(self) -> str:
        rows = self.rows()
        lines = [f"{name}: {one} | {other}" for name, one, other in rows[:_ROWS_SHOWN]]
        more = [f"and {len(rows) - _ROWS_SHOWN} more"] if len(rows) > _ROWS_SHOWN else []
        return "\n".join([f"{self.runs[0]} | {self.runs[1]}", *lines, *more])

    def _repr_html_(self) -> str:
        return html.table(["", *self.runs], self.rows())


def compare(a: str | Path, b: str | Path) -> Comparison:
    """UserError where one is no run of ours."""
    return compared(facts_of_run(Path(a)), facts_of_run(Path(b)))


def compared(a: dict[str, Any], b: dict[str, Any]) -> Comparison:
    """Of what `facts_of_run` gives."""
    before, after = flat(a["config"]), flat(b["config"])
    config = {key: (before.get(key), after[key]) for key in after if before.get(key) != after[key] and key != "output"}
    scores = {key: (a["scores"][key], b["scores"][key]) for key in a["scores"] if key in b["scores"]}
    return Comparison((a["run"], b["run"]), config, scores)


def shown(score: float | None) -> str:
    return "-" if score is None or not math.isfinite(score) else f"{score:.4f}"


def facts_of_run(path: Path) -> dict[str, Any]:
    """Its folder, task, model, state, metric, scores and config. UserError where it is no run of ours."""
    if not (path / "config.yaml").is_file():
        raise UserError("not a run of tunewright", where=str(path), hint=f"`{hints.runs()}` lists the runs here.")
    try:
        config = load_config(path / "config.yaml", of_run=True)
    except UserError as error:
        state = str(error).splitlines()[0]
        return {"run": str(path), "task": "-", "model": "-", "state": state, "metric": None, "scores": {}, "config": {}}
    steps = sorted(step.name for step in (path / "checkpoints").glob("step-*"))
    facts = {
        "run": str(path),
        "task": config.task.name,
        "model": config.model.name,
        "state": f"stopped at {steps[-1]}" if steps else "started",
        "metric": None,
        "scores": {},
        "config": config.as_dict(),
    }
    if (path / "scores.json").is_file():
        try:
            saved = read_json(path / "scores.json", having=("splits",))
        except UserError:
            return facts | {"state": "scores.json is damaged"}
        split = "test" if "test" in saved["splits"] else next(iter(saved["splits"]), None)
        facts |= {
            "state": (f"finished, {split}" if split else "finished")
            + ("" if (path / "model").is_dir() else ", no model/")
            + "".join(f", {name} {describe_change(path, name)}" for name in changed_run_files(path)),
            "metric": saved.get("metric"),
            "scores": saved["splits"][split]["metrics"] if split else {},
        }
    return facts
