"""How `predict` writes a file: results go into a part file as they are computed; at the end it becomes the file, in one rename.

    predict RUN --file reviews.csv -o out.csv     .out.csv.part-3fa9c1…   {"review": "Fine.", "predicted_label": "positive", …}
    killed, and the same command again            continues after the last whole line; the file is the same, byte for byte

The part's name identifies what it was made from (model, file, options), and 48 random bits make it unpredictable; links are not
followed. Each line of it is a result as JSON: for `.jsonl` the part itself becomes the file, other formats are converted at the end,
when all columns are known. Memory does not grow with the number of rows.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tunewright.artifacts.model_folder import MANIFEST, SavedModel
from tunewright.errors import UserError, counted
from tunewright.files.atomic import file_sha256, new_file, sync_folder, whole_file

if TYPE_CHECKING:
    import pyarrow

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLES = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
WORD_SUFFIXES = (".conll", ".bio", ".iob", ".iob2")
SUFFIXES = (*JSON_SUFFIXES, *TABLES, PARQUET, *WORD_SUFFIXES)
_SHOWN_SUFFIXES = ".jsonl, .json, .csv, .tsv, .parquet or, for words and their tags, .conll"
_DIGITS = 12
_UNSAFE = tuple("=+-@\t\r\n＝＋－＠")
_LONGEST_NAME = 120
_PARQUET_ROWS = 4_096


def check_output(path: Path, file: str | None) -> None:
    """UserError for an output that cannot be written, before the model is loaded."""
    from tunewright.files.atomic import refused

    if file is None:
        raise UserError("-o needs --file", hint="Redirect stdout, or put the texts into a file.")
    if path.suffix not in SUFFIXES:
        raise UserError("unknown output format", where=str(path), expected=_SHOWN_SUFFIXES)
    if path.is_dir() or not path.parent.is_dir():
        found = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise UserError("cannot be written", where=str(path), found=found, hint="Name a file in an existing folder.")
    if path.exists() and not path.is_file():
        raise UserError("cannot be written", where=str(path), found="not a regular file", hint="Choose another file.")
    if Path(file).exists() and path.exists() and path.samefile(file):
        raise UserError("the output is the input", where=str(path), hint="Choose another file.")
    if reason := refused(path):
        raise UserError(f"cannot be written ({reason})", where=str(path), hint="Name a file in another folder.")


@dataclass(frozen=True)
class Origin:
    """Hashes of what results depend on: results are continued only if all are the same."""

    model: str
    file: str
    options: str

    @classmethod
    def of(cls, saved: SavedModel, files: Iterable[Path], options: Mapping[str, Any]) -> Origin:
        """files: empty if the rows do not come from a file; then results are never continued."""
        hashes = [file_sha256(path) for path in files]
        return cls(_of_model(saved), _digest(hashes) if hashes else os.urandom(_DIGITS // 2).hex(), _digest(options))

    @property
    def name(self) -> str:
        return f"{self.model}-{self.file}-{self.options}"


def _of_model(saved: SavedModel) -> str:
    """The hash of the manifests that list the model's files with their hashes; where there is none, of the files."""
    folders = [saved.folder, *(saved.folder.parent / name for name in ("adapter", "base") if saved.unmerged)]
    found: dict[str, str] = {}
    for folder in folders:
        listed = [folder / MANIFEST] if (folder / MANIFEST).is_file() else sorted(folder.rglob("*"))
        found |= {str(path.relative_to(folder.parent)): file_sha256(path) for path in listed if path.is_file()}
    return _digest(found)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]


class PartFile:
    """Results for `path`, one per line. Opened by `open`; `close` keeps them for a later command, `finish` turns them into the file."""

    def __init__(self, path: Path, part: Path, file: BinaryIO, num_lines: int) -> None:
        self.path, self.part, self.num_lines = path, part, num_lines
        self._file: BinaryIO = file

    @classmethod
    def open(cls, path: Path, origin: Origin, *, say: Callable[[str], None]) -> PartFile:
        """The part that an interrupted command with the same model, file and options left, else a new one."""
        begin = f".{_short_name(path.name)}.part-"
        other = False
        for found in sorted(path.parent.glob(f"{glob.escape(begin)}*"), key=_age):
            file = _open_ours(found)
            if file is None:
                continue  # a link or another user's file: neither read nor removed
            if not _lock(file):
                file.close()
                raise UserError(
                    "another command is writing it", where=str(path), hint="Wait for it, or choose another file."
                )
            if found.name.startswith(f"{begin}{origin.name}-"):
                if num_lines := _keep_whole_lines(file):
                    say(f"Continuing after {counted(num_lines, 'prediction')} of an earlier command, from {found}.")
                return cls(path, found, file, num_lines)
            other = True
            found.unlink(missing_ok=True)
            file.close()
        if other:
            say(
                f"An interrupted command for {path} used another model, file or options, so this one starts from the beginning."
            )
        part, file = new_file(path.parent, f"{begin}{origin.name}-")
        _lock(file)
        return cls(path, part, file, 0)

    def cut(self, num_lines: int) -> None:
        """Keep the first `num_lines` results: those of complete windows."""
        self._file.seek(0)
        size = sum(len(next(self._file)) for _ in range(num_lines))
        self._file.seek(size)
        self._file.truncate()
        self.num_lines = num_lines

    def write(self, results: Iterable[Any]) -> None:
        """Append the results of a window; they are on the disk when this returns."""
        for result in results:
            self._file.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")
            self.num_lines += 1
        self._file.flush()
        os.fsync(self._file.fileno())

    def results(self) -> Iterator[Any]:
        """All results, from the beginning."""
        self._file.seek(0)
        return map(json.loads, self._file)

    def finish(self, *, spreadsheet_safe: bool = False) -> None:
        """Turn the part into the file, replacing an existing one at once."""
        if self.path.suffix in (".jsonl", ".ndjson"):
            os.replace(self.part, self.path)
            self._file.close()
            sync_folder(self.path.parent)
            return
        with whole_file(self.path) as sink:
            if self.path.suffix in TABLES:
                write_table(self.results, sink, TABLES[self.path.suffix], spreadsheet_safe=spreadsheet_safe)
            elif self.path.suffix == PARQUET:
                write_parquet(self.results, sink)
            elif self.path.suffix in WORD_SUFFIXES:
                for lines in self.results():
                    sink.write(lines.encode())
            else:
                _write_array(self.results(), sink)
        self.part.unlink(missing_ok=True)
        self._file.close()

    def close(self, *, say: Callable[[str], None]) -> None:
        """Close without making the file: the results so far are kept for the same command."""
        if self._file.closed:
            return
        self._file.close()
        if self.num_lines:
            say(f"Kept {counted(self.num_lines, 'prediction')} in {self.part}: the same command continues after them.")
        else:
            self.part.unlink(missing_ok=True)


def _short_name(name: str) -> str:
    """The name, or a hash where it leaves no room for a suffix."""
    return name if len(name.encode()) <= _LONGEST_NAME else f"{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"


def _age(path: Path) -> float:
    with suppress(OSError):
        return -path.lstat().st_mtime
    return 0.0


def _open_ours(path: Path) -> BinaryIO | None:
    """Open for reading and writing; None unless it is a regular file of this user without further hard links."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    facts = os.fstat(descriptor)
    mine = not hasattr(os, "geteuid") or facts.st_uid == os.geteuid()
    if not stat.S_ISREG(facts.st_mode) or not mine or facts.st_nlink != 1:
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "r+b")


def _lock(file: BinaryIO) -> bool:
    """Lock the file; False where another process has locked it. Closing the file, or the end of the process, releases it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks
        return True
    return True


def _keep_whole_lines(file: BinaryIO) -> int:
    """The number of whole results; truncates the file after the last one (a crash may leave anything there)."""
    num_lines = size = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            break
        num_lines, size = num_lines + 1, size + len(line)
    file.seek(size)
    file.truncate()
    return num_lines


def write_table(
    results: Callable[[], Iterable[Any]], sink: BinaryIO, delimiter: str, *, spreadsheet_safe: bool = False
) -> None:
    """Write a table with all columns of all rows; texts exactly, lists and objects as JSON. A result may be several rows.

    spreadsheet_safe: texts that begin like a formula get an apostrophe before them, which changes them.
    """
    columns = dict.fromkeys(name for result in results() for row in _rows(result) for name in row)
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=True)
    writer = TableRows(text, list(columns), delimiter, spreadsheet_safe=spreadsheet_safe)
    for result in results():
        for row in _rows(result):
            writer.write(row)
    text.flush()
    text.detach()


def write_parquet(results: Callable[[], Iterable[Any]], sink: BinaryIO) -> None:
    """Write a table with all columns of all rows. Lists and objects stay lists and structs; a column of several types is text, as JSON."""
    import pyarrow
    import pyarrow.parquet

    types: dict[str, pyarrow.DataType | None] = {}
    for columns in _columns_of(results()):
        for name, values in columns.items():
            types[name] = _common_type(types.get(name, pyarrow.null()), values)
    schema = pyarrow.schema([(name, pyarrow.large_string() if kind is None else kind) for name, kind in types.items()])
    with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
        for columns in _columns_of(results()):
            num_rows = max(map(len, columns.values()))
            given = {name: columns.get(name, [None] * num_rows) for name in types}
            cells = [_as_json(values) if types[name] is None else values for name, values in given.items()]
            arrays = [pyarrow.array(values, field.type) for values, field in zip(cells, schema, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema=schema))


def _columns_of(results: Iterable[Any]) -> Iterator[dict[str, list[Any]]]:
    """The rows of results by columns, some thousand rows at a time."""
    rows = (row for result in results for row in _rows(result))
    while some := list(itertools.islice(rows, _PARQUET_ROWS)):
        names = dict.fromkeys(name for row in some for name in row)
        yield {name: [row.get(name) for row in some] for name in names}


def _as_json(values: list[Any]) -> list[str | None]:
    return [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def _common_type(known: Any, values: list[Any]) -> Any:
    """The Arrow type of a column, with more of its values; None where no type holds all of them."""
    import pyarrow

    if known is None:
        return None
    try:
        fields = [pyarrow.schema([("x", kind)]) for kind in (known, pyarrow.infer_type(values))]
        found = pyarrow.unify_schemas(fields, promote_options="permissive").field(0).type
    except pyarrow.ArrowException:
        return None
    return None if _holds_nothing(found) else found


def _holds_nothing(kind: Any) -> bool:
    """Whether the type contains a struct without fields, which Parquet cannot store."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_holds_nothing(kind.field(n).type) for n in range(kind.num_fields))
    return pyarrow.types.is_list(kind) and _holds_nothing(kind.value_type)


class TableRows:
    """Writes rows of a table with known columns; the header first."""

    def __init__(self, text: Any, columns: list[str], delimiter: str, *, spreadsheet_safe: bool = False) -> None:
        self._columns = columns
        self._safe = without_formula if spreadsheet_safe else lambda value: value
        self._writer = csv.writer(text, delimiter=delimiter)
        self._writer.writerow([self._safe(name) for name in columns])

    def write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow([self._safe(_cell(row.get(name))) for name in self._columns])


def without_formula(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_UNSAFE) else value


def _rows(result: Any) -> list[dict[str, Any]]:
    return result if isinstance(result, list) else [result]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value


def _write_array(results: Iterable[Any], sink: BinaryIO) -> None:
    sink.write(b"[")
    for number, result in enumerate(results):
        sink.write(b",\n" if number else b"\n")
        sink.write(json.dumps(result, ensure_ascii=False).encode())
    sink.write(b"\n]\n")
