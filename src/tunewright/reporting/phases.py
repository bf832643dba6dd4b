"""Work that takes long is a phase: it has a name, counts what is done, and a display shows it.

    with phase("encoding", total=len(rows), unit="rows") as shown:
        for row in rows:
            ...
            shown.advance()

Code that does the work does not depend on terminals: without a display (`shown_by`) a phase costs one addition per step. Phases are
started and ended by the main thread, and advanced by any thread. A nested phase is shown in place of the outer one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

BYTES = "B"
"""The unit of phases that count what is read from files."""


class Phase:
    """One piece of work. total: the number of `unit`, None if unknown. detail: further information, such as a loss."""

    __slots__ = ("began", "detail", "done", "first", "name", "total", "unit")

    def __init__(self, name: str, total: int | None, unit: str, first: int = 0) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.first = self.done = first
        self.began, self.detail = time.monotonic(), ""

    def advance(self, count: int = 1) -> None:
        self.done += count

    def reached(self, done: int) -> None:
        self.done = done

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def rate(self) -> float | None:
        """Units per second, None if nothing is done yet."""
        return (self.done - self.first) / self.seconds if self.done > self.first and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """None if unknown."""
        if self.total is None or not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate)


class Display(Protocol):
    """Shows phases. `changed` is called when the innermost one changes; in between the display reads it itself."""

    def changed(self, current: Phase | None, ended: Phase | None) -> None:
        """current: the phase that runs now, None if there is none. ended: the phase that has just ended."""

    def paused(self) -> AbstractContextManager[None]:
        """Nothing is shown inside, while a line is printed."""


_display: Display | None = None
_stack: list[Phase] = []


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Inside, phases are shown by this display and no other."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


def is_shown() -> bool:
    """Whether a display shows phases now."""
    return _display is not None


@contextmanager
def phase(name: str, total: int | None = None, unit: str = "rows", *, first: int = 0) -> Iterator[Phase]:
    """A phase inside which work is done. first: how much an earlier process did. Phases of other threads than the main one are not shown."""
    current = Phase(name, total, unit, first)
    if threading.current_thread() is not threading.main_thread():
        yield current
        return
    _stack.append(current)
    _tell(None)
    try:
        yield current
    finally:
        _stack.remove(current)
        _tell(current)


def read_bytes(count: int) -> None:
    """Report that bytes of a file were read: the current phase advances by them if it counts bytes."""
    if _stack and _stack[-1].unit == BYTES:
        _stack[-1].done += count


def paused() -> AbstractContextManager[None]:
    """Around code that prints a line: the progress line is removed and comes back afterwards."""
    return nullcontext() if _display is None else _display.paused()


def _tell(ended: Phase | None) -> None:
    if _display is not None:
        _display.changed(_stack[-1] if _stack else None, ended)
