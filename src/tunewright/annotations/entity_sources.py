"""A further source of entities, read like the first: the same column names, tags in IOB2, integers as names.

    test.parquet  words: ['Ulm'], tags: [3] (S-LOC)    as    tokens: ['Ulm'], ner_tags: ['B-LOC']      where train.conll has these

Each file may have its own scheme; a sequence that is illegal in its scheme becomes a Reject.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.annotations.tags import are_types_first, detect_scheme, prefix_first, spans_of_tags, tags_of_spans
from tunewright.errors import RowError
from tunewright.reading import Source
from tunewright.reading.detect import peek
from tunewright.reading.entities import ListReader, entity_roles, input_column, is_span, list_readers
from tunewright.reading.source import MAX_RAW
from tunewright.records import Reject, Row

READ_AS = "IOB2"
"""The scheme that `EntityReader` reads; it reports illegal sequences itself."""
NUM_ROWS = 5_000
"""Rows read to detect the scheme."""


def entity_source(
    source: Source, *, text: str, label: str | None, names: Sequence[str] | None = None, overwrite: bool = False
) -> Source:
    """`source` with the columns `text` and `label`. names: the names of integer tags, used where the source has none (or always, with overwrite)."""
    rows, columns = peek(source)
    renamed = _renamed(rows, columns, text, label)
    own = {theirs: source.class_names[theirs] for theirs in source.class_names if renamed.get(theirs, theirs) == label}
    names = names if overwrite or not own else next(iter(own.values()))
    notes = [f"column {theirs!r} is read as {ours!r}" for theirs, ours in renamed.items()]
    under_ours = [Row(row.source, row.line, _under(row, renamed)) for row in rows]
    readers = list_readers(under_ours, text, label)
    notes += [reader.note for reader in readers]
    scheme, types_first = None, False
    if label is not None:
        tags = (
            _tags(_fields(row, renamed, readers).get(label), names) for row in source.rows() if isinstance(row, Row)
        )
        sequences = [one for one in itertools.islice(tags, NUM_ROWS) if one]
        types_first = are_types_first(sequences)
        if types_first:
            example = next(tag for tags in sequences for tag in tags if tag not in ("O", ""))
            notes.append(f"tags name the type first: {example} is read as {prefix_first(example)}")
            sequences = [list(map(prefix_first, tags)) for tags in sequences]
        if sequences:
            scheme, why = detect_scheme(sequences)
            notes.append(f"tags are {scheme}: {why}")
    return replace(
        source,
        read=lambda self: _read(source.read(self), renamed, readers, label, scheme, names, types_first),
        columns=tuple(renamed.get(name, name) for name in columns),
        notes=[*source.notes, *notes],
    )


def _renamed(rows: Sequence[Row], columns: Sequence[str], text: str, label: str | None) -> dict[str, str]:
    """Columns of this source -> `text` and `label`, where those are absent and the roles are clear."""
    if not rows or text in columns:
        return {}
    if label is None or label in columns:
        theirs = input_column(columns, rows)
        return {theirs: text} if theirs else {}
    roles = entity_roles(columns, rows)
    return {roles.text[0]: text, roles.label: label} if roles and roles.label else {}


def _under(row: Row, renamed: Mapping[str, str]) -> dict[str, Any]:
    return {renamed.get(name, name): value for name, value in row.fields.items()}


def _fields(row: Row, renamed: Mapping[str, str], readers: Sequence[ListReader]) -> dict[str, Any]:
    """The fields under our names, with stringified lists parsed; a text that is no list stays and is rejected where it is used."""
    fields = _under(row, renamed)
    for reader in readers:
        value = fields.get(reader.column)
        found = reader.read(value) if isinstance(value, str) else None
        if found is not None:
            fields[reader.column] = found
    return fields


def _tags(value: Any, names: Sequence[str] | None) -> list[str] | None:
    """Tags as strings; None for a value that is not a list of tags (entities, or nothing)."""
    if not isinstance(value, list) or any(map(is_span, value)):
        return None
    if names and all(type(tag) is int and 0 <= tag < len(names) for tag in value):
        return [names[tag] for tag in value]
    return value if all(isinstance(tag, str) for tag in value) else None


def _read(
    rows: Iterator[Row | Reject],
    renamed: Mapping[str, str],
    readers: Sequence[ListReader],
    label: str | None,
    scheme: str | None,
    names: Sequence[str] | None,
    types_first: bool,
) -> Iterator[Row | Reject]:
    for row in rows:
        if not isinstance(row, Row):
            yield row
            continue
        fields = _fields(row, renamed, readers)
        tags = _tags(fields.get(label), names) if label and scheme else None
        if tags is not None and scheme is not None and label is not None:
            tags = list(map(prefix_first, tags)) if types_first else tags
            try:
                fields[label] = tags if scheme == READ_AS else tags_of_spans(spans_of_tags(tags, scheme), len(tags))
            except RowError as error:
                raw = json.dumps(fields, ensure_ascii=False, default=str)[:MAX_RAW]
                yield Reject(row.source, row.line, error.reason, raw)
                continue
        yield Row(row.source, row.line, fields)
