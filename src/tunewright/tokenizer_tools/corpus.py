"""Files -> (address, text), streaming, as often as asked: what tokenizers are learned on and compared on.

    corpus = Corpus.open(["reviews.csv"])
    next(iter(corpus))            ("reviews.csv:2", "Two hundred words of praise …")
    corpus.columns, corpus.num_texts, corpus.num_rejected      ("review",), 5000, 0

Any readable source will do. Lists of words count as text (joined by blanks), and so do chats (the contents of their turns).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.errors import UserError, quoted
from tunewright.reading import ReadOptions, Source, open_source
from tunewright.reading.columns import JOINER, is_blank
from tunewright.reading.detect import detect_roles, find_column, peek
from tunewright.records import Reject, Row

_TURN_TEXT = ("content", "value", "text")
_SINGLE_BLANK = re.compile(r"\S \S")
_LOOK_BACK = 1_000
_NAMES_SHOWN = 8
_LINE_FORMAT = "text"
_LISTS = ("tokens", "words", "messages", "conversations")


@dataclass
class Corpus:
    """sources: each with its text columns; a text is what stands in them, joined by a blank line."""

    sources: list[tuple[Source, tuple[str, ...]]]
    num_texts: int = 0
    num_rejected: int = 0
    """Counted by the last pass, as are the texts."""
    first_reject: str | None = field(default=None)
    """Address and reason of the first row that gave no text."""

    @classmethod
    def open(cls, paths: Sequence[str], *, text: str | None = None, options: ReadOptions = ReadOptions()) -> Corpus:  # noqa: B008 (frozen)
        """text: column names, joined by commas; found where not given. UserError for files and columns that cannot be read."""
        named = tuple(text.split(",")) if text else ()
        sources = [open_source(path, options) for path in paths]
        return cls([(source, _columns(source, named)) for source in sources])

    @property
    def columns(self) -> tuple[str, ...]:
        """The text columns of the first source."""
        return self.sources[0][1]

    @property
    def described_columns(self) -> str:
        """Which columns of which file are read, and which other columns there are: `review of a.csv (not title, id)`."""
        return "; ".join(_describe_columns(source, columns) for source, columns in self.sources)

    @property
    def name(self) -> str:
        return ", ".join(source.name for source, _ in self.sources)

    @property
    def _reads_lines(self) -> bool:
        return all(source.format == _LINE_FORMAT for source, _ in self.sources)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        self.num_texts = self.num_rejected = 0
        self.first_reject = None
        for source, columns in self.sources:
            for row in source.rows():
                text = _text_of(row, columns)
                if text is None:
                    self._reject(row, columns)
                else:
                    self.num_texts += 1
                    yield row.address, text

    def _reject(self, row: Row | Reject, columns: Sequence[str]) -> None:
        reason = row.reason if isinstance(row, Reject) else f"no text in {quoted(columns)}"
        self.num_rejected += 1
        self.first_reject = self.first_reject or f"{row.address}: {reason}"

    def texts(self) -> Iterator[str]:
        """The texts alone, to learn from: lines of a plain text file with the line ends before them, long texts in pieces."""
        line = 1
        for address, text in self:
            if self._reads_lines:
                before, line = line, int(address.rpartition(":")[2])
                text = "\n" * max(0, line - before) + text
            yield from pieces(text)

    def no_text_error(self) -> UserError:
        """What to say where no row gave a text."""
        return UserError(
            "no text found",
            where=self.name,
            found=self.first_reject or "no rows",
            hint="Name the column: --text COLUMN.",
        )


def pieces(text: str, longest: int = 50_000) -> Iterator[str]:
    """A text cut before single blanks, which no way of splitting words joins; anywhere where there is none. For bounded memory."""
    start = 0
    while len(text) - start > longest:
        found = _SINGLE_BLANK.search(text, start + max(longest // 2, longest - _LOOK_BACK), start + longest)
        end = found.start() + 1 if found else start + longest
        yield text[start:end]
        start = end
    yield text[start:]


def _columns(source: Source, named: tuple[str, ...]) -> tuple[str, ...]:
    rows, columns = peek(source)
    if named:
        return tuple(find_column(name, columns, where=source.name, key="--text") for name in named)
    if "text" in columns:
        return ("text",)
    for name in _LISTS:
        if any(isinstance(row.fields.get(name), list) for row in rows):
            return (name,)
    try:
        roles = detect_roles(columns, rows)
    except UserError as error:
        raise UserError(
            error.problem, where=source.name, found=error.found, hint="Name the column: --text COLUMN (or A,B)."
        ) from None
    return (*roles.text, roles.pair) if roles.pair else roles.text


def _describe_columns(source: Source, columns: Sequence[str]) -> str:
    rest = [column for column in peek(source, 20)[1] if column not in columns]
    shown = ", ".join(rest[:_NAMES_SHOWN]) + (
        f" and {len(rest) - _NAMES_SHOWN} more" if len(rest) > _NAMES_SHOWN else ""
    )
    return f"{', '.join(columns)} of {source.name}" + (f" (not {shown})" if rest else "")


def _text_of(row: Row | Reject, columns: Sequence[str]) -> str | None:
    """None where there is no text."""
    if isinstance(row, Reject):
        return None
    text = JOINER.join(part for part in (_flat(row.fields.get(name)) for name in columns) if part)
    return None if is_blank(text) else text


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    if all(isinstance(part, str) for part in value):
        return " ".join(value)
    turns = (part.get(key) for part in value if isinstance(part, dict) for key in _TURN_TEXT)
    return JOINER.join(turn for turn in turns if isinstance(turn, str) and turn)
