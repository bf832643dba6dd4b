"""Small checks that several verbs share."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.errors import UserError, check_choice, counted

if TYPE_CHECKING:
    from tunewright.reading import ReadOptions
    from tunewright.saved import SavedModel

PRECISIONS = ("auto", "bf16", "fp32", "fp64")


def _trusted(modules: list[str] | None) -> list[str] | None:
    from tunewright.plugins import trust

    trust(modules or ())
    return modules


Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="MODULE", callback=_trusted, is_eager=True, show_default=False,
        help="A module of yours whose code may run, where the run's task or adapter is one.",
    ),
]  # fmt: skip
"""Modules are trusted as the words are read: a verb need not heed the value."""


NoCheck = Annotated[
    bool,
    typer.Option("--no-check", help="Use the run as it is, also where its files are not those that were saved."),
]


def check_run(run: str, *, precision: str = "auto", no_check: bool = False) -> SavedModel:
    """The trained model in a folder, its files those that were saved. UserError where there is none; imports no torch.

    Whoever loads it afterwards need not check again.
    """
    check_choice("--precision", precision, PRECISIONS)
    from tunewright.saved import open_saved

    saved = open_saved(run)
    if not no_check:
        saved.check(say=notice)
    return saved


def notice(line: str) -> None:
    print(f"notice: {line}", file=sys.stderr)


def check_file(
    saved: SavedModel, file: str, *, labelled: bool, skip_bad_rows: bool, options: ReadOptions | None = None
) -> None:
    """UserError for a file that is not there, or of whose first rows none can be used; imports no torch.

    labelled: it is to be scored. options: how it is read; as the run's own files are where they are not given.
    """
    from tunewright import reading
    from tunewright.reading.locate import locate

    locate(file, options or reading.ReadOptions())
    if skip_bad_rows:
        return
    from tunewright.errors import RowError
    from tunewright.prepare import open_like, options_of_run
    from tunewright.reading.detect import peek

    task = saved.task()
    options = options or options_of_run(saved.folder.parent, file)
    rows, _ = peek(open_like(file, options, task, labelled=labelled))
    reasons = []
    for row in rows:
        try:
            task.to_example(row) if labelled else task.to_input(row)
            return
        except RowError as error:
            reasons.append(error.reason)
    if reasons:
        raise UserError(
            f"{reasons[0]}; so it is with all of the first {counted(len(rows), 'row')}",
            where=rows[0].address,
            mend="Name the columns as in the training file.",
        )


def json_text(value: Any) -> str:
    """One line of JSON; letters as they are where the terminal or file takes UTF-8, else as escapes that JSON knows."""
    takes_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not takes_utf8)
