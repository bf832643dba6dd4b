"""Rows in memory -> a Parquet file that every reader of ours opens, and whose rows keep the addresses they had.

    path = kept_for_run(frame, "train")          "run:data/train-3fa9c1d2e4f5.parquet": of whichever run reads it
    resolved(path, Path("runs/x"))               "runs/x/data/train-3fa9c1d2e4f5.parquet", or where it is until the run begins
    open_source(…).rows()                        Row("train", 18, …), whose address is train[17]

The file is named by its content, so the same rows handed over again go on with the same run, and other rows are refused. Until
the run folder is written it stands in a temporary folder of this process. The name, what the rows came as and which columns are JSON
stand in the metadata of its schema.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.errors import UserError, quoted
from tunewright.files.atomic import file_sha256, whole_file
from tunewright.reading.tables import Held, TableLike, as_table, holds_rows
from tunewright.records import HeldRows

if TYPE_CHECKING:
    import pyarrow

Rows = TableLike | Sequence[Mapping[str, object]] | Mapping[str, Mapping[str, object]] | Mapping[str, Sequence[object]]
"""Rows in memory: a pandas or polars DataFrame, a pyarrow Table, a datasets.Dataset, a list or dict of dicts, a dict of columns."""
Readable = str | Path | Sequence[str] | Sequence[Path] | Rows
"""A path, a pattern of paths, several paths that are one data set, or rows in memory."""
OF_RUN = "run:"
"""Begins the name of a file in the folder of the run that reads it."""
FOLDER = "data"
_METADATA = b"tunewright"
_LABELS = "__row__"
_DIGITS = 12
_ROW_GROUP = 8_192
_LONGEST_PATH = 1_000


def kept_for_run(data: object, name: str) -> str:
    """The name, in a config, of these rows. name: what messages call them. UserError for what holds no rows."""
    return f"{OF_RUN}{FOLDER}/{_written(as_table(data, where=name), name, _staging()).name}"


@contextmanager
def one_file(data: object, name: str) -> Iterator[str]:
    """The path of one file with these rows, for as long as the context lasts. UserError for what is none, and for several files."""
    if isinstance(data, str | Path):
        yield str(data)
    elif holds_rows(data):
        with tempfile.TemporaryDirectory(prefix="tunewright-rows-") as folder:
            yield str(_written(as_table(data, where=name), name, Path(folder)))
    else:
        found = quoted(paths_in(data)) if paths_in(data) else f"{type(data).__module__}.{type(data).__name__}"
        raise UserError(
            "one file, or rows in memory, is read here", found=found,
            expected="a path, a DataFrame, a Table, a Dataset, a list or dict of dicts", hint="Give one after the other.",
        )  # fmt: skip


def staged_file(data: object, name: str) -> str:
    """The path of a file with these rows, for as long as the process lasts."""
    return str(_written(as_table(data, where=name), name, _staging()))


def paths_in(data: object) -> list[str]:
    """The paths of a list of them; none where it is something else. A text is a path where it stands there, or is named so."""
    if not isinstance(data, Sequence) or isinstance(data, str) or not all(isinstance(one, str | Path) for one in data):
        return []
    return [str(one) for one in data] if any(map(_is_path, data)) else []


def _is_path(name: str | Path) -> bool:
    from tunewright.reading.locate import suffixes

    text = str(name)
    if isinstance(name, Path) or text.startswith("hub:"):
        return True
    if len(text) > _LONGEST_PATH or "\n" in text or "\0" in text:
        return False
    inner = text.removesuffix(".gz").removesuffix(".zst")
    return Path(text).exists() or (" " not in text and Path(inner).suffix in suffixes())


def resolved(path: str, run_folder: Path) -> str:
    """Where the rows that a config names stand; any other path as it is. UserError where they are gone."""
    if not path.startswith(OF_RUN):
        return path
    inside = path.removeprefix(OF_RUN)
    places = (run_folder / inside, _staging() / Path(inside).name)
    for place in places:
        if place.is_file():
            return str(place)
    raise UserError(
        "the rows that Python handed to this run are not there", where=path, expected=str(places[0]),
        hint="Copy the file from the folder of that run, or hand over the rows again.",
    )  # fmt: skip


def keep_in_run(paths: Sequence[str], run_folder: Path) -> None:
    """Copy the rows that a config names into the run folder, where they are not there yet."""
    for path in paths:
        if path.startswith(OF_RUN):
            source, target = Path(resolved(path, run_folder)), run_folder / path.removeprefix(OF_RUN)
            if source != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open("rb") as stream, whole_file(target) as sink:
                    shutil.copyfileobj(stream, sink)


@cache
def _staging() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tunewright-rows-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, process: int) -> None:
    """At the end of the process that made it, not of one that was forked from it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _written(held: Held, name: str, folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = held.table
    if held.labels is not None:
        table = table.append_column(_LABELS, pyarrow.array(held.labels, pyarrow.large_string()))
    facts = {"name": name, "kind": held.kind, "rows": table.num_rows, "json": list(held.as_json)}
    described = {**(table.schema.metadata or {}), _METADATA: json.dumps(facts).encode()}
    part = folder / f".{name}-{os.getpid()}-{threading.get_ident()}.part"
    try:
        pyarrow.parquet.write_table(
            table.replace_schema_metadata(described), part, row_group_size=_ROW_GROUP, compression="zstd"
        )
    except (pyarrow.ArrowException, TypeError) as error:
        raise UserError(
            f"the rows cannot be written as Parquet ({str(error).splitlines()[0]})", where=name,
            hint="Leave out the column, or convert it to text or numbers.",
        ) from None  # fmt: skip
    return part.rename(folder / f"{name}-{file_sha256(part)[:_DIGITS]}.parquet")


def described(schema: pyarrow.Schema) -> Mapping[str, Any] | None:
    """What the schema of such a file says; None for every other file."""
    try:
        facts = json.loads((schema.metadata or {}).get(_METADATA, b"null"))
    except (ValueError, RecursionError):
        return None
    expected = {"name": str, "kind": str, "rows": int, "json": list}
    is_ours = isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in expected.items())
    return facts if is_ours and facts["name"].isidentifier() and facts["kind"].isprintable() else None


def source_name(facts: Mapping[str, Any], labels: Sequence[str] | None) -> HeldRows:
    return HeldRows(facts["name"], described=f"{facts['kind']}, {facts['rows']:,} rows", labels=labels)


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """The columns as they were handed over."""
    return tuple(name for name in names if name != _LABELS)


def labels_in(path: Path, schema: pyarrow.Schema) -> list[str] | None:
    """What the rows were called, where they were not counted from 0."""
    import pyarrow.parquet

    if _LABELS not in schema.names:
        return None
    found: list[str] = pyarrow.parquet.read_table(path, columns=[_LABELS]).column(0).to_pylist()
    return found


def decoder(facts: Mapping[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What turns the values of a row of the file into those that were handed over."""
    as_json = frozenset(facts["json"])

    def decoded(fields: dict[str, Any]) -> dict[str, Any]:
        fields.pop(_LABELS, None)
        for name in as_json & fields.keys():
            if isinstance(fields[name], str):
                fields[name] = json.loads(fields[name])
        return fields

    return decoded
