"""CoNLL -> Row: one sentence a row, its words and their tags; one word per line, a blank line after each sentence.

    Ulm     B-LOC          Row('train.conll', 1, {'tokens': ['Ulm', 'liegt'], 'ner_tags': ['B-LOC', 'O']})
    liegt   O

Two columns or more, separated by tabs or spaces; the tag column is detected from the first 5,000 lines. Tags are not converted
here: `annotations/tags.py` knows their schemes. `Row.line` is the line of the sentence's first word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import UserError
from tunewright.reading.files import Line, TextFile, excerpt, too_large
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.reading.tagged import NUM_LINES, TagLayout, is_blank, is_document_mark, tag_layout, word_layout
from tunewright.records import Reject, Row

FORMATS = {"conll": (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".bioes")}
READS_KEYS = {"format", "encoding"}
WORDS, TAGS = "tokens", "ner_tags"


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file and for one without a column of tags."""
    file = TextFile(path, name, options)
    lines, whole = file.sample(NUM_LINES)
    layout = tag_layout(lines, whole=whole, sure=True)
    if layout is None and options.words_alone:
        layout = word_layout(lines)
    if layout is None:
        raise UserError(
            "no column of words found" if options.words_alone else "no column of tags found",
            where=name,
            expected="a word (and its tag: O, B-PER, …) on each line, blank lines between sentences",
            hint="Set data.format if it is another format.",
        )
    notes = []
    if layout.header is not None:
        notes.append(f"the first line names the columns: {' '.join(layout.cells(layout.header))}")
    if layout.language:
        notes.append(f"the prefix {layout.language!r} of every word is dropped")
    if layout.tag == 0:
        notes.append("the first column holds the tags")
    if layout.unused:
        tags = "no tags" if layout.tag is None else f"tags in column {layout.tag + 1}"
        used = f"words in column {layout.word + 1}, {tags}"
        notes.append(f"{used}; columns not used: {', '.join(map(str, layout.unused))}")
    columns = (WORDS,) if layout.tag is None else (WORDS, TAGS)
    return Source(name, format, lambda _: _rows(file, layout), columns, notes=notes, paths=(path,))


@dataclass(frozen=True)
class Block:
    """A sentence, and the lines before it: blank lines, comments, document markers. is_whole: False where the sentence was too
    large to keep all its lines."""

    before: list[str]
    words: list[Line]
    is_whole: bool = True


def open_blocks(path: Path, name: str, options: ReadOptions) -> tuple[TagLayout, Iterator[Block]]:
    """The columns of a file, and its sentences with every original line, to write it again with another column. A last block may
    have no sentence. There are as many sentences as the source has rows."""
    file = TextFile(path, name, options)
    lines, whole = file.first_lines(NUM_LINES)
    layout = tag_layout(lines, whole=whole, sure=True) or word_layout(lines)
    assert layout is not None, "a source was made of it"
    return layout, _blocks(file, layout, keep=True)


def _rows(file: TextFile, layout: TagLayout) -> Iterator[Row | Reject]:
    for block in _blocks(file, layout):
        yield _sentence(block.words, layout, file)


def _blocks(file: TextFile, layout: TagLayout, *, keep: bool = False) -> Iterator[Block]:
    """keep: also the lines between sentences."""
    before: list[str] = []
    sentence: list[Line] = []
    size = 0
    is_whole = True
    header = layout.header
    for line in file.lines():
        text = line[1]
        is_sound = line[2] is None
        is_header = header is not None and text == header
        ends = is_sound and (is_blank(text) or is_document_mark(text))
        if is_header:
            header = None
        elif ends and sentence:
            yield Block(before, sentence, is_whole)
            before, sentence, size, is_whole = [], [], 0, True
        if is_header or ends or (not sentence and is_sound and layout.is_comment(text)):
            if keep:
                before.append(text)
            continue
        size += len(text)
        if size <= file.options.max_row_bytes:
            sentence.append(line)
        else:  # a file without blank lines must not fill the memory
            sentence = [(sentence[0][0] if sentence else line[0], text, too_large(size, file.options.max_row_bytes))]
            is_whole = False
    if sentence or before:
        yield Block(before, sentence, is_whole)


def _sentence(lines: list[Line], layout: TagLayout, file: TextFile) -> Row | Reject:
    words, tags = [], []
    for number, text, fault in lines:
        cells = layout.cells(text)
        if fault is None and len(cells) != layout.num_columns:
            found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            fault = f"{found}, expected {layout.num_columns}"
        if fault is None and layout.tag is not None and not cells[layout.tag].strip():
            fault = "the tag is blank"
        if fault is not None:
            return Reject(file.name, number, fault, excerpt("".join(text for _, text, _ in lines)))
        words.append(cells[layout.word].removeprefix(layout.language))
        if layout.tag is not None:
            tags.append(cells[layout.tag].strip())
    return Row(file.name, lines[0][0], {WORDS: words} if layout.tag is None else {WORDS: words, TAGS: tags})
