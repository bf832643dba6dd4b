"""Ctrl-C and SIGTERM, handled at once and in every phase: a message within a second, the end of the process within ten.

    with handling_signals(by_force=True):         # the command line does this around every verb
        with stop_signals() as stop:       # a run, around its loop: a signal is recorded, and the step is finished first
            for step in steps:
                if stop.signal_number: ...
                with stop.at_once():       # an evaluation: may be interrupted anywhere
                    evaluate(...)

Outside a loop the first signal raises `Stopped` in the main thread, wherever it is: every file is complete or absent, so nothing is
lost. A separate thread prints the message and watches the time, since the main thread may be inside a library for a long time: a
process that has not ended in time is ended by force. A second signal ends it at once. A rank whose launcher is gone ends too.
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
"""A step that takes longer than this after a signal is interrupted between two micro-batches; it will be computed again."""
_LONGEST_SECONDS = 8.0
_LONGEST_SAVING_SECONDS = 25.0
"""While a checkpoint is written, and for ranks, which finish a step together. A machine that is preempted gives 30."""
_FORWARDED_SECONDS = 0.5
"""A parent process (a shell wrapper, a batch system) may forward a signal that we got already: within this time it is not a second one."""
_FORWARDED_TO_RANKS_SECONDS = 2.0
"""A launcher forwards Ctrl-C to its ranks after it has polled them."""


class Stopped(BaseException):
    """The first SIGINT or SIGTERM, raised in the main thread. Not an `Exception`, so that no handler for errors catches it."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(signal.Signals(signal_number).name)


@dataclass
class _State:
    """The signal that this process got, and what it is doing now."""

    signal_number: int = 0
    since: float = 0.0
    is_handled: bool = False
    """Whether signals are handled at all."""
    finishes_step: bool = False
    """The loop checks for signals itself; they are not raised."""
    is_saving: bool = False
    is_announced: bool = False
    keyboard: bool = False
    """Ctrl-C has another meaning here."""


_state = _State()
_announcing = threading.Lock()


class Stop:
    """What a loop checks after every step."""

    @property
    def signal_number(self) -> int:
        return _state.signal_number

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises `Stopped` wherever it arrives; one that came before raises it at the beginning."""
        before, _state.finishes_step = _state.finishes_step, False
        try:
            if _state.signal_number:
                raise Stopped(_state.signal_number)
            yield
        finally:
            _state.finishes_step = before


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM is recorded, for a loop that finishes its step and saves. One that the loop did not check raises `Stopped`."""
    with handling_signals():
        before, _state.finishes_step = _state.finishes_step, True
        try:
            yield Stop()
        finally:
            _state.finishes_step = before
        if _state.signal_number:
            raise Stopped(_state.signal_number)


@contextmanager
def saving() -> Iterator[None]:
    """Inside, a signal leaves more time, because a checkpoint is being written."""
    before, _state.is_saving = _state.is_saving, True
    try:
        yield
    finally:
        _state.is_saving = before


def interrupt_long_step() -> None:
    """Raise `Stopped` if a signal has waited too long for the end of a step. For places where no weight has changed yet."""
    if _state.signal_number and time.monotonic() - _state.since > _LONGEST_STEP_SECONDS:
        raise Stopped(_state.signal_number)


@contextmanager
def handling_signals(*, by_force: bool = False) -> Iterator[None]:
    """Handle SIGINT and SIGTERM inside. Only in the main thread, where signals can be caught; of nested calls only the outermost counts.

    by_force: end the process if it has not ended in time. Not in a process that does other work too (a notebook).
    """
    if _state.is_handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.signal_number, _state.is_handled, _state.is_announced = 0, True, False
    before = {number: signal.signal(number, _handler) for number in _SIGNALS}
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
        _state.signal_number, _state.is_handled = 0, False


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt inside, as in Python: it ends an answer, not the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _state.keyboard = signal.signal(signal.SIGINT, signal.default_int_handler), True
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _state.keyboard = False


def _handler(number: int, _frame: Any) -> None:
    """The handler: the main thread runs it as soon as it is back in Python."""
    if _state.signal_number:
        if _is_second(_state.since):
            os._exit(128 + number)
        return
    _state.signal_number, _state.since = number, time.monotonic()
    _announce(number)
    if not _state.finishes_step:
        raise Stopped(number)


def _is_second(since: float) -> bool:
    """Whether another signal is a second one, or the first one (of that time) forwarded."""
    longest = _FORWARDED_TO_RANKS_SECONDS if "RANK" in os.environ else _FORWARDED_SECONDS
    return time.monotonic() - since > longest


def _watch(reading: int, by_force: bool) -> None:
    """What the thread does: print the message at the first signal, end the process at a second one and when the time is over."""
    launcher = os.getppid() if "RANK" in os.environ else None
    first = 0
    began = 0.0
    while True:
        ready, _, _ = select.select([reading], [], [], 0.25 if first else 1.0)
        for number in os.read(reading, 64) if ready else b"":
            if number == 0:
                return
            if number not in _SIGNALS or (_state.keyboard and number == signal.SIGINT):
                continue
            if first and _is_second(began):  # the main thread may not have seen the first one yet
                _end(first)
            if not first:
                first, began = number, time.monotonic()
                _announce(number)
        if launcher is not None and os.getppid() != launcher:
            _print_line("stopping: the launcher of this process is gone; it writes nothing more.")
            _end(signal.SIGTERM)
        has_more_time = _state.is_saving or (_state.finishes_step and launcher is not None)
        if (
            by_force
            and first
            and time.monotonic() - began > (_LONGEST_SAVING_SECONDS if has_more_time else _LONGEST_SECONDS)
        ):
            _end(first)


def _announce(number: int) -> None:
    """Print the message once: from the thread, or from the main thread if it is faster, so that it comes before what is printed at the end."""
    with _announcing:
        if not _state.is_announced and os.environ.get("RANK", "0") == "0":
            _print_line(f"stopping: {signal.Signals(number).name}; {_what_follows()}")
        _state.is_announced = True


def _what_follows() -> str:
    if _state.is_saving:
        return "the checkpoint is written first."
    if _state.finishes_step:
        return "the current step is finished, then a checkpoint is saved."
    return "finished work is kept, and the same command continues from there."


def _print_line(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{line}\n".encode())


def _end(number: int) -> None:
    """End the process now. Every file is complete or absent."""
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(128 + number)


def _forget_in_child() -> None:
    """A forked child does not wake its parent's thread."""
    if _state.is_handled:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        _state.is_handled = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
