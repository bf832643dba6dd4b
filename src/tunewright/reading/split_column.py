"""A column with the split of each row -> one source per split, over the same file.

text,label,split
Fine.,good,train
Poor.,bad,test           split_by(source, "split")      {"train": Source, "test": Source}
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from tunewright.errors import UserError, quoted
from tunewright.reading.detect import peek
from tunewright.reading.names import SPLIT_NAMES, normalize_name
from tunewright.reading.shares import nearly_all
from tunewright.reading.source import MAX_RAW, Source
from tunewright.records import Reject, Row

_NAMES = ("split", "partition", "data_split", "dataset_split", "train_test_split", "semeval_set")
_SPLIT_OF = {word: split for split, words in SPLIT_NAMES.items() for word in words}


def find_split_column(source: Source) -> str | None:
    """The column with such a name that holds a split in nearly every row, train included. Reads the whole file where a name fits."""
    rows, columns = peek(source)
    for column in (one for one in columns if normalize_name(one) in _NAMES):
        if nearly_all(lambda row, of=column: _split_of(row, of), rows):  # type: ignore[misc]
            found = [_split_of(row, column) for row in source.rows() if isinstance(row, Row)]
            if "train" in found and len({*found} - {None}) > 1 and nearly_all(bool, found):
                return column
    return None


def split_by(source: Source, column: str) -> dict[str, Source]:
    """The splits that occur, training first. Reads the file once. UserError where no row belongs to the training split.

    A row without a split becomes a Reject of the training split, as does one that cannot be read.
    """
    found = {_split_of(row, column) for row in source.rows() if isinstance(row, Row)}
    if "train" not in found:
        raise UserError(
            "no row belongs to the training split", where=f"{source.name}, column {column!r}", found=quoted(sorted(filter(None, found))) or "no split",
            expected="train", hint="Remove data.split_column.",
        )  # fmt: skip
    return {split: replace(source, keep=partial(_kept, column, split)) for split in SPLIT_NAMES if split in found}


def _kept(column: str, split: str, row: Row | Reject) -> Row | Reject | None:
    of = "train" if isinstance(row, Reject) else _split_of(row, column)
    if of is None and split == "train" and isinstance(row, Row):
        said = repr(row.fields.get(column))[:40]
        raw = json.dumps(row.fields, ensure_ascii=False, default=str)[:MAX_RAW]
        return Reject(row.source, row.line, f"its {column!r} is {said}, expected train, validation or test", raw)
    return row if of == split else None


def _split_of(row: Row, column: str) -> str | None:
    return _SPLIT_OF.get(str(row.fields.get(column)).strip().lower())
