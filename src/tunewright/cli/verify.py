"""tunewright verify RUN"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import Json, Plugins, load_libraries

if TYPE_CHECKING:
    from tunewright.verification import Check

NAME = "verify"


def run(
    target: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, its model/ folder, or an export.")],
    golden: Annotated[
        str | None,
        typer.Option(help="A run (or a golden.json) whose golden examples to compare with, instead of its own."),
    ] = None,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Check that a saved model gives the outputs recorded in training, in every way to load it. Exit code 1 at the first difference."""
    from tunewright.cli.options import json_text

    if golden is None:
        _check_target(target)
    load_libraries()
    from tunewright.verification import run_checks

    checks = []
    for check in run_checks(target, golden_from=golden):
        checks.append(check)
        if not as_json:
            print(line_of(check))
    broken = next((check.broken for check in checks if check.broken), None)
    if as_json:
        print(
            json_text({"schema": 1, "run": target, "ok": broken is None, "checks": [one.as_dict() for one in checks]})
        )
    elif broken is None and any(check.num_rows for check in checks):
        print("Verified: every way to load this model gives the outputs that were recorded in training.")
    elif broken is None:
        print(
            "The files are unchanged since they were written. There are no golden examples here to compare outputs with: name a run with --golden RUN."
        )
    if broken is not None:
        raise typer.Exit(1)


def _check_target(target: str) -> None:
    """UserError for a folder without anything to verify."""
    from pathlib import Path

    from tunewright.artifacts.model_folder import open_saved
    from tunewright.verification import is_target

    if not is_target(Path(target)):
        open_saved(target)  # its error says what is there instead


def line_of(check: Check) -> str:
    """`transformers   ok   16 rows, largest difference 2.1e-07`"""
    if check.broken:
        return f"{check.way:<34} BROKEN   {check.broken.stage}: {check.broken.found}"
    rows = f"{check.num_rows:>3} rows, largest difference {check.difference:.1e}" if check.num_rows else "unchanged"
    return f"{check.way:<34} ok       {rows}" + (f"; {check.note}" if check.note else "")
