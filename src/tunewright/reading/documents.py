"""Lines of a text file -> documents: a line each, a paragraph each, or the whole file in pieces.

    "First Citizen:\\nBefore we proceed\\n\\nAll:\\nSpeak"      paragraph     [(1, "First Citizen:\\nBefore we proceed"), (4, "All:\\nSpeak")]
                                                            file          [(1, "First Citizen:\\nBefore … Speak")]

A file is read in pieces of about 4,000 characters that end where a line ends: memory stays small, and a file alone can still be
split into training and validation rows. `BEGINS` and `ENDS` say whether a piece is the first or the last of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tunewright.reading.files import Line, excerpt, too_large, without_line_end
from tunewright.records import Reject, Row

BEGINS, ENDS = "document_begins", "document_ends"
PIECE_CHARACTERS = 4_000


def paragraphs(lines: Iterable[Line], name: str, *, max_bytes: int) -> Iterator[Row | Reject]:
    """Runs of lines between blank lines, each at its first line. A run with a bad line is one Reject."""
    held: list[Line] = []
    size = 0
    for line in lines:
        number, text, fault = line
        if fault is None and text.isspace():
            if held:
                yield _paragraph(held, name)
            held, size = [], 0
            continue
        size += len(text)
        if size <= max_bytes:
            held.append(line)
        else:  # a file without blank lines must not fill the memory
            held = [(held[0][0] if held else number, text, too_large(size, max_bytes))]
    if held:
        yield _paragraph(held, name)


def _paragraph(lines: Sequence[Line], name: str) -> Row | Reject:
    text = "".join(text for _, text, _ in lines)
    bad = next(((number, fault) for number, _, fault in lines if fault is not None), None)
    return Reject(name, *bad, excerpt(text)) if bad else Row(name, lines[0][0], {"text": without_line_end(text)})


def pieces(lines: Iterable[Line], name: str) -> Iterator[Row | Reject]:
    """The file unchanged, with blank lines, cut after a line wherever a piece is long enough. A bad line ends the current text."""
    text = _Running(name)
    for number, line, fault in lines:
        if fault is None:
            yield from text.add(number, line)
            continue
        yield from text.ended()
        yield Reject(name, number, fault, excerpt(line))
        text = _Running(name)
    yield from text.ended()


class _Running:
    """A text being read. The latest piece is held back until it is known whether it is the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: Row | None = None
        self._parts: list[str] = []
        self._begin, self._size = 0, 0

    def add(self, number: int, line: str) -> Iterator[Row]:
        self._begin = self._begin if self._parts else number
        self._parts.append(line)
        self._size += len(line)
        if self._size >= PIECE_CHARACTERS:
            yield from self._cut(ends=False)

    def ended(self) -> Iterator[Row]:
        rest = "".join(self._parts)
        if rest.strip():
            yield from self._cut(ends=True)
        elif self._waiting is not None:
            text = f"{self._waiting.fields['text']}{rest}"
            self._waiting = replace(self._waiting, fields={**self._waiting.fields, "text": text, ENDS: True})
        if self._waiting is not None:
            yield self._waiting

    def _cut(self, *, ends: bool) -> Iterator[Row]:
        if self._waiting is not None:
            yield self._waiting
        fields = {"text": "".join(self._parts), BEGINS: self._waiting is None, ENDS: ends}
        self._waiting = Row(self._name, self._begin, fields)
        self._parts, self._size = [], 0
