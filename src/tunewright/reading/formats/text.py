"""Plain text -> Row: one row a line in the column `text`; blank lines are skipped and counted.

First Citizen:                line 1 of shakespeare.txt
Row('shakespeare.txt', 1, {'text': 'First Citizen:'})
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.reading.files import TextFile, shown, without_line_end
from tunewright.reading.options import ReadOptions
from tunewright.reading.sniff import text_format
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS = {"text": (".txt", ".text", ".md")}


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file."""
    file = TextFile(path, name, options)
    file.require_content()
    looks = text_format(file.first_lines(200)[0])
    notes = [f"it looks like {looks}: data.format={looks} would read it so"] if looks in ("jsonl", "tsv") else []
    return Source(name, format, lambda source: _rows(file, source), ("text",), notes=notes, paths=(path,))


def _rows(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    for number, text, fault in file.lines():
        if fault is not None:
            yield Reject(file.name, number, fault, shown(text))
        elif text.isspace():
            source.num_blank_lines += 1
        else:
            yield Row(file.name, number, {"text": without_line_end(text)})
