"""tunewright chat RUN [--system TEXT]"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright.cli.options import NoCheck, Plugins

NAME = "chat"
_HELP = "/new begins again, /quit ends (so does the end of the input); Ctrl-C ends an answer."


def run(
    run_folder: Annotated[
        str, typer.Argument(metavar="RUN", help="A run of supervised fine-tuning, or its model/ folder.")
    ],
    system: Annotated[str | None, typer.Option(help="What the system's turn says; none when not given.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="At most so many tokens an answer (512).", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the best token each time (0).", min=0)] = None,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k best.", min=1)] = None,
    top_p: Annotated[float | None, typer.Option(help="Among the fewest that reach p.", min=0, max=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Of what is drawn (0).", min=0)] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32 or fp64.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Talk with a fine-tuned model, in the template it was trained with. A line is a turn; answers are shown as they are written."""
    from dataclasses import replace

    from tunewright.cli.options import check_run
    from tunewright.errors import UserError

    saved = check_run(run_folder, precision=precision, no_check=no_check)
    from tunewright.cli.progress import try_it
    from tunewright.errors import with_article

    if not saved.task().chats:
        raise UserError(
            f"{with_article(saved.facts['task'])} model does not chat",
            where=run_folder,
            hint=f"`{try_it(Path(run_folder))}` uses it.",
        )
    from tunewright.prediction import load

    wishes: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    model = load(run_folder, precision=precision, device=device, check=False)
    model = model.writing(
        replace(model.sampling, **{name: value for name, value in wishes.items() if value is not None})
    )
    if sys.stdin.isatty():
        print(_HELP, file=sys.stderr)
    from tunewright.preparation import options_of_run
    from tunewright.training.signals import keyboard_interrupts

    limit = options_of_run(saved.folder.parent, "").max_row_bytes
    with keyboard_interrupts():
        for piece in talk(model, _turns(limit), system=system):
            print(piece, end="", flush=True)


def talk(model: Any, turns: Iterator[str], *, system: str | None = None) -> Iterator[str]:
    """The answers to a user's turns, piece by piece, a line break behind each. Earlier turns are remembered while they fit.

    An interrupt while an answer is written ends that answer; what was written of it is remembered.
    """
    from tunewright.chat.messages import ASSISTANT, SYSTEM, USER, Conversation, Message
    from tunewright.errors import counted

    first = (Message(SYSTEM, system),) if system else ()
    said = first
    for turn in turns:
        if turn.strip() == "/new":
            said = first
            continue
        asked, num_left_out, num_cut = model.trim_history(Conversation((*said, Message(USER, turn))))
        if num_left_out:
            _note(f"the first {counted(num_left_out, 'turn')} no longer fit beside the answer: left out")
        if num_cut:
            _note(f"too long: its first {counted(num_cut, 'token')} are cut")
        answer = ""
        try:
            for piece in model.reply(asked):
                answer += piece
                yield piece
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
        yield "\n"
        if answer:  # a turn without one is not remembered
            said = (*asked.messages, Message(ASSISTANT, answer))


def _turns(limit: int) -> Iterator[str]:
    """Lines of the input that say something. limit: bytes of the longest one; a longer one is not held, and not asked. UserError
    where nobody sits there who could ask otherwise."""
    from tunewright.cli.predict_inputs import bounded_lines
    from tunewright.errors import UserError
    from tunewright.reading.files import too_large

    _prompt()
    for found in bounded_lines(sys.stdin.buffer, limit):
        if found is None:
            continue
        number, raw = found
        if isinstance(raw, int) and not sys.stdin.isatty():
            raise UserError(
                too_large(raw, limit), where=f"stdin:{number}", hint="Cut it, or raise data.max_row_bytes in the run's config.yaml."
            )  # fmt: skip
        if isinstance(raw, int):
            _note(f"{too_large(raw, limit)}: it is not asked")
            _prompt()
            continue
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            _note("the text is not UTF-8: it is not asked")
            _prompt()
            continue
        if line.strip() == "/quit":
            return
        if line.strip() == "/help":
            _note(_HELP)
        elif line.strip():
            yield line
        _prompt()


def _prompt() -> None:
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)


def _note(text: str) -> None:
    print(text, file=sys.stderr)
