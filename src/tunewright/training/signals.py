"""Ctrl-C and SIGTERM let the running step finish; the loop looks at `Stop` after every step.

with stop_signals() as stop:
    for step in steps:
        if stop.signal_number: ...
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Stop:
    signal_number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM lets the step finish; a second one stops at once. Only where signals can be caught."""
    stop = Stop()

    def handle(number: int, _frame: Any) -> None:
        if stop.signal_number:
            os._exit(128 + number)
        stop.signal_number = number

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: a notebook's worker, a web server
        pass
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
