"""How predictions of a file are returned: rows with further fields; for a file of words, its own lines with a column of tags.

    words.conll   Mara          ->   Mara    B-PER        gold tags stay where they are, the predicted ones come last
                  went               went    O
    words.csv     s,word        ->   s,word,predicted_tag       a row for each word
                  1,Mara             1,Mara,B-PER
    any other     {"text": …}   ->   {"text": …, "predicted_label": …, "score": …}

Tags are IOB2. Comments, blank lines and document markers are kept; a sentence that cannot be read keeps its lines, with `_` as tags.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.cli.options import json_text
from tunewright.cli.predict_inputs import RAISE_LIMIT
from tunewright.cli.predict_outputs import PARQUET, TABLES, WORD_SUFFIXES, TableRows
from tunewright.errors import UserError, quoted, with_article
from tunewright.reading import ReadOptions, Source, open_source
from tunewright.reading.detect import peek
from tunewright.reading.formats.conll import TAGS, WORDS, Block, open_blocks
from tunewright.reading.locate import locate
from tunewright.reading.names import normalize_name
from tunewright.reading.tagged import TagLayout, is_document_mark, looks_like_tag
from tunewright.records import NoAnswer, Row, free_name
from tunewright.tasks.base import Task

_TAG = "predicted_tag"
_OUTSIDE, _UNKNOWN = "O", "_"
_WORD_NAMES = ("word", "words", "token", "tokens")
_MAY_BE_WORDS = ("text", "csv", "tsv", "jsonl", "json", "parquet", "arrow")
_PUNCTUATION = re.compile(r"\W+")


class Rows:
    """An input's fields, plus the predicted values under names that are not taken: its own `label` is kept."""

    def __init__(self, file: str, reading: ReadOptions) -> None:
        self._file, self._reading = file, reading

    def given(self) -> Iterator[Any]:
        """The first argument of `result`, for each row in turn."""
        source = open_source(self._file, self._reading)
        return (row.fields if isinstance(row, Row) else {} for row in source.rows())

    def result(self, given: Any, answer: Any) -> Any:
        """What is written for one input, as JSON values."""
        return with_prediction(given, answer)

    def print(self, results: Iterable[Any]) -> None:
        for result in results:
            print(json_text(result))


def with_prediction(fields: Mapping[str, Any], prediction: Any) -> dict[str, Any]:
    """The fields, and the predicted values under names that are not taken."""
    found = dict(fields)
    for key, value in prediction.as_dict().items():
        wanted = f"predicted_{key}" if key in fields or key.startswith(("label", "tags")) else key
        found[free_name(wanted, found)] = value
    return found


@dataclass(frozen=True)
class _Sentence:
    """A sentence with the lines before it; after: at the end of the file, the lines after it."""

    block: Block
    after: list[str]


class WordLines(Rows):
    """A file with one word per line: its own lines with one more column."""

    def __init__(self, file: str, reading: ReadOptions) -> None:
        super().__init__(file, reading)
        path, _ = locate(file, reading)
        self._layout, self._blocks = open_blocks(path, file, reading)

    def given(self) -> Iterator[Any]:
        held: Block | None = None
        for block in self._blocks:
            if held is not None:
                yield _Sentence(held, [] if block.words else block.before)
            held = block if block.words else None
        if held is not None:
            yield _Sentence(held, [])

    def result(self, given: Any, answer: Any) -> Any:
        sentence: _Sentence = given
        block, layout = sentence.block, self._layout
        if not block.is_whole:
            raise UserError(
                f"{self._file}:{block.words[0][0]}: {block.words[0][2]}",
                hint=RAISE_LIMIT,
            )
        tags = [_UNKNOWN] * len(block.words) if isinstance(answer, NoAnswer) else answer.tags
        lines = [self._beside(line) for line in block.before]
        lines += [_with_cell(text, tag, layout) for (_, text, _), tag in zip(block.words, tags, strict=True)]
        return "".join([*lines, *map(self._beside, sentence.after)])

    def _beside(self, line: str) -> str:
        """A line between sentences; one with the columns of words gets the further column, too."""
        if self._layout.header is not None and line == self._layout.header:
            return _with_cell(line, _TAG, self._layout)
        has_columns = len(self._layout.cells(line)) == self._layout.num_columns
        return _with_cell(line, _OUTSIDE, self._layout) if is_document_mark(line) and has_columns else line

    def print(self, results: Iterable[Any]) -> None:
        for result in results:
            print(result, end="")


def _with_cell(line: str, cell: str, layout: TagLayout) -> str:
    text = line.rstrip("\r\n")
    between = "\t" if layout.delimiter or layout.num_columns == 1 else " "
    return f"{text if layout.delimiter else text.rstrip()}{between}{cell}{line[len(text) :] or chr(10)}"


class WordTable(Rows):
    """A table with one row per word, and a column of tags."""

    def __init__(self, file: str, reading: ReadOptions, source: Source) -> None:
        super().__init__(file, reading)
        self._source = source
        assert source.by_word is not None
        self._columns = list(source.by_word.columns or ())
        self._tag = free_name(_TAG, self._columns)
        self._reason = free_name("reason", self._columns)

    def given(self) -> Iterator[Any]:
        """The rows of each sentence: from its first line up to that of the next."""
        assert self._source.by_word is not None
        words = self._source.by_word.rows()
        word = next(words, None)
        begins = (sentence.line for sentence in self._source.rows())
        next(begins, None)
        for until in itertools.chain(begins, [None]):
            rows = []
            while word is not None and (until is None or word.line < until):
                rows.append(dict(word.fields) if isinstance(word, Row) else {})
                word = next(words, None)
            yield rows

    def result(self, given: Any, answer: Any) -> Any:
        if isinstance(answer, NoAnswer):
            return [{**row, self._tag: None, self._reason: answer.reason} for row in given]
        return [{**row, self._tag: tag} for row, tag in zip(given, answer.tags, strict=True)]

    def print(self, results: Iterable[Any]) -> None:
        table = TableRows(sys.stdout, [*self._columns, self._tag, self._reason], ",")
        for result in results:
            for row in result:
                table.write(row)


class AsWordLines(Rows):
    """Rows with lists of words, written one word per line: the word, its gold tag where there is one, and the predicted tag."""

    def __init__(self, file: str, reading: ReadOptions, source: Source, text: str, label: str | None) -> None:
        super().__init__(file, reading)
        self._source, self._text, self._label = source, text, label

    def given(self) -> Iterator[Any]:
        return (row.fields if isinstance(row, Row) else {} for row in self._source.rows())

    def result(self, given: Any, answer: Any) -> Any:
        words = given.get(self._text)
        if not isinstance(words, list):
            if isinstance(answer, NoAnswer):
                return f"# no answer: {' '.join(answer.reason.split())}\n\n"
            raise UserError(
                "this row is a text, not a list of words", where=self._file, expected=f"words, for the formats {quoted(WORD_SUFFIXES)}",
                hint="Write .jsonl or .csv, which give entities by their characters.",
            )  # fmt: skip
        tags = [_UNKNOWN] * len(words) if isinstance(answer, NoAnswer) else answer.tags
        gold = self._gold(given, len(words))
        columns: list[Sequence[Any]] = [words, gold, tags] if gold else [words, tags]
        return "".join("\t".join(map(_one_line, cells)) + "\n" for cells in zip(*columns, strict=True)) + "\n"

    def _gold(self, given: Mapping[str, Any], num_words: int) -> list[Any] | None:
        """The row's own tags: in the label column of training, else in the last column that holds only tags."""
        named = None if self._label is None else given.get(self._label)
        if _is_list_of(named, num_words, lambda tag: isinstance(tag, (str, int))):
            return named
        lists = [cells for cells in given.values() if _is_list_of(cells, num_words, _is_tag)]
        return next((cells for cells in reversed(lists) if cells is not given.get(self._text)), None)

    def print(self, results: Iterable[Any]) -> None:
        raise AssertionError("stdout gets JSON lines")


def _is_list_of(cells: Any, length: int, fits: Callable[[Any], bool]) -> bool:
    return isinstance(cells, list) and len(cells) == length and all(map(fits, cells))


def _is_tag(cell: Any) -> bool:
    return isinstance(cell, str) and looks_like_tag(cell)


def _one_line(cell: Any) -> str:
    """A cell with blanks in place of tabs and line breaks, which would end it."""
    return re.sub(r"[\t\r\n]", " ", str(cell))


def shape_of(
    model_task: Task, source: Source, file: str, reading: ReadOptions, output: str | None, *, as_json: bool
) -> Rows:
    """How the predictions of this file are written: by the output's suffix; on stdout as words if the input is words, else as JSON lines."""
    suffix = None if output is None else Path(output).suffix
    own = output is None and not as_json
    if not model_task.reads_words:
        if suffix in WORD_SUFFIXES:
            raise UserError(
                f"{with_article(model_task.name)} model predicts no tags",
                where=str(output),
                hint="Write .jsonl or .csv.",
            )
        return Rows(file, reading)
    _refuse_unclear_words(source, file, reading, model_task.read_columns[0])
    if source.format == "conll" and (own or suffix in WORD_SUFFIXES):
        return WordLines(file, reading)
    if source.by_word is not None and (own or suffix in (*TABLES, PARQUET)):
        return WordTable(file, reading, source)
    if suffix in WORD_SUFFIXES:
        label = model_task.label_columns[0]
        return AsWordLines(
            file, reading, source, model_task.read_columns[0], TAGS if source.columns == (WORDS, TAGS) else label
        )
    return Rows(file, reading)


def _refuse_unclear_words(source: Source, file: str, reading: ReadOptions, text: str) -> None:
    """UserError where each row is a single word, and it is unclear whether they form sentences."""
    if source.by_word is not None or reading.format == "text" or source.format not in _MAY_BE_WORDS:
        return
    own = open_source(file, reading)
    own_names = own.columns or tuple(dict.fromkeys(column for row in peek(own, 100)[0] for column in row.fields))
    if source.format != "text" and not any(normalize_name(name) in _WORD_NAMES for name in own_names):
        return
    words = [row.fields.get(text) for row in peek(source, 1_000)[0]]
    alone = [word for word in words if isinstance(word, str) and word.strip() and not re.search(r"\s", word.strip())]
    if len(words) < 3 or len(alone) < 0.98 * len(words):
        return
    if source.format != "text":
        raise UserError(
            "one row per word, but no column that numbers the sentences", where=source.name, found=quoted(own_names),
            hint="Add a column sentence_id, or use CoNLL (.conll): one word per line, blank lines between sentences.",
        )  # fmt: skip
    if any(_PUNCTUATION.fullmatch(word) for word in alone):
        raise UserError(
            "each line is a single word, so it is unclear whether lines are words of a sentence or texts of their own", where=source.name,
            hint="Add --format conll for one word per line (blank lines between sentences), or --format text for one text per line.",
        )  # fmt: skip
