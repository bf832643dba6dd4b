"""What several verbs share: their common options, checks before anything is loaded, and how they print."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.errors import UserError, check_choice, counted
from tunewright.files.paths import expanded
from tunewright.reporting.phases import paused, phase

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
        help="Trust this module of yours: its code may run as a task or an adapter.",
    ),
]  # fmt: skip
"""Modules are trusted while the command line is parsed: a verb need not use the value."""

NoCheck = Annotated[
    bool,
    typer.Option("--no-check", help="Use the run even if its files have changed since they were saved."),
]
Execution = Annotated[
    str,
    typer.Option(
        callback=_known_execution,
        help="auto: the fast path, if this machine has one; plain: without it. The results are the same within rounding.",
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its model/ folder.")]
Precision = Annotated[str, typer.Option(help="auto, bf16, fp32 or fp64.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]

PATHS = {
    "run_folder", "target", "golden", "data", "file", "output", "folder", "config", "address", "model", "files", "models", "words",
}  # fmt: skip
"""Parameters of verbs that are paths, or lists that may hold some (`key=value` words are expanded where the config is read)."""
_KEY_VALUE = re.compile(r"[A-Za-z_][\w.]*=")


def with_expanded_paths(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, called with `~` and variables in its paths expanded, see `paths.expanded`."""

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        verb(**{name: _expanded(value) if name in PATHS else value for name, value in given.items()})

    return run


def _expanded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_expanded(one) for one in value]
    if isinstance(value, Path):
        return Path(expanded(str(value)))
    if not isinstance(value, str) or (_KEY_VALUE.match(value) and not Path(value).exists()):
        return value
    return expanded(value)


def check_run(run: str, *, precision: str = "auto", no_check: bool = False) -> SavedModel:
    """The trained model in a folder, its files verified. UserError where there is none or a file has changed; imports no torch.

    Whoever loads it afterwards need not check it again.
    """
    check_choice("--precision", precision, PRECISIONS)
    from tunewright.artifacts.model_folder import open_saved

    saved = open_saved(run)
    if not no_check:
        saved.check(say=notice)
    return saved


def say(text: str) -> None:
    """A message to the user, on stderr."""
    with paused():
        print(text, file=sys.stderr)


def load_libraries() -> None:
    """Import the libraries that take seconds to load, with a message meanwhile."""
    with phase("loading PyTorch and Transformers"):
        import torch  # noqa: F401
        import transformers  # noqa: F401


def notice(line: str) -> None:
    say(f"notice: {line}")


def with_sampling(model: Any, **wishes: Any) -> Any:
    """The model, generating as the options say; an option that was not given (None) keeps the model's own setting."""
    given = {name: value for name, value in wishes.items() if value is not None}
    return model.writing(replace(model.sampling, **given)) if given else model


def check_file(
    saved: SavedModel, file: str, *, labelled: bool, skip_bad_rows: bool, options: ReadOptions | None = None
) -> None:
    """UserError for a file that does not exist, or none of whose first rows can be used; imports no torch.

    labelled: it is to be scored. options: how it is read; None: as the run's own files.
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
            f"{reasons[0]}; none of the first {counted(len(rows), 'row')} can be used",
            where=rows[0].address,
            hint="Name the columns as in the training file.",
        )


def json_text(value: Any) -> str:
    """One line of JSON; letters beyond ASCII as they are where stdout takes UTF-8, else as JSON escapes."""
    takes_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not takes_utf8)
