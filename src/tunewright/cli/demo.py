"""tunewright demo [NAME] [KEY=VALUE…]"""

from __future__ import annotations

import ast
import csv
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

NAME = "demo"
DEFAULT = "classification"

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME [KEY=VALUE…]", help=f"Which demo. Default: {DEFAULT}. Then any config key."),
]


def run(
    words: Words = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="The same as NAME.")] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help=f"Folder to write. Default: runs/demo-NAME (runs/demo for {DEFAULT})."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the demos.")] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FOLDER", help="Only copy the included data there, to try things on."),
    ] = None,
) -> None:
    """Train a real model on included data, offline, in a minute or two, and show its scores. Exit code 1 if they are too low."""
    if listed:
        print("\n".join(f"{name:<16} {about(name)}" for name in demo_names()))
        return
    if data is not None:
        print("\n".join(str(path) for path in copied(Path(data))))
        return
    name, overrides = chosen(words or [], task)
    folder = output or ("runs/demo" if name == DEFAULT else f"runs/demo-{name}")
    from tunewright.plugins import find

    if not find("demos", name.replace("-", "_")).run(folder, overrides):
        raise typer.Exit(1)


def chosen(words: list[str], task: str | None) -> tuple[str, list[str]]:
    """(the demo's name, `key=value` words). UserError for an unknown demo, or for two."""
    from tunewright.errors import UserError, check_choice

    named = [word for word in words if "=" not in word]
    every = [*named, *([task] if task is not None else [])]
    if len(set(every)) > 1:
        raise UserError(
            "one demo at a time", found=", ".join(every), hint="Name one demo; only key=value words may follow."
        )
    name = every[0].replace("_", "-") if every else DEFAULT
    check_choice("demo", name, demo_names())
    return name, [word for word in words if "=" in word]


def copied(folder: Path) -> list[Path]:
    """The sample data, copied; the customer messages as CSV too. UserError for a file that is there already."""
    from tunewright.errors import UserError

    contents = {
        path.name: path.read_text(encoding="utf-8")
        for path in (files("tunewright") / "samples").iterdir()
        if path.name != "README.md"
    }
    rows = [json.loads(line) for line in contents["customer_messages.jsonl"].splitlines()]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    contents["messages.csv"] = table.getvalue()
    paths = {folder / name: content for name, content in sorted(contents.items())}
    if there := next((path for path in paths if path.exists()), None):
        raise UserError("the file exists", where=str(there), hint="Name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in paths.items():
        path.write_text(content, encoding="utf-8", newline="")
    return list(paths)


def demo_names() -> list[str]:
    """Every demo there is, as it is typed: `three-steps` is the module three_steps."""
    from tunewright.plugins import names

    return [name.replace("_", "-") for name in names("demos")]


def about(name: str) -> str:
    """The first line of a demo's docstring, read from its file: importing it would take seconds. Another package's has none here."""
    path = files("tunewright") / "demos" / f"{name.replace('-', '_')}.py"
    if not path.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0]
