"""Every line of a tab-separated file -> whether quotes (") around its cells quote them, or are part of their texts.

    'a ""b""' in quotes, or a line end in them          a program quoted this cell: csv, pandas, Excel, R
    'he said "hi"', '"Gimme" he said'                    a program that quotes would have quoted this one: the quotes are text

    "he said \\"hi\\""                                   R's write.table quoted this one: quotes inside have a backslash

Where a file has several of these, or none, the user is asked: a wrong guess would change its texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from tunewright.errors import UserError
from tunewright.files.atomic import file_stamp
from tunewright.reading.fields import Record, records
from tunewright.reading.files import TextFile, without_line_end

_NUMBER = re.compile(r"[+-]?(\d[\d,_]*)?\.?\d*([eE][+-]?\d+)?%?")
_ESCAPED = re.compile(r"(?:^|\t)\"[^\t]*\\\"")
_CLEARLY = 20
"""Cells that need their quotes, per line that contradicts them: above this the line counts as damaged."""
_TAB = "\t"
Quotes = Literal["text", "quoting", "escaped"]
"""text: part of the texts. quoting: around cells, inner quotes doubled. escaped: around cells, inner quotes after a backslash."""


@dataclass
class _Evidence:
    r"""num_needed: cells in quotes that need them; num_doubled: those that hold a quote. num_idle: cells in quotes that need none.
    num_plain: lines that a program which quotes would not have written so; num_escaped: unless it writes \" for a quote.
    num_open: cells in quotes over several lines, each of which would be a row by itself; num_doubtful: those that hold a quote.
    first: the line where the first of each stands."""

    num_needed: int = 0
    num_doubled: int = 0
    num_escaped: int = 0
    num_open: int = 0
    num_doubtful: int = 0
    num_idle: int = 0
    num_plain: int = 0
    first: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, line: int) -> None:
        setattr(self, f"num_{kind}", getattr(self, f"num_{kind}") + 1)
        self.first.setdefault(kind, line)


def quotes_of(file: TextFile, num_comments: int) -> Quotes:
    """Of a tab-separated file as a whole; found once as long as the file stays what it is. UserError where it is not clear."""
    return _found(file, num_comments, file_stamp(file.path))


@lru_cache(maxsize=64)
def _found(file: TextFile, num_comments: int, version: tuple[int, ...]) -> Quotes:
    if not _has_quotes(file):
        return "text"
    evidence = _evidence(file, num_comments)
    if evidence.num_escaped and not evidence.num_doubled and not evidence.num_plain:
        return "escaped"
    evidence.num_plain += evidence.num_escaped
    if not evidence.num_plain:
        evidence.num_needed += evidence.num_doubtful
    if evidence.num_needed >= max(1, _CLEARLY * evidence.num_plain):
        return "quoting"
    if evidence.num_needed == 0 and (evidence.num_plain or not evidence.num_idle + evidence.num_open):
        return "text"
    if evidence.num_needed == evidence.num_open == 0 and _quotes_a_whole_column(file, num_comments):
        return "quoting"
    raise _unclear(evidence, file.name)


def _unclear(evidence: _Evidence, name: str) -> UserError:
    quoted = min(evidence.first[kind] for kind in ("needed", "idle", "open", "doubtful") if kind in evidence.first)
    said = f"a cell in quotes on line {quoted:,}"
    if evidence.num_plain:
        text_line = min(evidence.first[kind] for kind in ("plain", "escaped") if kind in evidence.first)
        said += f", a quote that is part of the text on line {text_line:,}"
    elif evidence.num_open:
        said += " that closes on another line, though each line alone would be a row"
    else:
        said += ", while other cells of its column have none"
    return UserError(
        'it is unclear whether quotes (") in this tab-separated file quote cells or belong to their text',
        where=f"{name}:{quoted}",
        found=said,
        hint="Set data.quoting=true if quotes surround cells (lines that contradict this are rejected), or "
        "data.quoting=false if every quote is part of the text.",
    )


def _has_quotes(file: TextFile) -> bool:
    with file.stream() as (stream, _, _):
        return any(b'"' in block for block in iter(lambda: stream.read(2**20), b""))


def _quoted_records(file: TextFile, num_comments: int) -> Iterator[Record]:
    lines = file.lines()
    for _ in range(num_comments):
        next(lines, None)
    return records(lines, _TAB, file.options.max_row_bytes)


def _evidence(file: TextFile, num_comments: int) -> _Evidence:
    evidence, widths = _Evidence(), Counter[int]()
    for lines, cells, fault in _quoted_records(file, num_comments):
        number, text = lines[0][0], lines[0][1]
        if '"' not in text:
            if cells and len(widths) < 100:
                widths[len(cells)] += 1
            continue
        if cells is None:
            if fault and "quote" in fault:
                evidence.add("escaped" if _ESCAPED.search(text) else "plain", number)
            continue
        width = widths.most_common(1)[0][0] if widths else len(cells)
        raw = without_line_end(text).split(_TAB)
        if len(lines) > 1:
            rows = all(line[1].count(_TAB) + 1 == width > 1 for line in lines)
            holds_quotes = any('"' in cell for cell in cells)
            kind = ("doubtful" if holds_quotes else "open") if rows else "needed"
            evidence.add("plain" if len(cells) != width else kind, number)
        elif len(raw) != len(cells):  # a tab in quotes
            evidence.add("plain" if len(raw) == width else "needed", number)
        else:
            for written, cell in zip(raw, cells, strict=True):
                if written != cell:
                    evidence.add("needed" if '"' in cell or "\r" in cell else "idle", number)
                    evidence.num_doubled += '"' in cell
                elif '"' in cell:
                    evidence.add("plain", number)
    return evidence


def _quotes_a_whole_column(file: TextFile, num_comments: int) -> bool:
    """Where no cell needs its quotes: whether all texts of a column have them (QUOTE_ALL, R), or all those with a comma (Excel)."""
    quoted, bare = Counter[int](), Counter[int]()
    num_without_comma = num_bare_commas = 0
    for count, (lines, cells, _) in enumerate(_quoted_records(file, num_comments)):
        raw = without_line_end(lines[0][1]).split(_TAB)
        for place, (written, cell) in enumerate(zip(raw, cells or (), strict=False)):
            if written != cell:
                quoted[place] += 1
                num_without_comma += "," not in cell
            elif count:  # the first row may be a header without quotes
                num_bare_commas += "," in cell
                bare[place] += _NUMBER.fullmatch(cell) is None
    return not any(bare[place] for place in quoted) or not (num_without_comma or num_bare_commas)
