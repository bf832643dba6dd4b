"""Plain text with a label on each line -> Row: `label` and `text`. Only with `data.format: labelled`.

    __label__joy I am glad        Row('train.txt', 1, {'label': 'joy', 'text': 'I am glad'})
    3 a stirring film             Row('train.txt', 1, {'label': '3', 'text': 'a stirring film'})

The place of the label is detected from the first lines (`labelled_lines.py`) and noted. fastText lines may have several labels:
then all labels are lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.reading.files import TextFile, excerpt, without_line_end
from tunewright.reading.labelled_lines import FASTTEXT, FIRST, layout_of, parsed
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS = {"labelled": ()}
READS_KEYS = {"format", "encoding"}
LABEL, TEXT = "label", "text"
_NUM_LINES = 1_000
_PLACES = {
    "fasttext": "after __label__ at the start of the line",
    "tree": "the number of the whole tree",
    "at": "after @ at the end",
    "first": "the first word",
    "last": "the last word",
    "first cell": "before the first comma",
    "last cell": "after the last comma",
}


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty file."""
    file = TextFile(path, name, options)
    texts = [text for _, text, fault in file.sample(_NUM_LINES)[0] if fault is None and not text.isspace()]
    layout = layout_of(texts, sure=True) or FIRST
    several = layout == FASTTEXT and any(_num_labels(text) > 1 for text in texts)
    notes = [f"the label of each line: {_PLACES[layout]}"]
    return Source(
        name, format, lambda source: _rows(file, source, layout, several), (LABEL, TEXT), notes=notes, paths=(path,)
    )


def _rows(file: TextFile, source: Source, layout: str, several: bool) -> Iterator[Row | Reject]:
    for number, line, fault in file.lines():
        if fault is None and line.isspace():
            source.num_blank_lines += 1
            continue
        try:
            label, text = parsed(without_line_end(line), layout)
        except ValueError:
            fault = fault or "this line has no label"
        if fault is not None:
            yield Reject(file.name, number, fault, excerpt(line))
            continue
        if layout == FASTTEXT and not several:
            if len(label) > 1:
                yield Reject(file.name, number, "several labels, where the first lines have one each", excerpt(line))
                continue
            label = label[0]
        yield Row(file.name, number, {LABEL: label, TEXT: text})


def _num_labels(text: str) -> int:
    try:
        return len(parsed(text, FASTTEXT)[0])
    except ValueError:
        return 0
