"""Parquet and Arrow -> Row, by record batches; the whole table is never in memory.

    train.parquet (text: string, label: int64)       Row('train.parquet', 1, {'text': 'Fine.', 'label': 1})

Numbers, lists and structs become Python values, dictionary columns their values, times and decimals their text, null
None. `Row.line` is the 1-based row number. Names of integer classes come from the metadata that `datasets` writes.
"""

from __future__ import annotations

import datetime
import decimal
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.errors import UserError
from tunewright.reading import in_memory
from tunewright.reading.batch_checks import validated
from tunewright.reading.files import empty, is_packed, opened, too_large, unreadable
from tunewright.reading.json_values import text_fault
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import MAX_RAW, MAX_RAW_LARGE, Source
from tunewright.records import Reject, Row

if TYPE_CHECKING:
    import pyarrow

FORMATS = {"parquet": (".parquet",), "arrow": (".arrow", ".feather")}
READS_KEYS = {"format"}
_BATCH = 1024
_CONTINUES = b"\xff\xff\xff\xff"
_STREAM_END = _CONTINUES + b"\0\0\0\0"
_AS_TEXT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
_BEYOND_PYTHON = (ValueError, ArithmeticError, LookupError)
_OUT_OF_RANGE = ("<value out of range", "<scale out of range")  # how Arrow itself spells such a time, such a decimal


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for an empty, broken or cut file."""
    return shards_source([path], name, format, options)


def shards_source(paths: Sequence[Path], name: str, format: str, options: ReadOptions) -> Source:
    """Several files of one table, in order. Raises UserError where their columns differ."""
    schemas = [_schema(path, name if len(paths) == 1 else f"{name}/{path.name}") for path in paths]
    columns = tuple(schemas[0].names)
    for path, schema in zip(paths, schemas, strict=True):
        if tuple(schema.names) != columns:
            raise UserError(
                "the files of the folder have different columns",
                where=f"{name}/{path.name}",
                found=", ".join(schema.names),
                expected=", ".join(columns),
                hint="Name one of the files instead of the folder.",
            )
    if len(set(columns)) < len(columns):
        raise UserError("a column name occurs twice", where=name, found=", ".join(columns), hint="Rename one of them.")

    facts = in_memory.described(schemas[0]) if len(paths) == 1 else None
    decode = None if facts is None else in_memory.decoder(facts)
    if facts is not None:
        name, columns = (
            in_memory.source_name(facts, in_memory.labels_in(paths[0], schemas[0])),
            in_memory.columns_of(columns),
        )

    def rows(_: Source) -> Iterator[Row | Reject]:
        batches = (batch for path in paths for batch in _batches(path, name))
        yield from rows_of(batches, name, options.max_row_bytes, decode)

    metadata = (schemas[0].metadata or {}).get(b"huggingface", b"{}")
    return Source(name, format, rows, columns, class_names(metadata), paths=tuple(paths))


def class_names(metadata: str | bytes) -> dict[str, tuple[str, ...]]:
    """Column -> class names out of a `datasets` description, for ClassLabel columns and lists of them."""
    try:
        described = json.loads(metadata)
        features = (described.get("info") or described).get("features") or {}
        inner = {column: feature.get("feature") or feature for column, feature in features.items()}
        named = {column: feature["names"] for column, feature in inner.items() if feature.get("names")}
        return {column: tuple(names) for column, names in named.items() if _are_names(names)}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {}  # metadata of another kind: the integers stay without names


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and text_fault(name) is None for name in names)


def rows_of(
    batches: Iterator[pyarrow.RecordBatch],
    name: str,
    limit: int,
    decode: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Iterator[Row | Reject]:
    """The rows of record batches that are `validated`, numbered through. decode: the values of a row from those that were written."""
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH):
            piece = batch.slice(start, _BATCH)
            large = piece.nbytes > limit
            for fields in _python_rows(piece):
                number += 1
                if decode is not None and isinstance(fields, dict):
                    fields = decode(fields)
                yield _row(name, number, fields, limit if large else None)


@dataclass(frozen=True)
class _Unreadable:
    """Replaces a value that Python cannot represent: the reason, and an excerpt."""

    reason: str
    raw: str


def _row(name: str, number: int, fields: dict[str, Any] | _Unreadable, limit: int | None) -> Row | Reject:
    if isinstance(fields, _Unreadable):
        return Reject(name, number, fields.reason, fields.raw)
    fault = text_fault(fields)
    if fault is None and limit is None:
        return Row(name, number, fields)
    raw = json.dumps(fields, ensure_ascii=False, default=str)
    if limit is not None and (size := len(raw.encode("utf-8", "replace"))) > limit:
        return Reject(name, number, too_large(size, limit), raw[:MAX_RAW_LARGE] + " …")
    return Reject(name, number, fault, raw[:MAX_RAW]) if fault else Row(name, number, fields)


def _python_rows(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any] | _Unreadable]:
    names = batch.schema.names
    columns = [_python_column(column, name) for column, name in zip(batch.columns, names, strict=True)]
    for values in zip(*columns, strict=True):
        broken = next((value for value in values if isinstance(value, _Unreadable)), None)
        yield broken or dict(zip(names, values, strict=True))


def _python_column(column: pyarrow.Array, name: str) -> list[Any]:
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            return [_decoded(value) for value in column.cast(_binary_of(kind)).to_pylist()]
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind):
        return column.to_pylist()
    try:
        return [_plain(value) for value in column.to_pylist()]
    except _BEYOND_PYTHON:
        return [_value(one, name) for one in column]


def _value(scalar: Any, column: str) -> Any:
    """One value, in a column where Python cannot represent some."""
    import pyarrow

    try:
        return _plain(scalar.as_py())
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    except _BEYOND_PYTHON:  # nanoseconds, a time zone, a date or a decimal that Python has not
        try:
            text = scalar.cast(pyarrow.string()).as_py()
        except pyarrow.ArrowException:
            text = f"{_OUT_OF_RANGE[0]}>"
    if text.startswith(_OUT_OF_RANGE):
        return _Unreadable(f"the {scalar.type} in the column {column!r} is out of range", text)
    return text


def _binary_of(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow

    return pyarrow.large_binary() if pyarrow.types.is_large_string(kind) else pyarrow.binary()


def _decoded(value: bytes | None) -> str | _Unreadable | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return _not_utf8(error)


def _not_utf8(error: UnicodeDecodeError) -> _Unreadable:
    raw = error.object[:MAX_RAW].decode("utf-8", "backslashreplace")
    return _Unreadable(f"byte 0x{error.object[error.start]:02X} of the text is not UTF-8", raw)


def _plain(value: Any) -> Any:
    """Times and decimals as their text, bytes that are UTF-8 as text, and so on inside lists and structs.

    Structs have every field of their type in every row: null fields are dropped, as if absent in JSON.
    """
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, bytes):
        decoded = _decoded(value)
        return value if isinstance(decoded, _Unreadable) else decoded
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    return value


def _schema(path: Path, name: str) -> pyarrow.Schema:
    with _table(path, name) as table:
        schema = table.schema_arrow if hasattr(table, "schema_arrow") else table.schema
        if not schema.names:  # which raises UnicodeDecodeError for names that are no text
            raise UserError("a table without columns", where=name, hint="Download or write it again.")
        return schema


def _batches(path: Path, name: str) -> Iterator[pyarrow.RecordBatch]:
    """Validated pieces of at most `_BATCH` rows."""
    with _table(path, name) as table:
        size = path.stat().st_size
        for batch in _whole_batches(table):
            _require_size(path, name, size)
            for start in range(0, validated(batch).num_rows, _BATCH):
                yield batch.slice(start, _BATCH)
                _require_size(path, name, size)
        _require_size(path, name, size)


def _require_size(path: Path, name: str, size: int) -> None:
    """UserError where a mapped file was truncated: reading beyond its end gives zeros or crashes."""
    if path.stat().st_size < size:
        raise UserError("the file became shorter while it was read", where=name, hint="Run the command again.")


def _whole_batches(table: Any) -> Iterator[pyarrow.RecordBatch]:
    if hasattr(table, "iter_batches"):
        yield from table.iter_batches(_BATCH)
    elif hasattr(table, "num_record_batches"):
        yield from (table.get_batch(number) for number in range(table.num_record_batches))
    else:
        yield from table


@contextmanager
def _table(path: Path, name: str) -> Iterator[Any]:
    """A ParquetFile, or an IPC file or stream reader, by the first bytes; errors become UserErrors."""
    import pyarrow

    try:
        with _seekable(path, name) as file:
            yield _reader(file, name)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"not a complete Parquet or Arrow file ({str(error).splitlines()[0]})",
            where=name,
            hint="Download or write it again.",
        ) from error
    except OSError as error:
        if error.errno is None:  # Arrow itself: a page that does not unpack
            raise UserError(f"damaged ({error})", where=name, hint="Download or write it again.") from error
        raise unreadable(name, error) from error


def _reader(file: pyarrow.NativeFile, name: str) -> Any:
    import pyarrow.ipc
    import pyarrow.parquet

    size = file.size()
    if size == 0:
        raise empty(name)
    start = file.read(8)
    file.seek(max(0, size - len(_STREAM_END)))
    end = file.read(len(_STREAM_END))
    file.seek(0)
    if start.startswith(b"PAR1"):
        return pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
    if start.startswith(b"ARROW1"):
        return pyarrow.ipc.open_file(file)
    reader = pyarrow.ipc.open_stream(file)
    if start.startswith(_CONTINUES) and end != _STREAM_END:
        # Arrow itself reads a stream cut between two batches as one with fewer rows
        raise pyarrow.ArrowInvalid("the stream has no end marker: it is incomplete, or its writer was not closed")
    return reader


@contextmanager
def _seekable(path: Path, name: str) -> Iterator[pyarrow.NativeFile]:
    """The file memory-mapped; a packed one is unpacked to a temporary file first, since its end is read first."""
    import pyarrow

    if not is_packed(path, name):
        if path.stat().st_size == 0:
            raise empty(name)
        with pyarrow.memory_map(str(path)) as mapped:
            yield mapped
        return
    with tempfile.NamedTemporaryFile() as unpacked:
        with opened(path, name) as stream:
            shutil.copyfileobj(stream, unpacked, 2**20)
        unpacked.flush()
        with pyarrow.OSFile(unpacked.name) as file:
            yield file
