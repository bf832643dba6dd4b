"""What every reader returns: a `Source`, whose `rows()` are the `Row`s and `Reject`s of one file, in order.

source = open_source("train.csv")
source.columns                 ('review', 'sentiment')
next(source.rows())            Row(source='train.csv', line=2, fields={'review': 'Fine.', 'sentiment': 'positive'})
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.errors import UserError, quoted
from tunewright.records import HeldRows, Reject, Row, address_of
from tunewright.reporting import html

MAX_RAW = 10_000
"""Characters of a rejected row that are kept."""
MAX_RAW_LARGE = 2_000
"""Characters kept of a row that is too large."""
_ROWS_SHOWN = 5
_LOOKED_AT = 200
"""First rows that are read at once: as many as most ask for."""
_MOST_KEPT = 2**22
"""Characters of first rows that are kept; longer ones are read again when they are asked for again."""
_ROWS_OVER_SEVERAL_LINES = ("csv", "tsv", "json", "conll")


@dataclass(repr=False)
class Source:
    """One readable thing: a file, one split of a dataset folder, one split of a Hub data set."""

    name: str
    """As the user wrote it."""
    format: str
    read: Callable[[Source], Iterator[Row | Reject]]
    """One pass over the rows; gets this source so that it can count blank lines."""
    columns: tuple[str, ...] | None = None
    """Known beforehand for tables and columnar files; None for JSON."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> the names of its integer classes, where the file carries them (`datasets` features)."""
    notes: list[str] = field(default_factory=list)
    """What was detected and is reported to the user."""
    shape: str = ""
    """Its columns and their roles, where they differ from those of the first file."""
    paths: tuple[Path, ...] = ()
    names_read: tuple[str, ...] = ()
    """Names of the files, where the name is data too (a folder is a label)."""
    keep: Callable[[Row | Reject], Row | Reject | None] | None = None
    """Selects and checks rows; None for a row that belongs to another source over the same file."""
    by_word: Source | None = None
    """The same source with one row per word, where words were grouped into sentences."""
    stamps: dict[Path, tuple[int, ...] | None] = field(default_factory=dict)
    """Which file a path was when it was opened, see `unchanged`."""
    num_blank_lines: int = 0
    """Blank lines in the last pass of `rows()`; they are neither rows nor rejects."""
    _first: tuple[list[Row], bool] = field(default=([], False), init=False, repr=False, compare=False)
    """The rows that `first_rows` returned, and whether these are all."""

    def rows(self) -> Iterator[Row | Reject]:
        """The rows from the beginning, each time it is called; memory does not grow with the file.

        Raises UserError where the file as a whole cannot be read on (a broken archive, a file that has gone).
        """
        self.num_blank_lines = 0
        rows = self.read(self)
        return rows if self.keep is None else (kept for row in rows if (kept := self.keep(row)) is not None)

    def first_rows(self, n: int) -> list[Row]:
        """The first `n` rows that can be used: read once, however many ask for them."""
        known, is_whole = self._first
        if len(known) < n and not is_whole:
            n_read = max(n, _LOOKED_AT)
            known = list(itertools.islice((row for row in self.rows() if isinstance(row, Row)), n_read))
            if sum(len(str(value)) for row in known for value in row.fields.values()) < _MOST_KEPT:
                self._first = known, len(known) < n_read
        return known[:n]

    def __repr__(self) -> str:
        columns = quoted(self.columns) if self.columns else "as each row has them"
        kind = self.name.described if isinstance(self.name, HeldRows) else self.format
        return f"Source {self.name}: {kind}, columns {columns}"

    def _repr_html_(self) -> str:
        rows = self.first_rows(_ROWS_SHOWN)
        columns = self.columns or tuple(dict.fromkeys(key for row in rows for key in row.fields))
        cells = ([row.address, *(row.fields.get(column) for column in columns)] for row in rows)
        kind = self.name.described if isinstance(self.name, HeldRows) else self.format
        return html.table(["row", *columns], cells, title=f"{self.name} ({kind}), its first rows")

    def files(self) -> list[Path]:
        """The files whose content defines the rows; none for a Hub data set."""
        return list(self.paths)

    def row_at(self, line: int) -> Row | Reject:
        """The row that `train.csv:418` names: the one that begins at this line, or spans it, kept or not. Reads up to it."""
        before: Row | Reject | None = None
        for row in self.read(self):
            if row.line == line:
                kept = self.keep(row) if self.keep is not None else row
                return kept if isinstance(kept, Reject) else row
            if row.line > line:
                if before is not None and self.format in _ROWS_OVER_SEVERAL_LINES:
                    return before
                raise UserError(
                    "no row begins here", where=address_of(self.name, line), hint=f"The next row is {row.address}."
                )
            before = row
        last = f"the last row is {before.address}" if before else "it has no rows"
        raise UserError("no row begins here", where=address_of(self.name, line), found=last)
