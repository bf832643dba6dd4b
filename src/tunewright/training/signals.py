"""Ctrl-C and SIGTERM, answered at once and in every phase: a line within a second, the end within ten.

    with answering(by_force=True):         # the command line does this around every verb
        with stop_signals() as stop:       # a run, around its loop: here a signal is noted, and the step ends first
            for step in steps:
                if stop.signal_number: ...
                with stop.at_once():       # an evaluation: may be broken off anywhere
                    evaluate(...)

Outside a loop the first signal raises `Stopped` where the main thread stands: all we write is whole or not there, so that nothing
is lost. A thread of its own prints the line and keeps the time, since the main thread may be inside a library for long: what has not
ended by itself is then ended by force. A second signal ends at once. A rank whose launcher is gone ends too.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LONGEST_STEP_SECONDS = 2.0
"""A step that goes on for longer after a signal is broken off between two micro-batches; it will be computed again."""
_LONGEST_SECONDS = 8.0
_LONGEST_SAVING_SECONDS = 25.0
"""For a checkpoint on its way to the disk, and for ranks, which end a step together. A machine that is taken back gives 30."""
_ONE_WISH_SECONDS = 0.5
"""Who starts us (a shell's wrapper, a batch system) passes on what we were told already: that is no second wish."""
_ONE_WISH_OF_RANKS_SECONDS = 2.0
"""A launcher passes Ctrl-C on to its ranks after a look at them."""


class Stopped(BaseException):
    """The first SIGINT or SIGTERM, raised where the main thread stood. No `Exception`: nobody takes it for an error of his own."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(signal.Signals(signal_number).name)


@dataclass
class _Wish:
    """What this process was asked to do, and what it is in the middle of."""

    signal_number: int = 0
    since: float = 0.0
    is_answered: bool = False
    """Are signals caught at all?"""
    ends_step: bool = False
    """The loop looks itself; a signal is not raised."""
    is_saving: bool = False
    is_told: bool = False
    keyboard: bool = False
    """Ctrl-C has another meaning here."""


_wish = _Wish()
_telling = threading.Lock()


class Stop:
    """What a loop looks at after every step."""

    @property
    def signal_number(self) -> int:
        return _wish.signal_number

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Here a signal raises `Stopped` wherever it arrives, and at the beginning one that came before."""
        before, _wish.ends_step = _wish.ends_step, False
        try:
            if _wish.signal_number:
                raise Stopped(_wish.signal_number)
            yield
        finally:
            _wish.ends_step = before


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM is noted, for a loop that ends its step and saves. One that came and was not looked at raises `Stopped`."""
    with answering():
        before, _wish.ends_step = _wish.ends_step, True
        try:
            yield Stop()
        finally:
            _wish.ends_step = before
        if _wish.signal_number:
            raise Stopped(_wish.signal_number)


@contextmanager
def saving() -> Iterator[None]:
    """What is written here may take a while longer, should a signal arrive."""
    before, _wish.is_saving = _wish.is_saving, True
    try:
        yield
    finally:
        _wish.is_saving = before


def break_off_long_step() -> None:
    """Raise `Stopped` where a signal has waited too long for the end of a step. For places at which no weight has changed yet."""
    if _wish.signal_number and time.monotonic() - _wish.since > _LONGEST_STEP_SECONDS:
        raise Stopped(_wish.signal_number)


@contextmanager
def answering(*, by_force: bool = False) -> Iterator[None]:
    """Answer SIGINT and SIGTERM inside. Only in the main thread, where signals can be caught; once, whoever asks first.

    by_force: end the process when it has not ended by itself in time. Not where others (a notebook) live in it.
    """
    if _wish.is_answered or threading.current_thread() is not threading.main_thread():
        yield
        return
    _wish.signal_number, _wish.is_answered, _wish.is_told = 0, True, False
    before = {number: signal.signal(number, _note) for number in _SIGNALS}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, by_force), name="signals", daemon=True)
    watch.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.write(writing, b"\0")
        watch.join()
        os.close(reading)
        os.close(writing)
        _wish.signal_number, _wish.is_answered = 0, False


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt inside, as in Python: it ends an answer, not the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _wish.keyboard = signal.signal(signal.SIGINT, signal.default_int_handler), True
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _wish.keyboard = False


def _note(number: int, _frame: Any) -> None:
    """The handler: the main thread runs it, as soon as it is back in Python."""
    if _wish.signal_number:
        if _is_second(_wish.since):
            os._exit(128 + number)
        return
    _wish.signal_number, _wish.since = number, time.monotonic()
    _answer(number)
    if not _wish.ends_step:
        raise Stopped(number)


def _is_second(since: float) -> bool:
    """Is a further signal a second wish, or the first one (of that time) told again?"""
    longest = _ONE_WISH_OF_RANKS_SECONDS if "RANK" in os.environ else _ONE_WISH_SECONDS
    return time.monotonic() - since > longest


def _watch(reading: int, by_force: bool) -> None:
    """A thread's life: say the line when the first signal arrives, end the process at a second one and when the time is over."""
    launcher = os.getppid() if "RANK" in os.environ else None
    first = 0
    began = 0.0
    while True:
        ready, _, _ = select.select([reading], [], [], 0.25 if first else 1.0)
        for number in os.read(reading, 64) if ready else b"":
            if number == 0:
                return
            if number not in _SIGNALS or (_wish.keyboard and number == signal.SIGINT):
                continue
            if first and _is_second(began):  # the main thread may not have seen the first one yet
                _end(first)
            if not first:
                first, began = number, time.monotonic()
                _answer(number)
        if launcher is not None and os.getppid() != launcher:
            _tell("stopping: the launcher of this process is gone; it writes nothing more.")
            _end(signal.SIGTERM)
        patient = _wish.is_saving or (_wish.ends_step and launcher is not None)
        if by_force and first and time.monotonic() - began > (_LONGEST_SAVING_SECONDS if patient else _LONGEST_SECONDS):
            _end(first)


def _answer(number: int) -> None:
    """The line, once: by the thread, or by the main thread where that is sooner, so that it stands before what the end prints."""
    with _telling:
        if not _wish.is_told and os.environ.get("RANK", "0") == "0":
            _tell(f"stopping: {signal.Signals(number).name}; {_what_comes()}")
        _wish.is_told = True


def _what_comes() -> str:
    if _wish.is_saving:
        return "the checkpoint is written first."
    if _wish.ends_step:
        return "the running step ends, then a checkpoint is saved."
    return "finished work is kept, and the same command continues from there."


def _tell(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{line}\n".encode())


def _end(number: int) -> None:
    """Now. Everything that we write is whole or not there."""
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(128 + number)


def _forget_in_child() -> None:
    """A forked child tells its parent's thread nothing."""
    if _wish.is_answered:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        _wish.is_answered = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
