"""One folder per class, one file per text -> Row, in the order of the names.

    reviews/neg/0_3.txt, reviews/pos/0_9.txt      Row('reviews', 1, {'text': '…', 'label': 'neg', 'file': 'neg/0_3.txt'}), …

`Row.line` is the number of the file. The files end in .txt, in a number or in nothing; hidden files and folders are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tunewright.errors import UserError, counted
from tunewright.reading.files import TextFile, excerpt, has_surrogate, too_large, unreadable
from tunewright.reading.names import SPLIT_NAMES
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS: dict[str, tuple[str, ...]] = {"classes": ()}
READS_KEYS = {"format", "encoding"}
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".feather", ".gz", ".zst")
_SPLIT_WORDS = frozenset(word for words in SPLIT_NAMES.values() for word in words)
_UNLABELLED = "unsup"
"""What the Large Movie Review Dataset calls its folder of reviews without a class."""


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError where the folder cannot be listed."""
    try:
        files = [file for folder in _classes(path) for file in _files(folder)]
        num_unlabelled = len(_files(path / _UNLABELLED)) if (path / _UNLABELLED).is_dir() else 0
    except OSError as error:
        raise unreadable(name, error) from error
    labels = sorted({file.parent.name for file in files})
    if unnamed := next((label for label in labels if has_surrogate(label)), None):
        raise UserError("the name of a class is not UTF-8", where=name, found=ascii(unnamed), hint="Rename the folder.")
    notes = [
        f"a folder for each of {len(labels)} labels; {name}:{len(files)} is the last file in the order of their names"
    ]
    if num_unlabelled:
        notes.append(f"{counted(num_unlabelled, 'file')} in {_UNLABELLED}/ have no class and are left out")
    rows = partial(_rows, path, files, name, options)
    names_read = tuple(str(file.relative_to(path)) for file in files)
    return Source(
        name,
        "classes",
        lambda _: rows(),
        ("text", "label", "file"),
        notes=notes,
        paths=tuple(files),
        names_read=names_read,
    )


def is_class_folder(path: Path) -> bool:
    """Whether a folder has two or more subfolders that hold only texts, no tables, and no names of splits."""
    try:
        folders = _classes(path)
        names = {folder.name.lower() for folder in folders}
        if len(folders) < 2 or "train" in names or names <= _SPLIT_WORDS:
            return False
        tables = any(file.suffix.lower() in _TABLES for file in _files(path) if file.is_file())
        return not tables and all(_are_texts(folder) for folder in folders)
    except OSError:
        return False


def _classes(path: Path) -> list[Path]:
    folders = (folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return sorted(folder for folder in folders if folder.name != _UNLABELLED)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _are_texts(folder: Path) -> bool:
    files = _files(folder)
    return bool(files) and all(file.is_file() and _is_text(file.suffix.lower()) for file in files)


def _is_text(suffix: str) -> bool:
    return suffix in ("", ".txt") or suffix[1:].isdecimal()


def _rows(path: Path, files: list[Path], name: str, options: ReadOptions) -> Iterator[Row | Reject]:
    for number, file in enumerate(files, start=1):
        where = str(file.relative_to(path))
        try:
            size = file.stat().st_size
            large = size > options.max_row_bytes
            lines = [] if large else list(TextFile(file, f"{name}/{where}", options).lines())
        except (UserError, OSError) as error:
            reason = error.problem if isinstance(error, UserError) else str(error.strerror)
            yield Reject(name, number, f"{where}: {reason}", "")
            continue
        text = "".join(line for _, line, _ in lines)
        fault = next((fault for _, _, fault in lines if fault), None)
        fault = too_large(size, options.max_row_bytes) if large else fault
        if fault is not None:
            yield Reject(name, number, f"{where}: {fault}", excerpt(text))
        else:
            yield Row(name, number, {"text": text.rstrip("\r\n"), "label": file.parent.name, "file": where})
