"""tunewright check CONFIG [key=value …]"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tunewright.cli.train import Words, config_from

NAME = "check"


def run(words: Words, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Look for what would go wrong (bad rows, truncation, labels, leakage) without training; exit 1 on findings."""
    from tunewright.cli.progress import say
    from tunewright.findings import find_problems

    findings, summary = find_problems(config_from(words), say=say)
    if as_json:
        print(json.dumps({"schema": 1, "findings": findings, "summary": summary}, ensure_ascii=False))
    else:
        for split, rows in summary["rows"].items():
            print(f"{split:<12}{rows:>10,} rows")
        for finding in findings:
            print(f"finding: {finding}")
        if not findings:
            print("no findings")
    raise typer.Exit(1 if findings else 0)
