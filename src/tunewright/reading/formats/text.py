"""Plain text -> Row: one row a line in the column `text`; blank lines are skipped and counted. Also by paragraph or by file.

First Citizen:                line 1 of shakespeare.txt
Row('shakespeare.txt', 1, {'text': 'First Citizen:'})
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tunewright.errors import UserError, counted, quoted
from tunewright.files.paths import expanded
from tunewright.reading.documents import paragraphs, pieces
from tunewright.reading.files import TextFile, excerpt, without_line_end
from tunewright.reading.label_files import AUTO, label_file_of, names_of_labels
from tunewright.reading.options import ReadOptions
from tunewright.reading.sniff import text_format
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS = {"text": (".txt", ".text", ".md")}
READS_KEYS = {"format", "encoding", "documents", "label_file"}
LABEL = "label"


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file."""
    file = TextFile(path, name, options)
    lines, _ = file.sample(200)
    looks = text_format(lines) if options.format is None else "text"
    notes = (
        [f"it looks like {looks}; set data.format={looks} to read it as {looks}"]
        if looks in ("jsonl", "tsv", "csv")
        else []
    )
    if options.label_file is not None:
        return _with_labels(file, path, options.label_file)
    documents = options.documents
    if documents in _WITH_BLANK_LINES:
        blank = any(text.isspace() for _, text, _ in lines)
        documents = _WITH_BLANK_LINES[documents] if blank else "line"
        notes.append(_HOW_READ[documents])
    read = {"line": _rows, "paragraph": _paragraphs, "file": _pieces}[documents]
    return Source(name, format, lambda source: read(file, source), ("text",), notes=notes, paths=(path,))


_WITH_BLANK_LINES = {"auto": "file", "paragraphs": "paragraph"}
"""What a row is where the file has blank lines; otherwise a line."""
_HOW_READ = {
    "paragraph": "the file has blank lines: each paragraph is a document",
    "file": "the file has blank lines: it is read as one continuous text (data.documents: line or paragraph changes this)",
    "line": "the file has no blank lines: each line is a document (data.documents: paragraph or file changes this)",
}


def _with_labels(file: TextFile, path: Path, label_file: str) -> Source:
    """Each line with the label on the same line of another file; without labels where `auto` finds no such file."""
    found = label_file_of(path) if label_file == AUTO else Path(expanded(label_file))
    if found is None:
        return Source(file.name, "text", lambda source: _rows(file, source), ("text",), paths=(path,))
    if not found.is_file():
        raise UserError(
            "no such file",
            where=f"data.label_file {label_file}",
            hint="Name the file with a label on each line, or auto.",
        )
    labels = replace(file, path=found, name=str(found))
    num_texts, num_labels = _num_lines(file), _num_lines(labels)
    if num_texts != num_labels:
        raise UserError(
            "the texts and the labels have different numbers of lines", where=file.name, found=f"{counted(num_texts, 'line')}, and {num_labels:,} in {found}",
            hint="Line n of the labels must belong to line n of the texts.",
        )  # fmt: skip
    names = names_of_labels(found)
    notes = [
        f"the label of each line is in {found.name}",
        *([f"the names of its integer labels are {quoted(names, limit=6)}"] if names else []),
    ]
    return Source(
        file.name, "text", lambda source: _labelled(file, labels, source), ("text", LABEL), notes=notes, paths=(path, found),
        class_names={LABEL: names} if names else {},
    )  # fmt: skip


def _num_lines(file: TextFile) -> int:
    """Number of lines without blank lines at the end."""
    last = 0
    for number, text, fault in file.lines():
        last = last if fault is None and text.isspace() else number
    return last


def _labelled(file: TextFile, labels: TextFile, source: Source) -> Iterator[Row | Reject]:
    for (number, text, fault), (_, label, of_label) in zip(file.lines(), labels.lines(), strict=False):
        if fault or of_label:
            yield Reject(file.name, number, fault or f"its label: {of_label}", excerpt(text))
        elif text.isspace() and label.isspace():
            source.num_blank_lines += 1
        else:
            yield Row(file.name, number, {"text": without_line_end(text), LABEL: without_line_end(label).strip()})


def _rows(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    for number, text, fault in file.lines():
        if fault is not None:
            yield Reject(file.name, number, fault, excerpt(text))
        elif text.isspace():
            source.num_blank_lines += 1
        else:
            yield Row(file.name, number, {"text": without_line_end(text)})


def _paragraphs(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    return paragraphs(file.lines(), file.name, max_bytes=file.options.max_row_bytes)


def _pieces(file: TextFile, source: Source) -> Iterator[Row | Reject]:
    return pieces(file.lines(), file.name)
