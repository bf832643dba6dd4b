"""Small checks that several verbs share."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.errors import UserError, check_choice, counted
from tunewright.files.paths import expanded

if TYPE_CHECKING:
    from tunewright.artifacts.model_folder import SavedModel
    from tunewright.reading import ReadOptions

PRECISIONS = ("auto", "bf16", "fp32", "fp64")


def _known_execution(execution: str) -> str:
    check_choice("--execution", execution, ("auto", "plain"))
    return execution


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
Execution = Annotated[
    str,
    typer.Option(
        callback=_known_execution,
        help="auto: the fast path, where this machine has one; plain: without it. The results are the same within rounding.",
    ),
]


PATHS = {
    "run_folder", "target", "golden", "data", "file", "output", "folder", "config", "address", "model", "files", "models", "words",
}  # fmt: skip
"""Parameters of verbs that are paths, or lists in which some may be (`key=value` words are written out where the config is read)."""
_KEY_VALUE = re.compile(r"[A-Za-z_][\w.]*=")


def with_written_out_paths(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, given its paths with `~` and variables written out, see `paths.expanded`."""

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        verb(**{name: _written_out(value) if name in PATHS else value for name, value in given.items()})

    return run


def _written_out(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_written_out(one) for one in value]
    if isinstance(value, Path):
        return Path(expanded(str(value)))
    if not isinstance(value, str) or (_KEY_VALUE.match(value) and not Path(value).exists()):
        return value
    return expanded(value)


def check_run(run: str, *, precision: str = "auto", no_check: bool = False) -> SavedModel:
    """The trained model in a folder, its files those that were saved. UserError where there is none; imports no torch.

    Whoever loads it afterwards need not check again.
    """
    check_choice("--precision", precision, PRECISIONS)
    from tunewright.artifacts.model_folder import open_saved

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
    from tunewright.preparation import open_like, options_of_run
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
            hint="Name the columns as in the training file.",
        )


def json_text(value: Any) -> str:
    """One line of JSON; letters as they are where the terminal or file takes UTF-8, else as escapes that JSON knows."""
    takes_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not takes_utf8)
