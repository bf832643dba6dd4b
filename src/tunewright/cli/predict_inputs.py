"""The inputs of `predict` and `chat`: texts of the command line, lines of stdin, rows of a file; each with its address.

    printf 'Great film\\n\\nDull\\n' | tunewright predict RUN -
    Asked("stdin:1", …, Example("Great film")), Asked("stdin:2", …, NoAnswer("blank text")), …

A line of stdin is read in bounded chunks: one that is longer than `data.max_row_bytes` is skipped, not held in memory. Lines that
arrive together are answered together; when the input pauses, what has arrived so far is answered at once.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tunewright.errors import RowError, UserError, counted
from tunewright.reading import Source
from tunewright.reading.columns import is_blank
from tunewright.reading.files import too_large
from tunewright.records import Example, NoAnswer, Reject
from tunewright.tasks.base import Task

BLANK = "blank text"
_CHUNK = 1 << 16
_PAUSE_SECONDS = 0.05
"""The input has paused when no byte arrives for this long: somebody waits for answers."""
_SHOWN = 5
RAISE_LIMIT = "Shorten it, or raise the limit: --max-row-bytes"


@dataclass(frozen=True, slots=True)
class Asked:
    """One input. where: its address, for messages. given: the input itself, as it is shown or written again."""

    where: str
    given: Any
    example: Example | NoAnswer


@dataclass
class BadInputs:
    """Inputs that cannot be predicted: one ends the command; with skip they get empty predictions and are listed at the end."""

    skip: bool
    count: int = 0
    first: list[str] = field(default_factory=list)

    def refuse(self, where: str, reason: str, *, too_long: bool = False) -> None:
        """UserError unless such inputs are skipped."""
        if not self.skip:
            raise UserError(
                reason,
                where=where,
                hint=f"{RAISE_LIMIT if too_long else 'Fix it'}, or skip such inputs: --skip-bad-rows",
            )

    def add(self, where: str, reason: str) -> None:
        """Count an input with an empty prediction."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"  {where}: {reason}")

    def print_summary(self) -> None:
        if self.count:
            more = [f"  and {self.count - _SHOWN:,} more"] if self.count > _SHOWN else []
            print(
                "\n".join([f"{counted(self.count, 'input')} without a prediction:", *self.first, *more]),
                file=sys.stderr,
            )


def arguments(model: Any, texts: Iterable[Any], bad: BadInputs, *, limit: int) -> Iterator[Asked]:
    """Texts of the command line, or pairs. Under LC_ALL=C Python decodes them as ASCII, so their bytes are decoded again."""
    for number, text in enumerate(texts, start=1):
        parts = [os.fsencode(part) for part in (text if isinstance(text, tuple) else (text,))]
        where = "the pair" if isinstance(text, tuple) else f"input {number}"
        decoded = [_decoded(part) for part in parts]
        size = sum(map(len, parts))
        reason = too_large(size, limit) if size > limit else _fault(decoded)
        if reason is not None:
            bad.refuse(where, reason, too_long=size > limit)
            yield Asked(where, text, NoAnswer(reason))
        else:
            given = tuple(decoded) if isinstance(text, tuple) else decoded[0]
            yield Asked(where, given, model.example(given, number))


def stdin_lines(model: Any, stream: BinaryIO, bad: BadInputs, *, limit: int) -> Iterator[Asked | None]:
    """One input per line; a blank one gets an empty prediction. None where the input pauses."""
    for found in bounded_lines(stream, limit):
        if found is None:
            yield None
            continue
        number, raw = found
        where = f"stdin:{number}"
        text = raw if isinstance(raw, int) else _decoded(raw)
        if isinstance(text, str) and not is_blank(text):
            yield Asked(where, text, model.example(text, number))
            continue
        reason = too_large(text, limit) if isinstance(text, int) else _fault([text]) or BLANK
        if reason != BLANK:
            bad.refuse(where, reason, too_long=isinstance(text, int))
        yield Asked(where, text if isinstance(text, str) else None, NoAnswer(reason))


def file_rows(task: Task, source: Source, given: Iterable[Any], bad: BadInputs) -> Iterator[Asked]:
    """Rows of a file as the task reads them. given: the same rows as they will be written again."""
    for row, written in zip(source.rows(), given, strict=True):
        try:
            if isinstance(row, Reject):
                raise RowError(row.reason)
            example = task.to_input(row)
        except RowError as error:
            bad.refuse(row.address, error.reason)
            yield Asked(row.address, written, NoAnswer(error.reason))
        else:
            yield Asked(row.address, written, example)


def bounded_lines(stream: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | int] | None]:
    """(number, line without its end); for a line longer than `limit` bytes (number, its size). None where the input pauses.

    Holds at most `limit` bytes and a chunk in memory.
    """
    number, held, passed = 1, bytearray(), 0  # passed: bytes of a line that is too long, no longer held
    for chunk in _chunks(stream):
        if chunk is None:
            yield None
            continue
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield number, _line(held, end, passed, limit)
            number, passed = number + 1, 0
            held.clear()
        if passed or len(held) + len(rest) > limit + 1:  # a carriage return may be its end
            passed += len(held) + len(rest)
            held.clear()
        else:
            held += rest
    if held or passed:
        yield number, _line(held, b"", passed, limit)


def _line(held: bytearray, end: bytes, passed: int, limit: int) -> bytes | int:
    size = passed + len(held) + len(end)
    if passed or size > limit + 1:
        return size
    line = (bytes(held) + end).removesuffix(b"\r")
    return size if len(line) > limit else line


def _chunks(stream: BinaryIO) -> Iterator[bytes | None]:
    """Bytes as they arrive; None where none arrived for a moment."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, io.UnsupportedOperation):
        while chunk := stream.read(_CHUNK):
            yield chunk
        return
    while True:
        if os.name != "nt" and not select.select([descriptor], [], [], _PAUSE_SECONDS)[0]:
            yield None
        if not (chunk := os.read(descriptor, _CHUNK)):
            return
        yield chunk


def _fault(texts: Iterable[str | None]) -> str | None:
    for text in texts:
        if text is None:
            return "the text is not UTF-8"
        if is_blank(text):
            return BLANK
    return None


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
