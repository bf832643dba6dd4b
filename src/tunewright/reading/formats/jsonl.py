"""JSON lines -> Row: one object a line; blank lines are skipped and counted.

{"text": "What a film.", "label": "positive"}      line 1 of train.jsonl
Row('train.jsonl', 1, {'text': 'What a film.', 'label': 'positive'})
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.errors import RowError, UserError
from tunewright.reading.files import TextFile, excerpt
from tunewright.reading.json_values import StrictJson
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS = {"jsonl": (".jsonl", ".ndjson")}
READS_KEYS = {"format", "encoding"}


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file, one that is a JSON list, or undeclared UTF-16."""
    file = TextFile(path, name, options)
    first = next((text.strip() for _, text, _ in file.sample(100)[0] if text.strip()), "")
    if first == "[" or first.startswith("[{"):
        raise UserError("one JSON list, not one object per line", where=name, hint="Set data.format=json.")
    return Source(name, format, lambda source: _rows(file, source), paths=(path,))


def _rows(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    name, parse = file.name, StrictJson().row
    for number, text, fault in file.lines():
        if fault is None:
            try:
                yield Row(name, number, parse(text))
                continue
            except RowError as error:
                fault = error.reason
            if not text.strip(" \t\r\n"):
                source.num_blank_lines += 1
                continue
        yield Reject(name, number, fault, excerpt(text))
