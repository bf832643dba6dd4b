"""A table with a row for each word -> a row for each sentence, the columns of its words as lists.

    Sentence #,Word,POS,Tag
    Sentence: 1,Ann,NNP,B-PER
    ,sleeps,VBZ,O                    Row('a.csv', 2, {'Sentence #': 'Sentence: 1', 'Word': ['Ann', 'sleeps'], …, 'Tag': ['B-PER', 'O']})

Known by a column that numbers sentences, one of words and one of tags. A number stands beside every word, or beside the
first one alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunewright.reading.source import MAX_RAW, Source
from tunewright.reading.tagged import looks_like_tag
from tunewright.records import Reject, Row

_SENTENCE_NAMES = frozenset(
    f"{noun}{number}"
    for noun in ("sentence", "sent")
    for number in ("", "id", "no", "nr", "num", "number", "idx", "index")
)
_WORD_NAMES = frozenset(("word", "words", "token", "tokens"))
_NUM_ROWS = 1_000
"""Words looked at for tags."""


def with_sentences(source: Source) -> Source:
    """`source` itself, unless it has a row for each word."""
    sentence = _named(source.columns or (), _SENTENCE_NAMES)
    if sentence is None or _named(source.columns or (), _WORD_NAMES) is None or not _has_tags(source):
        return source
    by_word = source.read
    note = f"a row for each word: read as sentences by {sentence!r}"
    return replace(source, read=lambda self: _sentences(by_word(self), sentence), notes=[*source.notes, note])


def _named(columns: Sequence[str], names: frozenset[str]) -> str | None:
    return next((column for column in columns if re.sub("[^a-z]", "", column.lower()) in names), None)


def _has_tags(source: Source) -> bool:
    """Whether a column holds nothing but tags, and one of them at least has a type."""
    tags: dict[str, bool] = dict.fromkeys(source.columns or (), False)
    for number, row in enumerate(source.rows()):
        if number == _NUM_ROWS or not tags:
            break
        if isinstance(row, Row):
            tags = {
                column: has_type or "-" in row.fields[column]
                for column, has_type in tags.items()
                if looks_like_tag(row.fields[column])
            }
    return any(tags.values())


@dataclass
class _Sentence:
    """The words of a sentence so far; fault: the first reason why it cannot be used."""

    first: Row | Reject
    words: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None

    def row(self, sentence: str) -> Row | Reject:
        name, line = self.first.source, self.first.line
        if self.fault is not None:
            raw = json.dumps(self.words, ensure_ascii=False) if self.words else getattr(self.first, "raw", "")
            return Reject(name, line, self.fault, raw[:MAX_RAW])
        columns = (column for column in self.words[0] if column != sentence)
        fields: dict[str, Any] = {sentence: self.words[0][sentence]}
        return Row(name, line, fields | {column: [word[column] for word in self.words] for column in columns})


def _sentences(rows: Iterator[Row | Reject], sentence: str) -> Iterator[Row | Reject]:
    """A word that cannot be read spoils the sentence before it and the one after: it may belong to either."""
    held: _Sentence | None = None
    number, fault = "", None
    for row in rows:
        if isinstance(row, Reject):
            fault = f"a word cannot be read ({row.address}): {row.reason}"
            held = held or _Sentence(row)
            held.fault = held.fault or fault
            continue
        here = row.fields[sentence].strip()
        if held is None or (here and here != number):
            if held is not None:
                yield held.row(sentence)
            held, number = _Sentence(row, fault=fault), here
        held.words.append(dict(row.fields))
        fault = None
    if held is not None:
        yield held.row(sentence)
