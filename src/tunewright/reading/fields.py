"""Physical lines -> records of cells, so that one bad quote costs one row and never the rest of the file.

    'ham,"two\\n', 'lines"\\n'                   ['ham', 'two\\nlines']
    'a,"open\\n', 'b,c\\n'  (then the end)       fault: the quote opened here is never closed, then ['b', 'c']

Python's `csv` in strict mode does the parsing. When a quote does not close, or closes before other text, the line
where it opened is rejected and the lines after it are read again: one by one up to where the error showed, then as
before. A line that opens a quote inside that stretch would run into the same error, so the work stays linear.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator

from tunewright.reading.files import Line, without_line_end

Record = tuple[list[Line], list[str] | None, str | None]
"""(its physical lines, its cells, its fault): either cells or a fault."""

NEVER_CLOSED = "the quote opened here is never closed"


def unquoted(lines: Iterator[Line], delimiter: str) -> Iterator[Record]:
    """Records of a table in which quotes have no meaning: one per line."""
    for line in lines:
        text, fault = without_line_end(line[1]), line[2]
        yield [line], None if fault else text.split(delimiter) if text else [], fault


def records(lines: Iterator[Line], delimiter: str, limit: int) -> Iterator[Record]:
    """Every record, in order; each physical line belongs to exactly one. A blank line is a record without cells.

    `lines` must be an iterator; `limit`: characters that a record over several lines may have.
    """
    csv.field_size_limit(2**31 - 1)
    for line in lines:
        _, text, fault = line
        if '"' not in text:
            text = without_line_end(text)
            yield [line], None if fault else text.split(delimiter) if text else [], fault
            continue
        again: Line | None = line
        while again is not None:
            again = yield from _quoted(again, lines, delimiter, limit, after_error=again is not line)


def _quoted(
    line: Line, lines: Iterator[Line], delimiter: str, limit: int, after_error: bool
) -> Generator[Record, None, Line | None]:
    """Yields the record that begins at `line`; returns the line to read again where its quote does not close."""
    text, fault = line[1], line[2]
    if is_cut(line):
        yield [line], None, fault
        return None
    cells, wrong = _alone(text, delimiter)
    if wrong == NEVER_CLOSED:
        return (yield from _over_lines(line, lines, delimiter, limit))
    if after_error and text.count('"') % 2:
        wrong = "this line ends a quoted field that is broken on an earlier line"
    fault = fault or wrong
    yield [line], None if fault else cells, fault
    return None


def _over_lines(first: Line, lines: Iterator[Line], delimiter: str, limit: int) -> Generator[Record, None, Line | None]:
    """The record whose quote is still open at the end of `first`; the module header says what happens if it never closes."""
    held, ended = [first], False

    def texts() -> Iterator[str]:
        nonlocal ended
        yield _hide_returns(first[1])
        size = len(first[1])
        for line in lines:
            held.append(line)
            size += len(line[1])
            if size > limit or is_cut(line):
                return
            yield _hide_returns(line[1])
        ended = True

    try:
        cells = next(csv.reader(texts(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        again = None if ended else held.pop()
        yield [first], None, _reason(error, again, limit)
        for line in held[1:]:
            alone, fault = _alone(line[1], delimiter)
            fault = line[2] or fault
            yield [line], None if fault else alone, fault
        return again
    fault = next((line[2] for line in held if line[2]), None)
    yield held, None if fault else [cell.replace("\0", "\r") for cell in cells], fault
    return None


def _alone(text: str, delimiter: str) -> tuple[list[str] | None, str | None]:
    """One line by itself: its cells, or what is wrong with it."""
    returns = "\r" in text
    try:
        cells = next(csv.reader((_hide_returns(text) if returns else text,), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None, NEVER_CLOSED
        return None, "text after a closing quote; a quote inside a quoted field must be doubled"
    return [cell.replace("\0", "\r") for cell in cells] if returns else cells, None


def _reason(error: csv.Error, again: Line | None, limit: int) -> str:
    if again is None:
        return NEVER_CLOSED
    if "unexpected end" in str(error):
        return f"{NEVER_CLOSED} (within {limit:,} bytes)"
    return f"the quote opened here is not closed properly: line {again[0]} has text after a quote"


def _hide_returns(text: str) -> str:
    """csv would end the row at a lone `\\r`: it is replaced by NUL, which no valid line has."""
    body, end = (text[:-2], "\r\n") if text.endswith("\r\n") else (text, "")
    return body.replace("\r", "\0") + end


def is_cut(line: Line) -> bool:
    """Whether only the beginning of a line was kept, because it is too large: a fault, and no line end."""
    return line[2] is not None and line[1].endswith(" …")
