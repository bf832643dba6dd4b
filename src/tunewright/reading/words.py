"""A table, or JSON, with one word per row -> one sentence per row, the columns of its words as lists.

    Sentence #,Word,POS,Tag
    Sentence: 1,Ann,NNP,B-PER
    ,sleeps,VBZ,O                    Row('a.csv', 2, {'Sentence #': 'Sentence: 1', 'Word': ['Ann', 'sleeps'], …, 'Tag': ['B-PER', 'O']})

Recognized by a column that numbers sentences, one of words and one of tags; a document column is part of the number.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunewright.reading.files import too_large
from tunewright.reading.source import MAX_RAW, Source
from tunewright.reading.tagged import has_type, looks_like_tag
from tunewright.records import Reject, Row

_SENTENCE_NAMES = frozenset(
    f"{noun}{number}"
    for noun in ("sentence", "sent")
    for number in ("", "id", "no", "nr", "num", "number", "idx", "index")
)
_DOCUMENT_NAMES = frozenset(
    f"{noun}{number}" for noun in ("document", "doc", "file", "article", "essay") for number in ("", "id", "name")
)
_WORD_NAMES = frozenset(("word", "words", "token", "tokens"))
_TAG_NAMES = frozenset(("tag", "tags", "nertag", "nertags", "ner", "label", "labels", "bio", "iob", "biotag", "iobtag"))
_NUM_ROWS = 1_000
"""Words in the sample."""
_COUNTS = re.compile(r"(?:[^\d\n]{0,20}\d+)?")
"""Values of a column that counts sentences: `Sentence: 12`, `s-3`, 7, or nothing after the first word."""
_NUM_HELD = 1_000
"""Words kept of a sentence that is rejected."""

Number = tuple[str, ...]


def with_sentences(source: Source, *, words_alone: bool = False, limit: int = 2**22) -> Source:
    """`source` unchanged, or grouped into sentences where it has one word per row. words_alone: also without tags, where a column
    counts sentences."""
    columns = _columns_of(source)
    sentence, word = _named(columns, _SENTENCE_NAMES), _named(columns, _WORD_NAMES)
    if sentence is None or word is None:
        return source
    seen = [
        {column: _cell(row.fields.get(column)) for column in columns}
        for row in itertools.islice(source.rows(), _NUM_ROWS)
        if isinstance(row, Row) and isinstance(row.fields.get(word), str)
    ]
    keys = tuple(column for column in columns if _letters_only(column) in _DOCUMENT_NAMES or column == sentence)
    numbers = _Numbers(keys, sentence, frozenset(key for key in keys if any(not row[key].strip() for row in seen)))
    several = [words for words in _grouped(seen, numbers) if len(words) > 1]
    other_columns = [column for column in columns if column not in (*keys, word)]
    tags = {
        column
        for column in other_columns
        if _are_tags(column, seen) or ((names := source.class_names.get(column)) and all(map(looks_like_tag, names)))
    }
    varying = {column for column in other_columns for words in several if len({row[column] for row in words}) > 1}
    counts = words_alone and all(_COUNTS.fullmatch(row[sentence].strip()) for row in seen)
    if not several or not (tags or counts or (not varying and _letters_only(sentence) != "sentence")):
        return source
    word_columns = tags | varying | {column for column in other_columns if len({row[column] for row in seen}) == 1}
    same = frozenset(other_columns) - word_columns
    by_word = source.read
    note = f"each row is one word: rows are grouped into sentences by {' and '.join(map(repr, keys))}"
    return replace(
        source,
        read=lambda self: _sentences(by_word(self), numbers, same, limit),
        notes=[*source.notes, note],
        by_word=replace(source, columns=columns),
    )


def _columns_of(source: Source) -> tuple[str, ...]:
    """The columns; those of the first usable row where the file does not name them."""
    if source.columns is not None:
        return source.columns
    return tuple(field for row in source.first_rows(1) for field in row.fields)


def _cell(value: Any) -> str:
    """A value as a table would hold it."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def names_words(cells: Sequence[str]) -> bool:
    """Whether these are the column names of such a table: one numbers sentences, another holds words."""
    return _named(cells, _SENTENCE_NAMES) is not None and _named(cells, _WORD_NAMES) is not None


def _letters_only(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _named(columns: Sequence[str], names: frozenset[str]) -> str | None:
    return next((column for column in columns if _letters_only(column) in names), None)


def _are_tags(column: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Only tags, at least one with a type; or a column named for tags that holds only O."""
    found = [row[column] for row in rows]
    only_outside = _letters_only(column) in _TAG_NAMES and all(tag == "O" for tag in found)
    return only_outside or (all(map(looks_like_tag, found)) and any(map(has_type, found)))


@dataclass(frozen=True)
class _Numbers:
    """How sentences are numbered. once: the keys that are given only at the first word."""

    keys: tuple[str, ...]
    sentence: str
    once: frozenset[str]

    def of(self, row: Mapping[str, Any], before: Number) -> Number:
        """The sentence number of a word; `before`: that of the previous word, () for the first."""
        last = before or ("",) * len(self.keys)
        cells = (_cell(row.get(key)).strip() for key in self.keys)
        return tuple(
            cell or (earlier if key in self.once else "")
            for key, cell, earlier in zip(self.keys, cells, last, strict=True)
        )

    def names_one(self, number: Number) -> bool:
        return bool(number[self.keys.index(self.sentence)])


def _grouped(rows: Iterable[Mapping[str, str]], numbers: _Numbers) -> Iterator[list[Mapping[str, str]]]:
    number: Number = ()
    held: list[Mapping[str, str]] = []
    for row in rows:
        here = numbers.of(row, number)
        if held and here != number:
            yield held
            held = []
        held.append(row)
        number = here
    if held:
        yield held


@dataclass
class _Sentence:
    """The words of a sentence so far; fault: the first reason why it cannot be used."""

    first: Row | Reject
    words: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None
    size: int = 0

    def add(self, row: Row, limit: int) -> None:
        self.size += sum(len(_cell(value)) for value in row.fields.values())
        if self.fault is None and self.size > limit:
            self.fault = too_large(self.size, limit)
            del self.words[_NUM_HELD:]
        if self.fault is None or len(self.words) < _NUM_HELD:
            self.words.append(dict(row.fields))

    def row(self, numbers: _Numbers, same: frozenset[str]) -> Row | Reject:
        """A column is a list of what each word has in it; the numbers are one value, and so are columns of `same` with one."""
        name, line = self.first.source, self.first.line
        if self.fault is not None:
            raw = json.dumps(self.words, ensure_ascii=False) if self.words else getattr(self.first, "raw", "")
            return Reject(name, line, self.fault, raw[:MAX_RAW])
        columns = dict.fromkeys(column for word in self.words for column in word)  # of JSON a word may lack one
        fields = {column: [word.get(column) for word in self.words] for column in columns}
        return Row(
            name,
            line,
            {
                column: cells[0]
                if column in numbers.keys or (column in same and len(set(map(_cell, cells))) == 1)
                else cells
                for column, cells in fields.items()
            },
        )


def _sentences(
    rows: Iterator[Row | Reject], numbers: _Numbers, same: frozenset[str], limit: int
) -> Iterator[Row | Reject]:
    """A word that cannot be read rejects the sentences before and after it: it may belong to either.

    A sentence whose number occurred earlier becomes a Reject: its words are not consecutive. So does a word without a number
    where every word has one, or none came before.
    """
    held: _Sentence | None = None
    number: Number = ()
    ended: set[int] = set()
    fault: str | None = None
    for row in rows:
        if isinstance(row, Reject):
            fault = f"a word cannot be read ({row.address}): {row.reason}"
            held = held or _Sentence(row)
            held.fault = held.fault or fault
            continue
        here = numbers.of(row.fields, number)
        if held is None or not number or here != number:
            if held is not None:
                ended.add(hash(number))
                yield held.row(numbers, same)
            if not numbers.names_one(here):
                fault = fault or "the word has no sentence number"
            elif hash(here) in ended:
                name = here[numbers.keys.index(numbers.sentence)]
                fault = fault or f"sentence {name!r} also occurs earlier: its words are not in consecutive rows"
            held, number = _Sentence(row, fault=fault), here
        held.add(row, limit)
        fault = None
    if held is not None:
        yield held.row(numbers, same)
