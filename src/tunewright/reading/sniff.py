"""The first lines of a table -> its delimiter, and whether the first row is a header.

'ham\\tOk lar\\r\\n', 'spam\\tFree entry\\r\\n'
TableShape(delimiter='\\t', quoting=False, header=False, num_columns=2, names=None)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.errors import UserError
from tunewright.reading.fields import NEVER_CLOSED, Record, records, unquoted
from tunewright.reading.files import Line
from tunewright.reading.json_values import is_json_object
from tunewright.reading.names import KNOWN, TEXT_TIERS, normalize_name, tier
from tunewright.reading.options import ReadOptions
from tunewright.reading.shares import nearly_all
from tunewright.reading.words import names_words

NUM_SNIFFED = 1000
"""Lines in the sample."""
DELIMITERS = {"csv": ",;\t|", "tsv": "\t,;|"}
_IDENTIFIER = re.compile(r"[^\W\d][\w\-.]*")
_NAME = re.compile(r"[^\W\d][\w\-./#()? ]*")
_NUMBER = re.compile(r"[+-]?(\d[\d,_]*)?\.?\d+([eE][+-]?\d+)?%?")
_BYTE = re.compile(r"byte 0x|character \d+ of the line is not")
_EXCEL = re.compile(r"\ufeff?sep=[,;|\t]\r?\n", re.IGNORECASE)
_ARRAY = re.compile(r"\[\s*\{")
_FEW_LINES = 5
_SURELY = 0.98
_LATE = 100
"""A quote that opens this close to the end of a truncated sample may close after it."""


@dataclass(frozen=True)
class TableShape:
    """How a table is to be read."""

    delimiter: str
    quoting: bool
    header: bool
    num_columns: int
    names: tuple[str, ...] | None
    """The cells of the header row; None without one."""
    guessed: bool = False
    """Whether the header was guessed from how it differs from the rows below: none of its names is known."""


def sniff(lines: Sequence[Line], delimiter: str, quoting: bool, name: str, options: ReadOptions) -> TableShape:
    """The shape of a table from a sample of its lines. Raises UserError where a header may be unreadable."""
    sample = split(lines, delimiter, quoting, options.max_row_bytes)
    _require_encoding(sample, name)
    if options.header is not False:
        _require_first_row(sample, name)
    rows = [cells for _, cells, _ in sample if cells]
    if options.header is not False and _has_row_names(rows):
        rows[0] = ["", *rows[0]]
    header = bool(rows) and (is_header(rows) if options.header is None else options.header)
    width = len(rows[0]) if header else _usual([len(row) for row in rows])
    guessed = header and options.header is None and not any(normalize_name(cell.strip()) in KNOWN for cell in rows[0])
    return TableShape(delimiter, quoting, header, width, tuple(rows[0]) if header else None, guessed)


def _has_row_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row lacks one cell, and the rows below begin with 1, 2, 3, …, as R's write.table writes them."""
    return len(rows) > 1 and all(
        len(row) == len(rows[0]) + 1 and row[0] == str(number) for number, row in enumerate(rows[1:], start=1)
    )


def num_comments(lines: Sequence[Line], format: str, options: ReadOptions) -> int:
    """How many lines at the top are comments: `# …` above a table that has another width, or a header of its own.

    Also Excel's `sep=;`: the delimiter it says is that of the lines below.
    """
    if lines and _EXCEL.fullmatch(lines[0][1]):
        return 1
    count = next((number for number, line in enumerate(lines) if not line[1].startswith("#")), len(lines))
    below = lines[count:]
    if not count or not below:
        return 0
    delimiter = options.delimiter or best_delimiter(below, DELIMITERS[format])
    rows = [
        cells
        for _, cells, _ in split(
            below[:200], delimiter, delimiter != "\t" and len(delimiter) == 1, options.max_row_bytes
        )
        if cells
    ]
    width = _usual([len(row) for row in rows])
    header_below = any(tier(TEXT_TIERS, cell) is not None for cell in rows[0]) if rows else False
    for _, text, _ in lines[:count]:
        names = [normalize_name(cell.strip().lstrip("#")) for cell in text.split(delimiter)]
        if len(names) == width and (KNOWN.intersection(names) or not header_below):
            return 0
    return count if width > 1 else 0


def _require_encoding(sample: Sequence[Record], name: str) -> None:
    """Raises UserError where most rows cannot be decoded: what is left would say little about the table."""
    bad = [(lines[0][0], fault) for lines, _, fault in sample if fault and _BYTE.match(fault)]
    if len(bad) > len(sample) / 2:
        raise UserError(
            f"most rows cannot be decoded: {bad[0][1]}", where=f"{name}:{bad[0][0]}", hint="Set data.encoding to the encoding of the file."
        )  # fmt: skip


def _require_first_row(sample: Sequence[Record], name: str) -> None:
    """Raises UserError where the first row, which may name the columns, cannot be read."""
    lines, _, fault = next((record for record in sample if record[1] != []), (None, None, None))
    if lines and fault:
        raise UserError(
            f"the first row cannot be read: {fault}",
            where=f"{name}:{lines[0][0]}",
            hint="Fix it, or set data.header=false if it does not name the columns.",
        )


def split(lines: Sequence[Line], delimiter: str, quoting: bool, limit: int) -> list[Record]:
    """The records of a sample, read as the whole file will be."""
    return list(records(iter(lines), delimiter, limit) if quoting else unquoted(iter(lines), delimiter))


def best_delimiter(lines: Sequence[Line], candidates: str) -> str:
    """The candidate that cuts most records into as many fields as the first, at least two; else the first candidate."""
    shares = {delimiter: share(lines, delimiter) for delimiter in candidates}
    best = max(candidates, key=lambda delimiter: shares[delimiter])  # of equals the first
    return best if shares[best] > 0.5 else candidates[0]


def share(lines: Sequence[Line], delimiter: str) -> float:
    """Share of the sample with as many fields as its first record (0 where that has one field)."""
    sample = split(lines[:200], delimiter, delimiter != "\t" or _quotes_close(lines[:200]), 2**20)
    widths = [len(cells or ()) for _, cells, fault in sample if cells or (fault and "quote" in fault)]
    if not widths or widths[0] < 2:
        return 0.0
    return widths.count(widths[0]) / len(widths)


def _quotes_close(lines: Sequence[Line]) -> bool:
    """Whether a tab-separated sample has quoted cells and all of them close. A guess, used to count fields."""
    if not any(text.startswith('"') or '\t"' in text for _, text, _ in lines):
        return False
    late = lines[-1][0] - _LATE
    for record_lines, _, fault in records(iter(lines), "\t", 2**31):
        if fault and "quote" in fault:
            return fault == NEVER_CLOSED and record_lines[0][0] > max(late, lines[0][0])
    return True


def _usual(widths: list[int]) -> int:
    return Counter(widths).most_common(1)[0][0] if widths else 1


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: by known names, or because it differs from the rows below.

    A column may be without a name (pandas' index, a comma at the end of each line).
    """
    first = [cell.strip() for cell in rows[0]]
    below = [row for row in rows[1:] if len(row) == len(first) and row != rows[0]]
    named = [(cell, [row[place].strip() for row in below]) for place, cell in enumerate(first) if cell]
    names = [name for name, _ in named]
    if any(_NUMBER.fullmatch(name) or len(name) > 64 for name in names):
        return False
    num_known = sum(normalize_name(name) in KNOWN for name in names)
    if num_known > 1 or names_words(names):
        return True
    if any(name in column for name, column in named):
        return False  # a label or text that comes again is data
    if num_known:
        return True
    if not below or not names or len(set(names)) < len(names):
        return False
    if all(map(_IDENTIFIER.fullmatch, names)) or any(_all_numbers(column) for _, column in named):
        return True
    return all(map(_NAME.fullmatch, names)) and any(_much_longer(name, column) for name, column in named)


def _all_numbers(values: Sequence[str]) -> bool:
    given = [value for value in values if value]
    return bool(given) and all(map(_NUMBER.fullmatch, given))


def _much_longer(name: str, values: Sequence[str]) -> bool:
    """Whether the values below a cell are too long to be names."""
    return sorted(map(len, values))[len(values) // 2] > 3 * len(name)


def table_format(lines: Sequence[Line]) -> str | None:
    """`tsv` or `csv` where lines of text are surely a table: tabs in all of them; or one of `,;|`, under a header of which half the
    names are known, or (commas aside: prose has them) beside a column of few short words."""
    if len(lines) < _FEW_LINES:
        return None
    if share(lines, "\t") > _SURELY:
        return "tsv"
    for delimiter in (one for one in ",;|" if share(lines, one) > _SURELY):
        rows = [cells for _, cells, _ in split(lines, delimiter, True, 2**20) if cells]
        num_known = sum(normalize_name(cell) in KNOWN for cell in rows[0])
        if 2 * num_known >= len(rows[0]) and is_header(rows):
            return "csv"
        if delimiter != "," and _has_labels(rows):
            return "csv"
    return None


def json_format(lines: Sequence[Line]) -> str | None:
    """`jsonl` where nearly all lines of text are JSON objects, `json` where an array of objects begins, as prose never does."""
    texts = [text.strip() for _, text, fault in lines if fault is None and text.strip()]
    if texts and _ARRAY.match("".join(texts[:2])):
        return "json"
    return "jsonl" if nearly_all(is_json_object, texts[:200]) else None


def _has_labels(rows: Sequence[Sequence[str]]) -> bool:
    """Whether one of two columns holds the same few words again and again."""
    columns = list(zip(*(row for row in rows if len(row) == len(rows[0])), strict=True))
    few = [
        cells
        for cells in columns
        if 1 < len(set(cells)) <= len(cells) / 5 and not any(" " in cell.strip() for cell in cells)
    ]
    return len(columns) == 2 and len(few) == 1


def text_format(lines: Sequence[Line]) -> str:
    """The format of a file that has no suffix to tell it: jsonl, json, tsv, csv or text."""
    first = next((text.strip() for _, text, fault in lines if fault is None and text.strip()), "")
    if first.startswith("{"):
        return "jsonl" if first.endswith("}") else "json"
    if first.startswith("["):
        return "json"
    if share(lines, "\t") > 0.9:
        return "tsv"
    return "csv" if len(lines) > 2 and max(share(lines, one) for one in ",;|") > 0.9 else "text"
