"""tunewright check CONFIG [key=value …]"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import json_text
from tunewright.cli.train import Words, config_from

NAME = "check"


def run(words: Words, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Look for what would go wrong (bad rows, truncation, labels, leakage) without training; exit 1 on findings."""
    from tunewright.cli.progress import say
    from tunewright.findings import find_problems
    from tunewright.ready import refuse_early

    config = config_from(words)
    refuse_early(config, trains=False)
    findings, summary = find_problems(config, say=say)
    if as_json:
        print(json_text({"schema": 1, "findings": findings, "summary": summary}))
    else:
        for split, rows in summary["rows"].items():
            print(f"{split:<12}{rows:>10,} {'row' if rows == 1 else 'rows'}")
        for finding in findings:
            print(f"finding: {finding}")
        for hint in summary["hints"]:
            print(f"hint: {hint}")
        if not findings:
            print("no findings")
    raise typer.Exit(1 if findings else 0)
