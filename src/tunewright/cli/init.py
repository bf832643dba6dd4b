"""tunewright init DATA… [KEY=VALUE…] [--task --text --pair --label --model -o]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

NAME = "init"
_SECTIONS = ("data", "model", "task")


def run(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA… [KEY=VALUE…]",
            help="Data files (one training set), a folder with train/validation/test files, or hub:owner/name; "
            "then config keys that say how to read them, such as data.encoding=cp1252.",
        ),
    ],
    task: Annotated[str | None, typer.Option(help="The task. Default: detected from the columns.")] = None,
    text: Annotated[str | None, typer.Option(help="Text column, or several: a,b.")] = None,
    pair: Annotated[str | None, typer.Option(help="Column of the second text of a pair.")] = None,
    label: Annotated[str | None, typer.Option(help="Label column, or one column per label: a,b.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to start from.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Config file to write.")] = "config.yaml",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Detect the task and the columns of your data, and write a commented config to train from."""
    from tunewright.errors import UserError
    from tunewright.files.atomic import refused, write_whole
    from tunewright.hints import train
    from tunewright.runs.autoconfig import config_text, guess_for_data

    path = Path(output)
    if path.exists() and not force:
        raise UserError("the file exists", where=output, hint="Choose another with -o, or overwrite it with --force.")
    if reason := refused(path):
        raise UserError(f"cannot be written ({reason})", where=output, hint="Choose another with -o.")
    if task is not None:
        from tunewright.plugins import check_name

        check_name("tasks", task)
    data, overrides = _divided(words)
    flags = {"task": task, "model": model, "data.text": _names(text), "data.pair": pair, "data.label": _names(label)}
    overrides += [f"{key}={_word(value)}" for key, value in flags.items() if value is not None]
    guess, _ = guess_for_data(data[0] if len(data) == 1 else data, overrides)
    content = config_text(guess)
    write_whole(path, content)
    print(content, end="")
    print(f"\nWritten to {path}. Next: {train(path)}")


def _names(named: str | None) -> str | list[str] | None:
    """`a,b` -> ['a', 'b']; a single name stays as it is. A name that contains a comma is given as data.text=… or data.label=…"""
    return [name.strip() for name in named.split(",")] if named and "," in named else named


def _word(value: str | list[str]) -> str:
    """The right side of a `key=value` word that means exactly this text."""
    return json.dumps(value, ensure_ascii=False)


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """(data files, `key=value` words), checked. UserError for keys of other sections: they belong to `train`."""
    from tunewright.cli.train import split_words, with_globs
    from tunewright.errors import UserError
    from tunewright.hints import init, train

    data, overrides = split_words(words)
    if not data:
        raise UserError("no data file", found=" ".join(words), hint=f"Run: {init()}")
    files = with_globs(data)
    other = next((word for word in overrides if word.split("=")[0].split(".")[0] not in _SECTIONS), None)
    if other is not None:
        hint = f"Give it to train instead: {train(*data, other)}"
        raise UserError("init takes only keys of data, task and model", found=other, hint=hint)
    if config := next((word for word in data if Path(word).suffix in (".yaml", ".yml")), None):
        raise UserError(
            "this is a config",
            where=config,
            hint=f"Train it: {train(config)}. init writes a config for a data file.",
        )
    if any(word.startswith("data.train=") for word in overrides):
        raise UserError(
            "the training data is named twice", where="data.train", found=data[0], hint="Leave data.train out."
        )
    return files, overrides
