"""An object that holds rows (a DataFrame, a Table, a list of dicts, …) -> an Arrow table whose rows read as those of a file.

    as_table(pandas.DataFrame({"text": ["Fine."], "label": [1]}, index=["a7"]))
    Held(kind='pandas DataFrame', table=text: string, label: int64, labels=["'a7'"], as_json=())

NaN, NA and NaT are null, as an empty value is. A column that Arrow cannot hold as it stands (values of several types, dicts whose
keys differ) is written as JSON, a text a cell, and named in `as_json`. pandas, polars and datasets are never imported: whose object it
is says its class.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tunewright.errors import UserError, quoted
from tunewright.reading.names import SPLIT_NAMES

if TYPE_CHECKING:
    import pyarrow

_AS_TEXT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
_MISSING = ("NAType", "NaTType")
_PANDAS_AS_TEXT = ("Period", "Interval")
_DEEPEST = 100
"""Levels of lists and dicts in a value: what is deeper refers to itself."""
_KINDS = {
    ("pandas", "DataFrame"): "pandas DataFrame", ("polars", "DataFrame"): "polars DataFrame", ("pyarrow", "Table"): "pyarrow Table",
    ("pyarrow", "RecordBatch"): "pyarrow RecordBatch", ("datasets", "Dataset"): "datasets.Dataset",
}  # fmt: skip
_NOT_READ = {
    ("polars", "LazyFrame"): "Call .collect() on it.",
    ("datasets", "IterableDataset"): "Take its rows as a list: list(data.take(10_000)).",
    ("datasets", "IterableDatasetDict"): "Take the rows of each split as a list: list(data['train'].take(10_000)).",
    ("pandas", "Series"): "Call .to_frame('text') on it.",
    ("polars", "Series"): "Call .to_frame() on it.",
}


@runtime_checkable
class TableLike(Protocol):
    """A pandas or polars DataFrame, a pyarrow Table, a datasets.Dataset."""

    @property
    def shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Held:
    """Rows as an Arrow table. kind: what they came as. labels: what that calls each row; None where it counts them from 0."""

    kind: str
    table: pyarrow.Table
    labels: Sequence[str] | None = None
    as_json: tuple[str, ...] = ()
    """Columns whose cells are JSON."""


def class_of(data: object) -> tuple[str, str]:
    """(package, class) of an object: ("pandas", "DataFrame")."""
    for kind in type(data).__mro__:
        found = kind.__module__.split(".")[0], kind.__name__
        if found in _KINDS or found in _NOT_READ or found == ("datasets", "DatasetDict"):
            return found
    return type(data).__module__.split(".")[0], type(data).__name__


def holds_rows(data: object) -> bool:
    """Whether these are rows in memory: not a path, not a config, not several splits."""
    if class_of(data) in _KINDS or class_of(data) in _NOT_READ:
        return True
    if isinstance(data, Mapping):
        values = list(data.values())
        return bool(values) and (all(isinstance(one, Mapping) for one in values) or all(map(_is_column, values)))
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str | bytes)
        and any(isinstance(one, Mapping) for one in data)
    )


def splits_in(data: object) -> dict[str, Any]:
    """Split -> its rows or paths, under our names, where this is a DatasetDict or a dict of splits; nothing for anything else.

    Other splits of a DatasetDict are left out.
    """
    if not isinstance(data, Mapping):
        return {}
    names = {key: split for split, known in SPLIT_NAMES.items() for key in data if str(key).lower() in known}
    are_splits = (
        bool(names) and len(names) == len(data) and all(holds_rows(one) or _is_path(one) for one in data.values())
    )
    if class_of(data) != ("datasets", "DatasetDict") and not are_splits:
        return {}
    return {split: data[key] for key, split in names.items()}


def _is_path(value: object) -> bool:
    return isinstance(value, str | Path)


def _is_column(value: object) -> bool:
    is_array = hasattr(value, "tolist") and hasattr(value, "__len__")
    return is_array or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def as_table(data: object, *, where: str) -> Held:
    """The rows of an object. where: what messages call it. UserError for what holds no rows, or values that no file could hold."""
    package = class_of(data)
    if package in _NOT_READ:
        found = ".".join(package)
        raise UserError("rows of this kind are not read", where=where, found=found, hint=_NOT_READ[package])
    if package[0] == "pandas":
        return _from_pandas(data, where)
    if package[0] == "polars" and any(str(kind) == "Object" for kind in data.dtypes):  # type: ignore[attr-defined]
        return _from_lists(_KINDS[package], data.to_dict(as_series=False), where)  # type: ignore[attr-defined]
    if package in _KINDS:
        return Held(_KINDS[package], _checked(_arrow_of(data, package, where), where))
    if isinstance(data, Mapping) and data and all(isinstance(one, Mapping) for one in data.values()):
        return _from_rows("dict of dicts", list(data.values()), where, labels=[repr(_plain_key(key)) for key in data])
    if isinstance(data, Mapping):
        return _from_lists("dict of columns", _columns_of(data, where), where)
    assert isinstance(data, Sequence)
    return _from_rows("list of dicts", data, where)


def _arrow_of(data: Any, package: tuple[str, str], where: str) -> pyarrow.Table:
    import pyarrow

    if package == ("pyarrow", "Table"):
        return data
    if package == ("pyarrow", "RecordBatch"):
        return pyarrow.Table.from_batches([data])
    if package[0] == "datasets":
        if not data.column_names or not len(data):
            return pyarrow.table({name: [] for name in data.column_names})
        table = data.with_format("arrow")[:]
        return table.replace_schema_metadata(data.features.arrow_schema.metadata)
    try:
        return data.to_arrow()
    except Exception as error:  # a column of Python objects: polars has exceptions of its own
        raise UserError(
            f"polars cannot give its columns ({error})", where=where, hint="Give rows: df.to_dicts()."
        ) from None


def _checked(table: pyarrow.Table, where: str) -> pyarrow.Table:
    """The table, NaN as null, texts in a type that Parquet has."""
    import pyarrow
    import pyarrow.compute

    _require_names(table.column_names, where)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pyarrow.types.is_floating(column.type):
            nan = pyarrow.compute.is_nan(column)
            column = pyarrow.compute.if_else(nan, pyarrow.scalar(None, column.type), column)
        elif pyarrow.types.is_string_view(column.type):
            column = column.cast(pyarrow.large_string())
        columns[name] = column
    return pyarrow.table(columns, metadata=table.schema.metadata)


def _require_names(names: Sequence[str], where: str) -> None:
    if not names:
        raise UserError("no columns", where=where, hint="Rows need a column such as 'text'.")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError("a column name stands twice", where=where, found=quoted(twice), hint="Rename one of them.")


def _from_pandas(frame: Any, where: str) -> Held:
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise UserError("column names of several levels", where=where, found=quoted(map(str, frame.columns[:3])),
                        hint="Flatten them: df.columns = ['_'.join(names) for names in df.columns]")  # fmt: skip
    names = [str(name) for name in frame.columns]
    _require_names(names, where)
    labels = None if _counts_from_0(frame.index) else [repr(_plain_key(label)) for label in frame.index.tolist()]
    found, as_json = {}, []
    for position, name in enumerate(names):
        found[name], is_json = _from_series(frame.iloc[:, position], name, where, labels)
        as_json += [name] * is_json
    import pyarrow

    return Held("pandas DataFrame", pyarrow.table(found), labels, tuple(as_json))


def _counts_from_0(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _from_series(series: Any, name: str, where: str, labels: Sequence[str] | None) -> tuple[pyarrow.Array, bool]:
    """A column by its dtype, where Arrow has one; else by its values. Whole numbers that pandas made decimal for a gap are whole again."""
    import pyarrow
    import pyarrow.compute

    if series.dtype != object:
        try:
            column = pyarrow.array(series, from_pandas=True)
        except (pyarrow.ArrowException, TypeError, ValueError):
            column = None
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.combine_chunks()
        if column is not None and not _is_extension(column.type):
            if pyarrow.types.is_floating(column.type) and column.null_count:
                given = column.drop_null()
                if (
                    len(given)
                    and pyarrow.compute.all(pyarrow.compute.equal(given, pyarrow.compute.floor(given))).as_py()
                ):
                    with_gaps = _whole(column)
                    column = column if with_gaps is None else with_gaps
            return column, False
    return _from_values(series.tolist(), name, where, labels)


def _is_extension(kind: pyarrow.DataType) -> bool:
    """A type of pandas' own (periods, intervals), also as categories."""
    import pyarrow

    inner = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return isinstance(inner, pyarrow.BaseExtensionType)


def _whole(column: pyarrow.Array) -> pyarrow.Array | None:
    import pyarrow

    try:
        return column.cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:  # beyond 64 bits
        return None


def _columns_of(data: Mapping[Any, Any], where: str) -> dict[str, list[Any]]:
    columns = {str(name): list(values) for name, values in data.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name!r} {length:,}" for name, length in lengths.items())
        raise UserError(
            "the columns have different numbers of rows",
            where=where,
            found=found,
            hint="Give every row a value, or None.",
        )
    return columns


def _from_rows(kind: str, rows: Sequence[Any], where: str, *, labels: Sequence[str] | None = None) -> Held:
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError("a row is a dict: column to value", where=address(where, number, labels), found=repr(row)[:80],
                            hint="Give every row the same form.")  # fmt: skip
        names.update(dict.fromkeys(map(str, row)))
    by_name = [{str(key): value for key, value in row.items()} for row in rows]
    return _from_lists(kind, {name: [row.get(name) for row in by_name] for name in names}, where, labels)


def _from_lists(kind: str, columns: Mapping[str, list[Any]], where: str, labels: Sequence[str] | None = None) -> Held:
    import pyarrow

    _require_names(list(columns), where)
    found, as_json = {}, []
    for name, values in columns.items():
        found[name], is_json = _from_values(values, name, where, labels)
        as_json += [name] * is_json
    return Held(kind, pyarrow.table(found), labels, tuple(as_json))


def _from_values(
    values: Iterable[Any], name: str, where: str, labels: Sequence[str] | None
) -> tuple[pyarrow.Array, bool]:
    """(a column of Python values, whether its cells are JSON)."""
    import pyarrow

    plain = []
    for number, value in enumerate(values):
        try:
            plain.append(plain_value(value))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"a value that is neither text nor number ({error})", where=address(where, number, labels), found=f"column {name!r}",
                expected="texts, numbers, lists and dicts of them", hint="Convert the column, or leave it out.",
            ) from None  # fmt: skip
    kinds = {type(value) for value in plain if value is not None}
    items = {type(part) for value in plain if isinstance(value, list) for part in value}
    if len(kinds) <= 1 and (kinds <= {str, int, float, bool} or (kinds == {list} and items in ({str}, {int}))):
        try:
            return pyarrow.array(plain), False
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # a number beyond 64 bits, half of a surrogate pair: JSON can hold them
    texts = [None if value is None else json.dumps(value) for value in plain]
    return pyarrow.array(texts, pyarrow.large_string()), True


def plain_value(value: Any, depth: int = 0) -> Any:
    """A value as JSON would have it: NumPy's as Python's, missing ones None, times and decimals their text.

    TypeError that names the class of any other; ValueError for one that is nested endlessly.
    """
    if depth > _DEEPEST:
        raise ValueError("nested without end")
    if value is None or type(value) in (str, bool, int) or type(value).__name__ in _MISSING:
        return None if type(value).__name__ in _MISSING else value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | int):  # their subclasses: str and int enums
        return str.__str__(value) if isinstance(value, str) else int(value)
    if isinstance(value, Mapping):
        return {str(_plain_key(key)): plain_value(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part, depth + 1) for part in value]
    if type(value).__module__.split(".")[0] == "numpy" and hasattr(value, "tolist"):
        return plain_value(value.tolist(), depth + 1)
    if type(value).__module__.split(".")[0] == "pandas" and type(value).__name__ in _PANDAS_AS_TEXT:
        return str(value)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


def _plain_key(key: Any) -> Any:
    return key.item() if type(key).__module__.split(".")[0] == "numpy" and hasattr(key, "item") else key


def address(name: str, number: int, labels: Sequence[str] | None = None) -> str:
    """`train[17]`, as the object itself calls its row. number: from 0."""
    return f"{name}[{number if labels is None else labels[number]}]"


def with_columns(data: Any, columns: Mapping[str, list[Any]]) -> Any:
    """The same kind of object with further columns, of as many values as it has rows. What was given stays as it was."""
    package = class_of(data)
    if package[0] == "pandas":
        frame = data.copy(deep=False)
        for name, values in columns.items():
            frame[name] = values
        return frame
    if package[0] == "polars":
        import sys

        polars = sys.modules["polars"]
        return data.with_columns([polars.Series(name, values, strict=False) for name, values in columns.items()])
    if package in _KINDS:
        return _with_arrow_columns(data, package, columns)
    if isinstance(data, Mapping) and all(isinstance(one, Mapping) for one in data.values()):
        return dict(zip(data, _with_values(data.values(), columns), strict=True))
    if isinstance(data, Mapping):
        return {**data, **columns}
    return _with_values(data, columns)


def _with_arrow_columns(data: Any, package: tuple[str, str], columns: Mapping[str, list[Any]]) -> Any:
    import pyarrow

    for name, values in columns.items():
        if package[0] == "datasets":
            data = data.add_column(name, values)
        elif package == ("pyarrow", "Table"):
            data = data.append_column(name, pyarrow.array(values))
        else:
            table = pyarrow.Table.from_batches([data]).append_column(name, pyarrow.array(values))
            data = table.combine_chunks().to_batches()[0]
    return data


def _with_values(rows: Iterable[Any], columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [{**row, **{name: values[n] for name, values in columns.items()}} for n, row in enumerate(rows)]


def column_names(data: Any) -> list[str]:
    """The columns of what `holds_rows`."""
    package = class_of(data)
    if package[0] in ("pandas", "polars"):
        return [str(name) for name in data.columns]
    if package == ("pyarrow", "RecordBatch"):
        return list(data.schema.names)
    if package in _KINDS:
        return list(data.column_names)
    if isinstance(data, Mapping) and not all(isinstance(one, Mapping) for one in data.values()):
        return [str(name) for name in data]
    rows = data.values() if isinstance(data, Mapping) else data
    return list(dict.fromkeys(str(name) for row in rows for name in row))
