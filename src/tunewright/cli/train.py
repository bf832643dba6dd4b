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
        metavar="DATA|CONFIG [KEY=VALUE…]",
        help="A data file, a folder, or a YAML config (of `train` several, in turn); then any config key.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with the scores on stdout.")]


def run(words: Words, as_json: Json = False) -> None:
    """Fine-tune a model: a data file alone is enough. Several configs run in turn. Run it again to resume."""
    configs = configs_from(words)
    from tunewright.flow import check_in_turn, train_in_turn

    check_in_turn(configs)
    from tunewright.cli.progress import ConsoleReporter, say

    reporters: list[ConsoleReporter] = []

    def reporter(config: Any) -> ConsoleReporter:
        if len(configs) > 1:
            say(f"\nRun {len(reporters) + 1} of {len(configs)}: {config.run_folder}")
        reporters.append(ConsoleReporter(summary=not as_json, config=config))
        return reporters[-1]

    results = []
    try:
        for result in train_in_turn(configs, reporter=reporter):
            results.append(_as_json(result))
    finally:
        for one in reporters:
            one.close_line()
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else {"schema": 1, "runs": results}))


def _as_json(result: Any) -> dict[str, Any]:
    facts = {"run": str(result.folder), "steps": result.num_steps, "scores": result.scores, "verdict": result.verdict}
    return {"schema": 1, **facts}


def configs_from(words: list[str]) -> list[Any]:
    """One config, or several YAML files in turn; `key=value` words are laid over each."""
    is_config = [Path(word).suffix in (".yaml", ".yml") and "=" not in word for word in words]
    number = is_config.index(False) if False in is_config else len(words)
    if number < 2:
        return [config_from(words)]
    return [config_from([word, *words[number:]]) for word in words[:number]]


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
    from tunewright.cli.progress import say
    from tunewright.guess import config_for_data

    return config_for_data(first, overrides, note=lambda line: say(f"notice    {line}"))
