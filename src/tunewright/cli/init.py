"""tunewright init DATA [data.key=value …] [--task --text --pair --label --model -o]"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

NAME = "init"


def run(
    data: Annotated[
        str, typer.Argument(help="A data file, a folder with train/validation/test files, or hub:owner/name.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="data.KEY=VALUE…", help="How the data is read: data.encoding=cp1252."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to learn; told by the columns when not given.")] = None,
    text: Annotated[str | None, typer.Option(help="Text column (several: a,b).")] = None,
    pair: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label: Annotated[str | None, typer.Option(help="Label column (one for each label: a,b).")] = None,
    model: Annotated[str | None, typer.Option(help="Model to start from.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Config file to write.")] = "config.yaml",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Look at the data and write a commented config with the decisions that matter."""
    from tunewright.atomic import refused, write_whole
    from tunewright.errors import UserError
    from tunewright.guess import config_text, guess_config

    path = Path(output)
    if path.exists() and not force:
        raise UserError("the file exists", where=output, mend="Choose another with -o, or overwrite it with --force.")
    if reason := refused(path):
        raise UserError(f"cannot be written ({reason})", where=output, mend="Choose another with -o.")
    if task is not None:
        from tunewright.plugins import check_name

        check_name("tasks", task)
    asked = _asked(data, words or [])
    guess = guess_config(data, task=task, text=_names(text), pair=pair, label=_names(label), model=model, extra=asked)
    content = config_text(guess)
    write_whole(path, content)
    print(content, end="")
    print(f"\nWritten to {path}. Next: tunewright train {path}")


def _names(named: str | None) -> str | list[str] | None:
    """`a,b` -> ['a', 'b']; one name stays one. A name with a comma in it is given as data.text=… or data.label=…"""
    return [name.strip() for name in named.split(",")] if named and "," in named else named


def _asked(data: str, words: list[str]) -> dict[str, Any]:
    """The `data.key=value` words, checked. UserError for words of other sections: they belong to `train`."""
    from tunewright.config import load_config
    from tunewright.errors import UserError

    other = next((word for word in words if not word.startswith("data.")), None)
    if other is not None:
        raise UserError("init takes words of the data section", found=other, mend=f"tunewright train {data} {other}")
    if any(word.startswith("data.train=") for word in words):
        raise UserError(
            "the training data is named already", where="data.train", found=data, mend="Leave data.train out."
        )
    asked = load_config(None, words, base={"data": {"train": data}}).data
    return asked.model_dump(mode="json", include=asked.model_fields_set - {"train"})
