"""tunewright runs [--folder] · tunewright runs compare A B"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright import hints
from tunewright.cli.options import Json, Plugins

NAME = "runs"


def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[compare A B]", help="Compare the configs and scores of two run folders."),
    ] = None,
    folder: Annotated[str, typer.Option(help="Where the runs are.")] = "runs",
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """List past runs and their scores, or compare two of them."""
    from tunewright.errors import UserError

    if words:
        if words[0] != "compare" or len(words) != 3:
            raise UserError("compare takes two runs", found=" ".join(words), expected=hints.runs_compare())
        _compare(*(_facts(Path(word)) for word in words[1:]), as_json=as_json)
        return
    found = [_facts(path.parent) for path in sorted(Path(folder).glob("*/config.yaml"))]
    if as_json:
        print(json.dumps({"schema": 1, "runs": found}))
        return
    if not found:
        print(f"No runs in {folder}/.")
        return
    from tunewright.cli.progress import print_table

    columns = ["run", "task", "model", "state", "score", "loss"]
    print_table(
        columns, [[*(one[name] for name in columns[:4]), *_headline(one["scores"], one["metric"])] for one in found]
    )
    if size := sum(file.stat().st_size for file in (Path(folder) / ".store").rglob("*") if file.is_file()):
        print(
            f"\nTheir token stores use {size / 2**20:,.0f} MB in {folder}/.store. You may delete it: runs rebuild what they need."
        )


def _headline(scores: dict[str, float], metric: str | None) -> list[str]:
    """The metric that chose the best checkpoint (another one where that was the loss), and the loss."""
    others = [name for name in scores if not name.startswith("loss")]
    name = metric if metric in others else next(iter(others), None)
    loss = scores.get("loss", scores.get("log_loss"))
    return ["-" if name is None else f"{name} {_shown(scores[name])}", _shown(loss)]


def _shown(score: float | None) -> str:
    return "-" if score is None or not math.isfinite(score) else f"{score:.4f}"


def _facts(path: Path) -> dict[str, Any]:
    from tunewright.artifacts.run_files import changed_run_files
    from tunewright.config.load import load_config
    from tunewright.errors import UserError
    from tunewright.files.atomic import read_json
    from tunewright.files.manifests import what_of

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
            + "".join(f", {name} {what_of(path, name)}" for name in changed_run_files(path)),
            "metric": saved.get("metric"),
            "scores": saved["splits"][split]["metrics"] if split else {},
        }
    return facts


def _compare(a: dict[str, Any], b: dict[str, Any], *, as_json: bool) -> None:
    from tunewright.runs.resume import flat

    before, after = flat(a["config"]), flat(b["config"])
    changed = {key: [before.get(key), after[key]] for key in after if before.get(key) != after[key] and key != "output"}
    scores = {key: [a["scores"][key], b["scores"][key]] for key in a["scores"] if key in b["scores"]}
    if as_json:
        print(json.dumps({"schema": 1, "runs": [a["run"], b["run"]], "config": changed, "scores": scores}))
        return
    from tunewright.cli.progress import print_table

    rows = [[key, *map(str, values)] for key, values in changed.items()]
    rows += [[key, *map(_shown, values)] for key, values in scores.items()]
    print_table(["", a["run"], b["run"]], rows)
