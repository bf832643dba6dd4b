"""tunewright train DATA.csv … | CONFIG.yaml … [key=value …]"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright.cli.options import Plugins, load_libraries

NAME = "train"

_KEY = re.compile(r"[A-Za-z_][\w.]*=")

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA…|CONFIG… [KEY=VALUE…]",
        help="Data files (one training set), a folder, or YAML configs (several run in turn); then any config key.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with the scores on stdout.")]


def run(words: Words, as_json: Json = False, plugin: Plugins = None) -> None:
    """Fine-tune a model: a data file alone is enough. Several configs run in turn. The same command again resumes the run."""
    configs = configs_from(words)
    from tunewright.runs.sequence import check_in_turn, train_in_turn

    check_in_turn(configs)
    load_libraries()
    from tunewright.cli.options import say
    from tunewright.cli.progress import ConsoleReporter

    reporters: list[ConsoleReporter] = []

    def reporter(config: Any) -> ConsoleReporter:
        if len(configs) > 1:
            say(f"\nRun {len(reporters) + 1} of {len(configs)}: {config.run_folder}")
        reporters.append(ConsoleReporter(summary=not as_json, config=config))
        return reporters[-1]

    results = [_as_json(result) for result in train_in_turn(configs, reporter=reporter)]
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else {"schema": 1, "runs": results}))


def _as_json(result: Any) -> dict[str, Any]:
    facts = {"run": str(result.folder), "steps": result.num_steps, "scores": result.scores, "verdict": result.verdict}
    return {"schema": 1, **facts}


def configs_from(words: list[str], *, verb: str = NAME) -> list[Any]:
    """The configs that the words name: all data files are one training set, each YAML file (or run folder) is a config of its own.

    `key=value` words override values of each. UserError where both kinds are named, or neither.
    """
    from tunewright.errors import UserError, quoted
    from tunewright.hints import command

    named, overrides = split_words(words)
    if not named:
        raise UserError(
            "no data file or config",
            found=" ".join(words),
            hint=f"Run: {command(verb, 'DATA.csv')}, followed by any KEY=VALUE words",
        )
    configs = [word for word in named if _is_config(word)]
    data = [word for word in named if not _is_config(word)]
    if configs and data:
        raise UserError(
            "data files and configs cannot be mixed",
            found=f"{quoted(data)} and {quoted(configs)}",
            hint="Name data files (one training set) or configs (run in turn), not both.",
        )
    if configs:
        return [_loaded(word, overrides) for word in configs]
    from tunewright.cli.options import say
    from tunewright.runs.autoconfig import config_for_data

    files = with_globs(data)
    return [
        config_for_data(files[0] if len(files) == 1 else files, overrides, note=lambda line: say(f"notice    {line}"))
    ]


def config_from(words: list[str], *, verb: str = NAME) -> Any:
    """The one RunConfig of data files or a YAML config, with the values of `key=value` words. UserError for several configs."""
    from tunewright.errors import UserError

    configs = configs_from(words, verb=verb)
    if len(configs) > 1:
        raise UserError(f"{verb} takes one config", found=str(len(configs)), hint="Run it for each config in turn.")
    return configs[0]


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """(files, folders and globs; `key=value` words). A word that names an existing file is a file, even if it looks like `key=value`."""
    are_keys = [_KEY.match(word) is not None and not Path(word).exists() for word in words]
    return (
        [word for word, is_key in zip(words, are_keys, strict=True) if not is_key],
        [word for word, is_key in zip(words, are_keys, strict=True) if is_key],
    )


def with_globs(data: list[str]) -> list[str]:
    """The files that match quoted patterns, in order. UserError for a pattern that matches none."""
    from tunewright.reading.locate import matching

    return [file for word in data for file in matching(word)]


def _is_config(word: str) -> bool:
    path = Path(word)
    return path.suffix in (".yaml", ".yml") or (path.is_dir() and (path / "config.yaml").is_file())


def _loaded(word: str, overrides: list[str]) -> Any:
    from tunewright.config.load import load_config

    if Path(word).is_dir():
        return load_config(Path(word) / "config.yaml", overrides, of_run=True)
    return load_config(word, overrides)
