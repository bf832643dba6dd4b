"""A folder for each class, a file for each text -> Row, in the order of the names.

    reviews/neg/0_3.txt, reviews/pos/0_9.txt      Row('reviews', 1, {'text': '…', 'label': 'neg', 'file': 'neg/0_3.txt'}), …

`Row.line` is the number of the file. A file is a text whatever its suffix; hidden files and folders are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.errors import UserError, counted
from tunewright.reading.files import TextFile, shown, too_large, unreadable
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.records import Reject, Row

FORMATS: dict[str, tuple[str, ...]] = {"classes": ()}
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".feather", ".gz", ".zst", ".safetensors")
_UNLABELLED = "unsup"
"""What the Large Movie Review Dataset calls its folder of reviews without a class."""


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError where the folder cannot be listed."""
    try:
        files = [file for folder in _classes(path) if folder.name != _UNLABELLED for file in _files(folder)]
        num_unlabelled = len(_files(path / _UNLABELLED)) if (path / _UNLABELLED).is_dir() else 0
    except OSError as error:
        raise unreadable(name, error) from error
    labels = sorted({file.parent.name for file in files})
    notes = [f"a folder for each of {len(labels)} labels: {name}:37 is the 37th file in the order of their names"]
    if num_unlabelled:
        notes.append(f"{counted(num_unlabelled, 'file')} in {_UNLABELLED}/ have no class and are left out")
    return Source(
        name, "classes", lambda _: _rows(path, files, name, options), ("text", "label", "file"), notes=notes, paths=tuple(files)
    )  # fmt: skip


def is_class_folder(path: Path) -> bool:
    """Two folders or more that hold plain files and nothing else."""
    try:
        folders = _classes(path)
        return len(folders) > 1 and all(_are_texts(folder) for folder in folders)
    except OSError:
        return False


def _classes(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _are_texts(folder: Path) -> bool:
    files = _files(folder)
    return bool(files) and all(file.is_file() and file.suffix.lower() not in _TABLES for file in files)


def _rows(path: Path, files: list[Path], name: str, options: ReadOptions) -> Iterator[Row | Reject]:
    for number, file in enumerate(files, start=1):
        where = str(file.relative_to(path))
        try:
            lines = list(TextFile(file, f"{name}/{where}", options).lines())
        except UserError as error:
            yield Reject(name, number, f"{where}: {error.problem}", "")
            continue
        text = "".join(line for _, line, _ in lines)
        fault = next((fault for _, _, fault in lines if fault), None)
        if fault is None and (size := len(text.encode())) > options.max_row_bytes:
            fault = too_large(size, options.max_row_bytes)
        if fault is not None:
            yield Reject(name, number, f"{where}: {fault}", shown(text))
        else:
            yield Row(name, number, {"text": text.rstrip("\r\n"), "label": file.parent.name, "file": where})
