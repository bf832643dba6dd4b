"""CoNLL -> Row: one sentence a row, its words and their tags; a word a line, a blank line behind each sentence.

    Ulm     B-LOC          Row('train.conll', 1, {'tokens': ['Ulm', 'liegt'], 'ner_tags': ['B-LOC', 'O']})
    liegt   O

Two columns or more, by tabs or blanks; which one holds the tags is found from the first 5,000 lines. Tags come as they stand:
`text/tags.py` knows their schemes. `Row.line` is the line of the sentence's first word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.errors import UserError
from tunewright.reading.files import Line, TextFile, shown, too_large
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.reading.tagged import NUM_LINES, TagLayout, is_blank, is_document_mark, tag_layout
from tunewright.records import Reject, Row

FORMATS = {"conll": (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".bioes")}
HEEDS = {"format", "encoding"}
WORDS, TAGS = "tokens", "ner_tags"


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file and for one without a column of tags."""
    file = TextFile(path, name, options)
    file.require_content()
    lines, whole = file.first_lines(NUM_LINES)
    layout = tag_layout(lines, whole=whole, sure=True)
    if layout is None:
        raise UserError(
            "no column of tags found",
            where=name,
            expected="a word and its tag (O, B-PER, …) on each line, blank lines between sentences",
            mend="Set data.format if it is another format.",
        )
    notes = []
    if layout.header is not None:
        notes.append(f"the first line names the columns: {' '.join(layout.cells(layout.header))}")
    if layout.language:
        notes.append(f"every word begins with {layout.language!r}, which is left out")
    if layout.tag == 0:
        notes.append("the first column holds the tags")
    if layout.unused:
        used = f"words in column {layout.word + 1}, tags in column {layout.tag + 1}"
        notes.append(f"{used}; columns not used: {', '.join(map(str, layout.unused))}")
    return Source(name, format, lambda _: _rows(file, layout), (WORDS, TAGS), notes=notes, paths=(path,))


def _rows(file: TextFile, layout: TagLayout) -> Iterator[Row | Reject]:
    sentence: list[Line] = []
    size = 0
    header = layout.header
    for line in file.lines():
        text = line[1]
        if header is not None and text == header:
            header = None
            continue
        if line[2] is None and (is_blank(text) or is_document_mark(text)):
            if sentence:
                yield _sentence(sentence, layout, file)
            sentence, size = [], 0
            continue
        if not sentence and line[2] is None and layout.is_comment(text):
            continue
        size += len(text)
        if size <= file.options.max_row_bytes:
            sentence.append(line)
        else:  # a file without blank lines must not fill the memory
            sentence = [(sentence[0][0] if sentence else line[0], text, too_large(size, file.options.max_row_bytes))]
    if sentence:
        yield _sentence(sentence, layout, file)


def _sentence(lines: list[Line], layout: TagLayout, file: TextFile) -> Row | Reject:
    words, tags = [], []
    for number, text, fault in lines:
        cells = layout.cells(text)
        if fault is None and len(cells) != layout.num_columns:
            found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            fault = f"{found}, expected {layout.num_columns}"
        if fault is None and not cells[layout.tag].strip():
            fault = "the tag is blank"
        if fault is not None:
            return Reject(file.name, number, fault, shown("".join(text for _, text, _ in lines)))
        words.append(cells[layout.word].removeprefix(layout.language))
        tags.append(cells[layout.tag].strip())
    return Row(file.name, lines[0][0], {WORDS: words, TAGS: tags})
