"""tunewright chat RUN [--system TEXT]"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright.cli.options import Device, NoCheck, Plugins, Precision, say

NAME = "chat"
_HELP = "/new starts a new conversation, /quit (or end of input) exits, Ctrl-C stops an answer."


def run(
    run_folder: Annotated[
        str, typer.Argument(metavar="RUN", help="A run of supervised fine-tuning, or its model/ folder.")
    ],
    system: Annotated[str | None, typer.Option(help="System prompt. Default: none.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Maximum number of tokens of an answer. Default: 512.", min=1)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; 0 is greedy. Default: 0.", min=0)
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most probable tokens.", min=1)] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Sample from the most probable tokens that together reach probability p.", min=0, max=1),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling. Default: 0.", min=0)] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Chat with a fine-tuned model, in the template it was trained with. Each line is a turn; answers appear as they are generated."""
    from tunewright.cli.options import check_run, with_sampling
    from tunewright.errors import UserError

    saved = check_run(run_folder, precision=precision, no_check=no_check)
    from tunewright.cli.progress import try_it
    from tunewright.errors import with_article

    if not saved.task().chats:
        raise UserError(
            f"{with_article(saved.facts['task'])} model does not chat",
            where=run_folder,
            hint=f"Use it with `{try_it(Path(run_folder))}`.",
        )
    from tunewright.prediction import load

    model = load(run_folder, precision=precision, device=device, check=False)
    model = with_sampling(
        model, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    if sys.stdin.isatty():
        say(_HELP)
    from tunewright.preparation import options_of_run
    from tunewright.training.signals import keyboard_interrupts

    limit = options_of_run(saved.folder.parent, "").max_row_bytes
    with keyboard_interrupts():
        for piece in talk(model, _turns(limit), system=system):
            print(piece, end="", flush=True)


def talk(model: Any, turns: Iterator[str], *, system: str | None = None) -> Iterator[str]:
    """The answers to a user's turns, piece by piece, each ended by a line break. Earlier turns are kept while they fit.

    An interrupt during an answer ends that answer; the part that was written is kept in the conversation.
    """
    from tunewright.chat.messages import ASSISTANT, SYSTEM, USER, Conversation, Message
    from tunewright.errors import counted

    first = (Message(SYSTEM, system),) if system else ()
    history = first
    for turn in turns:
        if turn.strip() == "/new":
            history = first
            continue
        asked, num_left_out, num_cut = model.trim_history(Conversation((*history, Message(USER, turn))))
        if num_left_out:
            say(f"left out the oldest {counted(num_left_out, 'turn')}, to leave room for the answer")
        if num_cut:
            say(f"cut the first {counted(num_cut, 'token')}: the text is too long")
        answer = ""
        try:
            for piece in model.reply(asked):
                answer += piece
                yield piece
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
        yield "\n"
        if answer:  # a turn without an answer is not kept
            history = (*asked.messages, Message(ASSISTANT, answer))


def _turns(limit: int) -> Iterator[str]:
    """Lines of the input that are not blank. limit: bytes of the longest line; a longer one is skipped with a message, or is a
    UserError where stdin is not a terminal."""
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
                too_large(raw, limit), where=f"stdin:{number}", hint="Shorten it, or raise data.max_row_bytes in the run's config.yaml."
            )  # fmt: skip
        if isinstance(raw, int):
            say(f"skipped: {too_large(raw, limit)}")
            _prompt()
            continue
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            say("skipped: the text is not UTF-8")
            _prompt()
            continue
        if line.strip() == "/quit":
            return
        if line.strip() == "/help":
            say(_HELP)
        elif line.strip():
            yield line
        _prompt()


def _prompt() -> None:
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
