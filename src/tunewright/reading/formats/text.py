"""Plain text -> Row: one row a line in the column `text`; blank lines are skipped and counted. Also by paragraph or by file.

First Citizen:                line 1 of shakespeare.txt
Row('shakespeare.txt', 1, {'text': 'First Citizen:'})
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.reading.documents import paragraphs, pieces
from tunewright.reading.files import TextFile, shown, without_line_end
from tunewright.reading.options import ReadOptions
from tunewright.reading.sniff import text_format
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS = {"text": (".txt", ".text", ".md")}
HEEDS = {"format", "encoding", "documents"}


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file."""
    file = TextFile(path, name, options)
    file.require_content()
    looks = text_format(file.first_lines(200)[0]) if options.format is None else "text"
    notes = [f"it looks like {looks}: data.format={looks} would read it so"] if looks in ("jsonl", "tsv", "csv") else []
    documents = options.documents
    if documents in _WITH_BLANK_LINES:
        blank = any(text.isspace() for _, text, _ in file.first_lines(200)[0])
        documents = _WITH_BLANK_LINES[documents] if blank else "line"
        notes.append(_HOW_READ[documents])
    read = {"line": _rows, "paragraph": _paragraphs, "file": _pieces}[documents]
    return Source(name, format, lambda source: read(file, source), ("text",), notes=notes, paths=(path,))


_WITH_BLANK_LINES = {"auto": "file", "paragraphs": "paragraph"}
"""What a row is where the file has blank lines; without them a line."""
_HOW_READ = {
    "paragraph": "blank lines stand in it: a paragraph is a document",
    "file": "blank lines stand in it: read as one running text (data.documents says otherwise: line, paragraph)",
    "line": "no blank lines stand in it: every line is a document (data.documents says otherwise: paragraph, file)",
}


def _rows(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    for number, text, fault in file.lines():
        if fault is not None:
            yield Reject(file.name, number, fault, shown(text))
        elif text.isspace():
            source.num_blank_lines += 1
        else:
            yield Row(file.name, number, {"text": without_line_end(text)})


def _paragraphs(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    return paragraphs(file.lines(), file.name, max_bytes=file.options.max_row_bytes)


def _pieces(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    return pieces(file.lines(), file.name)
