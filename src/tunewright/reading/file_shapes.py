"""Several files of different shapes as one source of rows: each is read by its own columns.

    alpaca.jsonl     instruction, input, output
    sharegpt.jsonl   conversations        with_shape(source, found)      each row carries its shape in the field SHAPE

`shape_of(row, shape)` gives a row's own shape, else the first file's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tunewright.reading import Source
from tunewright.records import Reject, Row

SHAPE = "\0shape"
"""A field name that no file can have: holds the shape of rows whose file differs from the first one."""
Shape = TypeVar("Shape")


def with_shape(source: Source, shape: Any, columns: Mapping[str, str]) -> Source:
    """`source` with this shape on every row. columns: role -> column, for messages."""
    said = ", ".join(f"{role} {column}" for role, column in columns.items())
    return replace(source, read=lambda self: _marked(source.read(self), shape), shape=said)


def shape_of(row: Row, shape: Shape) -> tuple[Row, Shape]:
    """(the row as in its file, its own shape or else the given one)."""
    if SHAPE not in row.fields:
        return row, shape
    return Row(row.source, row.line, bare_fields(row)), row.fields[SHAPE]


def bare_fields(row: Row) -> dict[str, Any]:
    """The fields that the file has."""
    return {key: value for key, value in row.fields.items() if key != SHAPE}


def _marked(rows: Iterator[Row | Reject], shape: Any) -> Iterator[Row | Reject]:
    for row in rows:
        yield Row(row.source, row.line, {**row.fields, SHAPE: shape}) if isinstance(row, Row) else row
