"""A source with other column names than the training file -> the same source under the training file's names.

    train.csv  review, sentiment        test.jsonl  text, label
    aligned(test, text=("review",), pair=None, label="sentiment")      its rows have the fields review and sentiment

Only where the needed columns are absent and the roles of the existing ones are clear; a note reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tunewright.errors import UserError
from tunewright.reading.detect import detect_roles, peek
from tunewright.reading.source import Source
from tunewright.records import Reject, Row


def aligned(source: Source, *, text: Sequence[str], pair: str | None, label: str | None) -> Source:
    """`source` with its columns renamed where needed; unchanged where the columns exist or their roles are unclear."""
    rows, columns = peek(source)
    needed = [*text, *(name for name in (pair, label) if name)]
    if not rows or any(name in columns for name in needed) or len(text) != 1:
        return source
    try:
        roles = detect_roles(columns, rows)
    except UserError:
        return source
    if len(roles.text) != 1 or (roles.pair is None) != (pair is None):
        return source
    names = {roles.text[0]: text[0]}
    if pair is not None and roles.pair is not None:
        names[roles.pair] = pair
    if label is not None and roles.label is not None:
        names[roles.label] = label
    said = ", ".join(f"{theirs!r} is read as {ours!r}" for theirs, ours in names.items())
    return replace(
        source,
        read=lambda self: _renamed(source.read(self), names),
        columns=tuple(names.get(name, name) for name in columns),
        class_names={names.get(name, name): classes for name, classes in source.class_names.items()},
        notes=[*source.notes, f"column {said}"],
    )


def _renamed(rows: Iterator[Row | Reject], names: Mapping[str, str]) -> Iterator[Row | Reject]:
    for row in rows:
        if isinstance(row, Row):
            yield Row(row.source, row.line, {names.get(name, name): value for name, value in row.fields.items()})
        else:
            yield row
