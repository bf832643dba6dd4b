"""Lines of a text file -> documents: a line each, a paragraph each, or the whole file in pieces.

    "First Citizen:\\nBefore we proceed\\n\\nAll:\\nSpeak"      paragraph     [(1, "First Citizen:\\nBefore we proceed"), (4, "All:\\nSpeak")]
                                                            file          [(1, "First Citizen:\\nBefore … Speak")]

A file is read in pieces of about 4,000 characters that end where a line ends: memory stays small, and a file alone can still be
split into training and validation rows. `BEGINS` and `ENDS` say whether a piece is the first or the last of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tunewright.reading.files import Line, shown, without_line_end
from tunewright.records import Reject, Row

BEGINS, ENDS = "document_begins", "document_ends"
PIECE_CHARACTERS = 4_000


def paragraphs(lines: Iterable[Line], name: str) -> Iterator[Row | Reject]:
    """Runs of lines without a blank one among them, at the line where each begins."""
    begin = 0
    parts: list[str] = []
    for number, text, fault in lines:
        if fault is not None:
            yield Reject(name, number, fault, shown(text))
        elif text.isspace():
            if parts:
                yield Row(name, begin, {"text": without_line_end("".join(parts))})
            parts = []
        else:
            begin = begin if parts else number
            parts.append(text)
    if parts:
        yield Row(name, begin, {"text": without_line_end("".join(parts))})


def pieces(lines: Iterable[Line], name: str) -> Iterator[Row | Reject]:
    """The file as it is, blank lines too, cut behind a line wherever a piece is long enough."""
    begin, size = 1, 0
    parts: list[str] = []
    waiting: Row | None = None
    first = True

    def row(fields: dict[str, Any]) -> Row:
        return Row(name, begin, fields)

    for number, text, fault in lines:
        if fault is not None:
            yield Reject(name, number, fault, shown(text))
            continue
        begin = begin if parts else number
        parts.append(text)
        size += len(text)
        if size >= PIECE_CHARACTERS:
            if waiting is not None:
                yield waiting
            waiting = row({"text": "".join(parts), BEGINS: first, ENDS: False})
            first, parts, size = False, [], 0
    if "".join(parts).strip() or waiting is None:
        if waiting is not None:
            yield waiting
        waiting = row({"text": "".join(parts), BEGINS: first, ENDS: True})
    else:
        waiting = Row(
            name, waiting.line, {**waiting.fields, "text": f"{waiting.fields['text']}{''.join(parts)}", ENDS: True}
        )
    yield waiting
