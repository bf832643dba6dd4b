"""A table with a row for each word -> a row for each sentence, the columns of its words as lists.

    Sentence #,Word,POS,Tag
    Sentence: 1,Ann,NNP,B-PER
    ,sleeps,VBZ,O                    Row('a.csv', 2, {'Sentence #': 'Sentence: 1', 'Word': ['Ann', 'sleeps'], …, 'Tag': ['B-PER', 'O']})

Known by a column that numbers sentences, one of words and one of tags; a column of documents is part of the number.
"""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
"""Words looked at for tags."""


def with_sentences(source: Source) -> Source:
    """`source` itself, unless it has a row for each word."""
    columns = source.columns or ()
    sentence, word = _named(columns, _SENTENCE_NAMES), _named(columns, _WORD_NAMES)
    if sentence is None or word is None:
        return source
    documents = (column for column in columns if _plainly(column) in _DOCUMENT_NAMES)
    keys = (*documents, sentence)
    seen = [row.fields for row in itertools.islice(source.rows(), _NUM_ROWS) if isinstance(row, Row)]
    same = _same_within(seen, keys, word)
    if same is None or not (_tag_columns(seen, (*keys, word)) or _plainly(sentence) != "sentence"):
        return source
    by_word = source.read
    note = f"a row for each word: read as sentences by {' and '.join(map(repr, keys))}"
    return replace(
        source, read=lambda self: _sentences(by_word(self), keys, {*keys, *same}), notes=[*source.notes, note]
    )


def _plainly(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _named(columns: Sequence[str], names: frozenset[str]) -> str | None:
    return next((column for column in columns if _plainly(column) in names), None)


def _tag_columns(rows: Sequence[Mapping[str, str]], others: Sequence[str]) -> list[str]:
    """Columns that hold nothing but tags, one of them at least with a type; or that are called so and hold only O."""
    return [
        column
        for column in (rows[0] if rows else ())
        if column not in others
        and all(looks_like_tag(row[column]) for row in rows)
        and (_plainly(column) in _TAG_NAMES or any(has_type(row[column]) for row in rows))
    ]


def _same_within(rows: Sequence[Mapping[str, str]], keys: tuple[str, ...], word: str) -> list[str] | None:
    """Columns with one value for all words of each sentence, tags aside; None where no sentence has two words."""
    sentences = [list(group) for _, group in itertools.groupby(_numbered(rows, keys), key=operator.itemgetter(0))]
    several = [[row for _, row in one] for one in sentences if len(one) > 1]
    if not several:
        return None
    others = [column for column in rows[0] if column not in (*keys, word, *_tag_columns(rows, (*keys, word)))]
    return [column for column in others if all(len({row[column] for row in one}) == 1 for one in several)]


def _numbered(rows: Iterable[Mapping[str, str]], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each row with its sentence's number, which may stand beside the first word alone."""
    number: tuple[str, ...] = ()
    for row in rows:
        here = tuple(row[key].strip() for key in keys)
        number = here if here[-1] or not number else number
        yield number, row


@dataclass
class _Sentence:
    """The words of a sentence so far; fault: the first reason why it cannot be used."""

    first: Row | Reject
    words: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None

    def add(self, row: Row) -> None:
        if self.fault is None or len(self.words) < _NUM_ROWS:  # what is rejected need not be held whole
            self.words.append(dict(row.fields))

    def row(self, same: set[str]) -> Row | Reject:
        """A column is a list of what each word has in it; those in `same` are one value."""
        name, line = self.first.source, self.first.line
        differs = next((column for column in same if len({word[column] for word in self.words}) > 1), None)
        if differs is not None and not self._is_numbered_once(differs):
            self.fault = self.fault or f"its words differ in {differs!r}"
        if self.fault is not None:
            raw = json.dumps(self.words, ensure_ascii=False) if self.words else getattr(self.first, "raw", "")
            return Reject(name, line, self.fault, raw[:MAX_RAW])
        columns = self.words[0]
        return Row(
            name, line, {column: columns[column] if column in same else [w[column] for w in self.words] for column in columns}
        )  # fmt: skip

    def _is_numbered_once(self, column: str) -> bool:
        return not any(word[column].strip() for word in self.words[1:])


def _sentences(rows: Iterator[Row | Reject], keys: tuple[str, ...], same: set[str]) -> Iterator[Row | Reject]:
    """A word that cannot be read spoils the sentence before it and the one after: it may belong to either.

    A sentence whose number has been met before is a reject: its words do not stand together.
    """
    held: _Sentence | None = None
    number: tuple[str, ...] = ()
    ended: set[int] = set()
    fault: str | None = None
    for row in rows:
        if isinstance(row, Reject):
            fault = f"a word cannot be read ({row.address}): {row.reason}"
            held = held or _Sentence(row)
            held.fault = held.fault or fault
            continue
        here = tuple(row.fields[key].strip() for key in keys)
        if held is None or (here[-1] and here != number):
            if held is not None:
                ended.add(hash(number))
                yield held.row(same)
            if not here[-1]:
                fault = fault or "its sentence has no number"
            elif hash(here) in ended:
                fault = fault or f"sentence {here[-1]!r} has ended further up: its words do not stand together"
            held, number = _Sentence(row, fault=fault), here
        held.add(row)
        fault = None
    if held is not None:
        yield held.row(same)
