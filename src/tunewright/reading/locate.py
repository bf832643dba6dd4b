"""What the user wrote -> the file and its format, or a UserError that suggests what was meant.

locate("train.csv.gz", None)          (Path('train.csv.gz'), 'csv')
locate("trian.csv", None)             UserError: trian.csv: no such file. Did you mean train.csv?
"""

from __future__ import annotations

import glob
import importlib
import os
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from tunewright.errors import UserError, did_you_mean, quoted, suggestion
from tunewright.files.paths import expanded
from tunewright.plugins import installed, known
from tunewright.reading import formats
from tunewright.reading.files import Line, TextFile, opened, unreadable
from tunewright.reading.formats.class_folder import is_class_folder
from tunewright.reading.options import ReadOptions
from tunewright.reading.plugin_reader import PluginReader
from tunewright.reading.sniff import json_format, table_format, text_format
from tunewright.reading.tagged import NUM_LINES, are_words_in_lines, tag_layout
from tunewright.reading.words import names_words

_PACKED = (".gz", ".zst")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin")
_OTHER_PACKED = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z")
_SPLIT_OF_FOLDER = re.compile(r"\[[^\[\]]+\]$")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def matching(name: str) -> list[str]:
    """The files that match a pattern such as `parts/*.jsonl`, sorted; a name without wildcards is returned unchanged.

    UserError where no file matches this pattern.
    """
    if name.startswith("hub:") or not glob.has_magic(name) or os.path.lexists(expanded(name)):
        return [name]
    if _SPLIT_OF_FOLDER.search(name) and Path(name.rpartition("[")[0]).is_dir():  # `folder[train]`
        return [name]
    found = sorted(glob.glob(expanded(name), recursive=True))
    if not found:
        raise UserError(
            "no file matches this pattern", where=name, hint="In a file pattern, *, ? and [ab] are wildcards."
        )
    return found


@cache
def readers() -> dict[str, ModuleType]:
    """Format -> the module of `reading/formats/` that reads it."""
    names = [module.name for module in pkgutil.iter_modules(formats.__path__)]
    modules = [importlib.import_module(f"{formats.__name__}.{name}") for name in names]
    return {format: module for module in modules for format in module.FORMATS}


def reader_of(format: str) -> ModuleType | PluginReader:
    """What reads a format: a module of ours, or a plug-in."""
    return readers()[format] if format in readers() else PluginReader(format)


def _is_readable(format: str) -> bool:
    return format in readers() or known("readers", format)


@cache
def suffixes() -> dict[str, str]:
    """`.csv` -> `csv`, for all readers."""
    ours = {suffix: name for name, module in readers().items() for suffix in module.FORMATS[name]}
    return {suffix: name for name in installed("readers") for suffix in PluginReader(name).suffixes} | ours


def locate(name: str, options: ReadOptions) -> tuple[Path, str]:
    """The path and its format. Raises UserError where there is no such file, or none that we read."""
    if options.format is not None and not _is_readable(options.format):
        every = [*readers(), *installed("readers")]
        hint = suggestion(options.format, every, f"Known: {', '.join(sorted(every))}.")
        raise UserError(f"no format {options.format!r}", where="data.format", hint=hint)
    if name.startswith("hub:"):
        return Path(name), "hub"
    path = Path(expanded(name))
    try:
        mode = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise _not_there(name, path) from None
    except OSError as error:
        raise unreadable(name, error) from error
    if path.is_dir():
        return path, "classes" if is_class_folder(path) else "dataset"
    if not path.is_file():
        raise UserError(
            "not a regular file", where=name, hint="Files are read more than once: save this to a regular file first."
        )
    if mode.st_size and not os.access(path, os.R_OK):
        raise unreadable(name, PermissionError())
    return path, options.format or _format_of(path, name, options)


def _format_of(path: Path, name: str, options: ReadOptions) -> str:
    inner = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    suffix = inner.suffix.lower()
    if suffix in suffixes():
        known = suffixes()[suffix]
        if known in ("tsv", "text") and _is_conll(path, name, options):
            return "conll"
        return _table_in(path, name, options) or known if known == "text" else known
    if not suffix:
        return _by_content(path, name, options)
    if suffix in _SPREADSHEETS:
        raise UserError("spreadsheets are not supported", where=name, hint="Save it as CSV (UTF-8) and name that.")
    if suffix in _PICKLES:
        hint = "Save the data as .jsonl, .csv or .parquet."
        raise UserError("pickle files are not supported: opening one can run any code", where=name, hint=hint)
    if suffix in _OTHER_PACKED:
        hint = "Unpack it, or compress the single file as .gz or .zst."
        raise UserError(f"{suffix} archives are not supported", where=name, hint=hint)
    if _is_conll(path, name, options):
        return "conll"
    raise UserError(
        f"unknown file suffix {suffix}",
        where=name,
        expected=" ".join(sorted(suffixes())),
        hint="Set data.format (jsonl, json, csv, tsv, parquet, arrow, text).",
    )


def _by_content(path: Path, name: str, options: ReadOptions) -> str:
    """The format of a file without a suffix."""
    with opened(path, name) as stream:
        start = stream.peek(8)[:8]
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"ARROW1"):
        return "arrow"
    if _is_conll(path, name, options):
        return "conll"
    return text_format(TextFile(path, name, options).first_lines(200)[0])


def _table_in(path: Path, name: str, options: ReadOptions) -> str | None:
    """The format of a table or of JSON in a .txt file, as public data sets often have it; None for text."""
    if options.label_file is not None:
        return None
    lines = TextFile(path, name, options).first_lines(200)[0]
    return json_format(lines) or table_format(lines)


def _is_conll(path: Path, name: str, options: ReadOptions) -> bool:
    """Whether a file holds words and tags; such files may have any suffix."""
    lines, whole = TextFile(path, name, options).first_lines(NUM_LINES)
    if _numbers_sentences(lines):
        return False
    return tag_layout(lines, whole=whole) is not None or (options.words_alone and are_words_in_lines(lines))


def _numbers_sentences(lines: Sequence[Line]) -> bool:
    """Whether the first line is the header of a table with one word per row and numbered sentences."""
    return bool(lines) and names_words(lines[0][1].strip("\r\n").split("\t"))


def readable_inside(folder: Path) -> list[str]:
    """Names of the files in a folder that have a reader."""
    files = [file for file in folder.iterdir() if file.is_file()]
    inner = {file.name: file.with_suffix("") if file.suffix in _PACKED else file for file in files}
    return sorted(name for name, file in inner.items() if file.suffix.lower() in suffixes())


def _not_there(name: str, path: Path) -> UserError:
    if "://" in name:
        return UserError("URLs are not downloaded", where=name, hint="Download the file and name it here.")
    siblings = _siblings(path.parent)
    close = did_you_mean(path.name, siblings)
    if close:
        return UserError("no such file", where=name, hint=f"Did you mean {Path(name).parent / close}?")
    if _HUB_ID.fullmatch(name) and siblings is not None and not path.parent.exists() and not path.suffix:
        return UserError("no such file", where=name, hint=f"Did you mean hub:{name}?")
    if not path.parent.exists():
        return UserError("no such file", where=name, found=f"no folder {str(path.parent)!r} either")
    readable = [sibling for sibling in siblings if Path(sibling).suffix in suffixes()]
    return UserError("no such file", where=name, found=f"in that folder: {quoted(readable)}" if readable else None)


def _siblings(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
