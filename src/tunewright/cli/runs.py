"""tunewright runs [--folder] · tunewright runs compare A B"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
        _compare(words[1], words[2], as_json=as_json)
        return
    from tunewright.runs.comparison import facts_of_run

    found = [facts_of_run(path.parent) for path in sorted(Path(folder).glob("*/config.yaml"))]
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
    """The metric that chose the best checkpoint (another one if that was the loss), and the loss."""
    from tunewright.runs.comparison import shown

    others = [name for name in scores if not name.startswith("loss")]
    name = metric if metric in others else next(iter(others), None)
    loss = scores.get("loss", scores.get("log_loss"))
    return ["-" if name is None else f"{name} {shown(scores[name])}", shown(loss)]


def _compare(a: str, b: str, *, as_json: bool) -> None:
    from tunewright.runs.comparison import compare

    found = compare(a, b)
    if as_json:
        print(json.dumps({"schema": 1, "runs": found.runs, "config": found.config, "scores": found.scores}))
        return
    from tunewright.cli.progress import print_table

    print_table(["", *found.runs], found.rows())
