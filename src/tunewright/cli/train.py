"""tunewright train DATA.csv | CONFIG.yaml [key=value …]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

NAME = "train"
SETTINGS = {"ignore_unknown_options": False}

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA|CONFIG [KEY=VALUE…]", help="A data file, a folder, or a YAML config; then any config key."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with the scores on stdout.")]


def run(words: Words, as_json: Json = False) -> None:
    """Fine-tune a model: a data file alone is enough. Run it again to resume."""
    config = config_from(words)
    from tunewright.cli.progress import ConsoleReporter
    from tunewright.run import train

    reporter = ConsoleReporter(summary=not as_json)
    try:
        result = train(config, reporter=reporter)
    finally:
        reporter.close_line()
    if as_json:
        print(
            json.dumps(
                {
                    "schema": 1,
                    "run": str(result.folder),
                    "steps": result.num_steps,
                    "scores": result.scores,
                    "verdict": result.verdict,
                }
            )
        )


def config_from(words: list[str]) -> Any:
    """The RunConfig of a data file or a YAML config, with `key=value` words laid over it."""
    from tunewright.config import load_config
    from tunewright.errors import UserError

    first, *overrides = words
    if "=" in first and not Path(first).exists():
        raise UserError("no data file or config", found=first, mend="Write: tunewright train DATA.csv key=value …")
    if Path(first).suffix in (".yaml", ".yml"):
        return load_config(first, overrides)
    if Path(first).is_dir() and (Path(first) / "config.yaml").is_file():
        return load_config(Path(first) / "config.yaml", overrides)
    from tunewright.guess import config_for_data

    return config_for_data(first, overrides)
