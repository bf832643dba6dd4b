"""How phases are shown: one live line on a terminal, a bar in a notebook, a plain line every ten seconds in a log.

    with shown_by(display_for(sys.stderr)) ...       # encoding ━━━━━━━╸    12,400/50,000 rows  3,100/s  12s left  0.9 GB

A separate thread draws the line, so that it is updated while a library computes. It always fits: on a narrow screen the bar is left
out first, then memory, details and the rate; name, count and time left stay.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TextIO

import psutil

from tunewright.reporting.phases import BYTES, Phase, is_shown, shown_by

PLAIN_EVERY_SECONDS = 10.0
_LIVE_EVERY_SECONDS = 0.2
_NOTEBOOK_EVERY_SECONDS = 0.5
_SHOWN_AFTER_SECONDS = 0.3
_BAR_WIDTH = 24
_RANK_OF_MEMORY = 3


def clock(seconds: float) -> str:
    """`42s`, `3m07s`, `2h05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def is_live(stream: TextIO | None) -> bool:
    """Whether lines can be redrawn on this stream. None: it is closed."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def in_notebook() -> bool:
    """Whether this process is a notebook kernel that shows HTML."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"


def display_for(stream: TextIO | None) -> PhaseDisplay:
    """The display for a notebook, a terminal or a log, whichever this process writes to."""
    if in_notebook():
        return NotebookDisplay(stream)
    return LiveDisplay(stream) if is_live(stream) else PlainDisplay(stream)


@contextmanager
def progress_shown(wanted: bool | None) -> Iterator[bool]:
    """Phases are shown inside; yields whether they are. None: on a terminal and in a notebook, unless they are shown already."""
    is_wanted = (in_notebook() or is_live(sys.stderr)) if wanted is None else wanted
    if not is_wanted or is_shown():
        yield is_wanted and is_shown()
        return
    with shown_by(display_for(sys.stderr)):
        yield True


# The line


def parts_of(shown: Phase) -> list[tuple[int, str]]:
    """(rank, text) of each part of the line in its order; without enough space, parts of a higher rank are left out first."""
    left = shown.seconds_left
    parts = [(0, shown.name), (0, _count(shown)), (2, shown.detail), (1, _rate(shown))]
    parts += [
        (_RANK_OF_MEMORY, f"{_memory():.1f} GB"),
        (0, f"{clock(left)} left" if left is not None else clock(shown.seconds)),
    ]
    return [(rank, text) for rank, text in parts if text]


def line_of(shown: Phase, width: int | None = None) -> str:
    """The line of a phase, in at most `width` columns of a terminal (a wide character takes two)."""
    parts = parts_of(shown)
    if width is None:
        return "  ".join(text for _, text in parts)
    for most in range(_RANK_OF_MEMORY, -1, -1):
        line = "  ".join(text for rank, text in parts if rank <= most)
        if _cells(line) <= width:
            return line
    name, *rest = [text for rank, text in parts if rank == 0]
    tail = "  ".join(rest)
    return f"{_cut(name, max(1, width - _cells(tail) - 2))}  {tail}" if _cells(tail) + 3 <= width else _cut(tail, width)


def _count(shown: Phase) -> str:
    if shown.unit == BYTES:
        done = _megabytes(shown.done)
        return f"{done} MB" if shown.total is None else f"{done}/{_megabytes(shown.total)} MB"
    if shown.total is None:
        return f"{shown.done:,} {shown.unit}" if shown.done else ""
    whole = f"{shown.total:,}"
    return f"{shown.done:>{len(whole)},}/{whole} {shown.unit}"


def _rate(shown: Phase) -> str:
    rate = shown.rate
    if rate is None or shown.unit not in (BYTES, "rows"):
        return ""
    return f"{_megabytes(rate)} MB/s" if shown.unit == BYTES else f"{rate:,.0f} rows/s"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f}" if count >= 1e7 else f"{count / 1e6:.1f}"


def _memory() -> float:
    return float(psutil.Process().memory_info().rss / 2**30)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    from rich.cells import set_cell_size

    return text if _cells(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


# The displays


class PhaseDisplay:
    """A thread shows the current phase every `_every` seconds; it runs only as long as there is one."""

    _every = PLAIN_EVERY_SECONDS

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._current: Phase | None = None
        self._lock, self._wake = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None

    def changed(self, current: Phase | None, ended: Phase | None) -> None:
        """See `phases.Display`."""
        with self._lock:
            self._current = current
            if ended is not None:
                self.end(ended)
            if current is None:
                self.close()
        if current is None and self._thread is not None:
            self._wake.set()
            self._thread.join()
            self._thread = None
        elif current is not None and self._thread is None:
            self._wake.clear()
            self._thread = threading.Thread(target=self._watch, name="tunewright-progress", daemon=True)
            self._thread.start()

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _watch(self) -> None:
        while not self._wake.wait(self._every):
            with self._lock:
                if self._current is not None:
                    self.show(self._current)

    def show(self, current: Phase) -> None:
        """Show the current state of the phase."""
        self._print(line_of(current))

    def end(self, ended: Phase) -> None:
        """A phase has ended: if it has details, such as the last loss, its last line stays."""
        if ended.detail:
            with self.paused():
                self._print(line_of(ended))

    def close(self) -> None:
        """No phase is running any more."""

    def _print(self, line: str) -> None:
        if self._stream is not None:
            print(line, file=self._stream, flush=True)


class PlainDisplay(PhaseDisplay):
    """For logs: a line every ten seconds."""


class LiveDisplay(PhaseDisplay):
    """For terminals: one line that is redrawn by rich, removed when no phase is running."""

    _every = _LIVE_EVERY_SECONDS

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._live: Any = None

    def show(self, current: Phase) -> None:
        if self._live is None and current.seconds < _SHOWN_AFTER_SECONDS:
            return
        if self._live is None:
            self._live = self._started()
        self._live.update(_Line(current), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            self.close()
            yield

    def _started(self) -> Any:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, highlight=False)
        console.show_cursor = lambda show=True: False  # type: ignore[method-assign] # a process that is killed would leave it hidden
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        live.start()
        return live


class _Line:
    """A phase as rich draws it: its line and, if there is space, a bar before the count."""

    def __init__(self, shown: Phase) -> None:
        self.shown = shown

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width, left = options.max_width, options.max_width - _BAR_WIDTH - 2
        wanted = "  ".join(text for rank, text in parts_of(self.shown) if rank < _RANK_OF_MEMORY)
        if self.shown.total is None or _cells(wanted) > left:
            yield Text(line_of(self.shown, width), no_wrap=True, overflow="ignore")
            return
        name, *rest = line_of(self.shown, left).split("  ", 1)
        row = Table.grid(padding=(0, 2))
        bar = ProgressBar(
            total=max(1, self.shown.total), completed=min(self.shown.done, self.shown.total), width=_BAR_WIDTH
        )
        row.add_row(Text(name, no_wrap=True), bar, Text("".join(rest), no_wrap=True))
        yield row


class NotebookDisplay(PhaseDisplay):
    """For notebooks: one bar that is redrawn in the output of the cell, removed when no phase is running."""

    _every = _NOTEBOOK_EVERY_SECONDS

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._handle: Any = None
        self._shown_at = 0.0

    def show(self, current: Phase) -> None:
        from IPython.display import HTML, display

        if self._handle is None and current.seconds < _SHOWN_AFTER_SECONDS:
            return
        content = HTML(_bar(current))
        if self._handle is None:
            self._handle = display(content, display_id=True)
        else:
            self._handle.update(content)
        self._shown_at = time.monotonic()

    def close(self) -> None:
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(""))
            self._handle = None


def _bar(shown: Phase) -> str:
    text = html.escape(line_of(shown))
    if shown.total is None:
        return f"<pre>{text}</pre>"
    return (
        f'<progress value="{min(shown.done, shown.total)}" max="{max(1, shown.total)}"></progress> <code>{text}</code>'
    )
