"""The `tunewright` command: verbs, exit codes, and how errors are printed.

Exit codes: 0 done, 1 findings, 2 the user's mistake, 101 our bug, 130/143 interrupted. Each verb has its own file and imports
heavy libraries only when it runs, so that `--help` is fast.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from tunewright.cli import (
    chat,
    check,
    config,
    demo,
    env,
    evaluate,
    explain,
    export,
    init,
    predict,
    prepare,
    runs,
    tokenizer,
    train,
    verify,
)
from tunewright.cli.options import with_expanded_paths
from tunewright.config.renamed import RenamedKeys
from tunewright.errors import UserError
from tunewright.reporting.display import display_for
from tunewright.reporting.phases import shown_by
from tunewright.training.signals import Stopped, handling_signals

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="From raw text to a fine-tuned language model you can trust, and on to predictions.",
)  # fmt: skip
for verb in (demo, init, train, check, explain, prepare, evaluate, predict, chat, verify, export, runs, config, env):
    app.command(name=verb.NAME)(verb.run)
app.add_typer(tokenizer.app, name=tokenizer.NAME)
for registered in (*app.registered_commands, *tokenizer.app.registered_commands):
    if registered.callback is not None:
        registered.callback = with_expanded_paths(registered.callback)

_BUG = 101
_INTERRUPTED = (130, 143)
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as of other programs when the reader of their output has exited
_NO_SPACE = os.strerror(errno.ENOSPC)
_USERS_TO_FIX = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.EEXIST,
}
"""System errors that the user can fix: permissions, a full disk, a path through a file."""


def main() -> None:
    """Run a verb and exit."""
    try:
        with handling_signals(by_force=True), shown_by(display_for(sys.stderr)):
            code = run()
            if code in _INTERRUPTED or int(os.environ.get("WORLD_SIZE", "1")) > 1:
                _leave_without_teardown(code)
    except Stopped as stopped:  # while the verb was ending
        _leave_without_teardown(128 + stopped.signal_number)
    sys.exit(code)


def run() -> int:
    """Run the verb that `sys.argv` names; gives the exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # we print those of its warnings that matter ourselves
    _open_streams()
    _escape_what_the_terminal_cannot_show()
    with warnings.catch_warnings():
        _show_renamed_keys_as_notices()
        return _run()


def _run() -> int:
    try:
        _require_text(sys.argv[1:])
        app()  # typer reports wrong arguments itself and raises SystemExit
    except SystemExit as done:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer met a closed pipe
            return _BROKEN_PIPE
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Stopped as stopped:
        print(f"interrupted by {stopped}: finished work is kept, and the same command continues.", file=sys.stderr)
        return 128 + stopped.signal_number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in _USERS_TO_FIX:
            return _unexpected(error)
        print(f"error: {error.filename or 'the disk'}: {(error.strerror or '').lower()}.", file=sys.stderr)
        return 2
    except Exception as error:
        if _NO_SPACE in str(error):  # safetensors raises an error of its own
            print(f"error: the disk: {_NO_SPACE.lower()}.", file=sys.stderr)
            return 2
        return _unexpected(error)
    return 0


def _require_text(words: Sequence[str]) -> None:
    """UserError for a word that is not UTF-8: Python holds its bytes as surrogate escapes.

    Under an ASCII locale it does so with every non-ASCII letter too; such words are accepted.
    """
    for number, word in enumerate(words, start=1):
        try:
            os.fsencode(word).decode("utf-8")
        except UnicodeError:
            raise UserError(
                "not text in UTF-8",
                where=f"word {number} of the command",
                found=repr(os.fsencode(word[:100])),
                hint="Write it in UTF-8; rename a file whose name is not.",
            ) from None


def _leave_without_teardown(code: int) -> None:
    """Exit without the interpreter's teardown: gloo's threads sometimes abort it, and it would wait for a library that still computes."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _open_streams() -> None:
    """Open streams that were closed before we began (`>&-`) to nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.BytesIO()))


def _escape_what_the_terminal_cannot_show() -> None:
    """Under LC_ALL=C and the like a letter that cannot be shown is printed as \\xe9 instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="backslashreplace")


def _show_renamed_keys_as_notices() -> None:
    """Warn once per config key with an old name, in one line, without the place in our code that issued the warning."""
    shown = set[str]()
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, RenamedKeys):
            others(message, category, *place, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"notice: {message}", file=sys.stderr)

    warnings.showwarning = show


def _version(asked: bool) -> None:
    if asked:
        from tunewright import __version__

        print(f"tunewright {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From raw text to a fine-tuned language model you can trust, and on to predictions."""


def _unexpected(error: Exception) -> int:
    if type(error).__name__ == "Interrupted":
        print(f"interrupted: {error}", file=sys.stderr)
        return 128 + getattr(error, "signal_number", 2)
    import traceback

    traceback.print_exc()
    print(
        f"\nThis is a bug in tunewright ({type(error).__name__}): please report it with the lines above.",
        file=sys.stderr,
    )
    return _BUG


if __name__ == "__main__":
    main()
