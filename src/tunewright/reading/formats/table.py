"""CSV and TSV -> Row: every cell exactly its text (`NA`, `007`, ` spaces `); never a guess at its type.

    review,sentiment                     Row('train.csv', 2, {'review': 'Fine, "really".', 'sentiment': 'positive'})
    "Fine, ""really"".",positive

The delimiter and header are found from the first 1,000 lines, whether quotes quote from all lines (`quotes.py`), and noted;
`data.delimiter`, `data.header` and `data.quoting` override this. One row per word (`words.py`) becomes one row per sentence.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import eq
from pathlib import Path

from tunewright.errors import UserError, quoted
from tunewright.reading import sniff
from tunewright.reading.fields import Record, is_cut, records, unquoted
from tunewright.reading.files import Line, TextFile, excerpt
from tunewright.reading.options import ReadOptions
from tunewright.reading.quotes import quotes_of
from tunewright.reading.source import MAX_RAW, Source
from tunewright.reading.words import with_sentences
from tunewright.records import Reject, Row

FORMATS = {"csv": (".csv",), "tsv": (".tsv", ".tab")}
READS_KEYS = {"format", "encoding", "delimiter", "header", "quoting"}


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file, and for a header that cannot name the columns."""
    file = TextFile(path, name, options)
    lines, _ = file.sample(sniff.NUM_SNIFFED)
    num_comments = sniff.num_comments(lines, format, options)
    body = lines[num_comments:]
    delimiter = options.delimiter or sniff.best_delimiter(body, sniff.DELIMITERS[format])
    quoting, escaped = options.quoting, False
    if quoting is None:
        quotes = quotes_of(file, num_comments) if delimiter == "\t" else "quoting"
        quoting, escaped = quotes != "text", quotes == "escaped"
    quoting = quoting and len(delimiter) == 1
    shape = sniff.sniff(list(_unescaped(body)) if escaped else body, delimiter, quoting, name, options)
    notes: list[str] = []
    if num_comments:
        lines_said = "line 1 is" if num_comments == 1 else f"lines 1 to {num_comments} are"
        notes.append(f"{lines_said} read as a comment: {lines[0][1].strip()[:40]!r}")
    if shape.delimiter != {"csv": ",", "tsv": "\t"}[format] and options.delimiter is None:
        notes.append(f"delimiter {shape.delimiter!r}")
    if not quoting and options.quoting is None and delimiter == "\t":
        notes.append('tab-separated: quotes (") are plain text')
    if escaped:
        notes.append('quotes inside of quoted cells are written \\"')
    if shape.names is None:
        columns = tuple(f"column{number}" for number in range(1, shape.num_columns + 1))
        notes.append(f"no header: columns are named {_short(columns)}")
    else:
        columns = _header(shape.names, f"{name}:{num_comments + 1}", notes)

    def rows(source: Source) -> Iterator[Row | Reject]:
        source.num_blank_lines = num_comments
        return _rows(file, source, shape, num_comments, escaped)

    source = Source(name, format, rows, columns, notes=notes, paths=(path,))
    return with_sentences(source, words_alone=options.words_alone, limit=options.max_row_bytes)


def _short(columns: tuple[str, ...]) -> str:
    return ", ".join(columns if len(columns) < 5 else (*columns[:2], "…", columns[-1]))


def _header(cells: tuple[str, ...], where: str, notes: list[str]) -> tuple[str, ...]:
    """The column names of a header row; changes to them are noted."""
    columns = [cell.strip() for cell in cells]
    if any(cell != column for cell, column in zip(cells, columns, strict=True)):
        notes.append("spaces around column names are dropped")
    for place, column in enumerate(columns):
        if not column:
            columns[place] = f"column{place + 1}"
            notes.append(f"column {place + 1} has no name: it is named {columns[place]}")
    twice = sorted(column for column, count in Counter(columns).items() if count > 1)
    if twice:
        raise UserError(
            "the header names a column twice",
            where=where,
            found=quoted(twice),
            hint="Rename one of them, or set data.header=false if this is no header.",
        )
    return tuple(columns)


def _rows(
    file: TextFile, source: Source, shape: sniff.TableShape, num_comments: int, escaped: bool
) -> Iterator[Row | Reject]:
    name, columns, before_header = file.name, source.columns or (), shape.header
    num_columns = len(columns)
    header = shape.names or (None,) * num_columns
    for lines, cells, fault in _records(file, shape, num_comments, escaped):
        number = lines[0][0]
        if cells is not None:
            if not cells:
                source.num_blank_lines += 1
                continue
            if before_header:
                before_header = False
                continue
            if len(cells) != num_columns:
                fault = _wrong_width(cells, columns, lines)
            elif any(map(eq, cells, header)):
                fault = _header_again(cells, header, shape, f"{name}:{number}")
            if fault is None:
                yield Row(name, number, dict(zip(columns, cells, strict=True)))
                continue
        yield Reject(name, number, fault or "", _raw(lines))


def _wrong_width(cells: list[str], columns: tuple[str, ...], lines: list[Line]) -> str:
    fields = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
    fault = f"{fields}, expected {len(columns)} ({', '.join(columns[:20])})"
    return fault if len(lines) == 1 else f"{fault}; the row spans lines {lines[0][0]} to {lines[-1][0]}"


def _header_again(cells: list[str], header: tuple[str | None, ...], shape: sniff.TableShape, where: str) -> str | None:
    """The fault of a row that repeats header cells: concatenated files. UserError where the guessed header is a data row."""
    if (cells[0].removeprefix("\ufeff"), *cells[1:]) == header:
        return "the header is repeated here"
    same = next((cell for cell, name in zip(cells, header, strict=True) if cell and cell == name), None)
    if not shape.guessed or same is None:
        return None
    raise UserError(
        f"the first row was read as the header, but {same!r} occurs here too",
        where=where,
        hint="Set data.header=false if the first row is data, or data.header=true if it names the columns.",
    )


def _records(file: TextFile, shape: sniff.TableShape, num_comments: int, escaped: bool) -> Iterator[Record]:
    lines = itertools.islice(file.lines(), num_comments, None)
    if shape.quoting:
        return records(_unescaped(lines) if escaped else lines, shape.delimiter, file.options.max_row_bytes)
    return unquoted(lines, shape.delimiter)


def _unescaped(lines: Iterable[Line]) -> Iterator[Line]:
    """R's backslash-escaped quotes inside quoted cells, rewritten as doubled quotes."""
    return ((number, text.replace('\\"', '""'), fault) for number, text, fault in lines)


def _raw(lines: list[tuple[int, str, str | None]]) -> str:
    if len(lines) == 1:
        return lines[0][1] if is_cut(lines[0]) else excerpt(lines[0][1])
    return excerpt("".join(text for _, text, _ in lines)[: MAX_RAW + 2])
