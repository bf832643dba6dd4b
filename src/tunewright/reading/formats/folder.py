"""A folder of Parquet or Arrow shards, or one that `datasets` wrote with `save_to_disk` -> Row.

    reviews/dataset_dict.json, reviews/train/{state.json, dataset_info.json, data-00000-of-00001.arrow}, reviews/test/…
    splits("reviews")          {'train': ['reviews/train/data-00000-of-00001.arrow'], 'test': […]}

`Row.line` counts rows over all shards of the split.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tunewright.errors import UserError, quoted
from tunewright.reading.files import has_surrogate, unreadable
from tunewright.reading.formats.columnar import class_names, shards_source
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source

FORMATS: dict[str, tuple[str, ...]] = {"dataset": ()}
READS_KEYS = {"train_split", "validation_split", "test_split"}
_SHARDS = (".parquet", ".arrow", ".feather")
_SPLIT = re.compile(r"((?:train|validation|valid|val|dev|test)(?:_[A-Za-z]+)?)(?=[-_.])")


def make_source(path: Path, name: str, format: str, options: ReadOptions) -> Source:
    """Raises UserError for a folder that holds no data set, and where a split must be chosen."""
    found = splits(path, name)
    split = choose_split(tuple(key for key in found if key), options.split, name)
    shards = found[split if split else ""]
    if not shards:
        raise UserError("the data set has no data files", where=name, hint="Check that it was saved completely.")
    label = f"{name}[{split}]" if split and len(found) > 1 and not name.endswith("]") else name
    source = shards_source(shards, label, format, options)
    info = shards[0].parent / "dataset_info.json"
    if info.is_file():
        source.class_names = {**source.class_names, **class_names(info.read_bytes())}
        source.paths = (*source.paths, info)
    return source


def choose_split(known: tuple[str, ...], wanted: str | None, name: str) -> str | None:
    """The split to read; None where the data set knows of none. Raises a UserError that lists them."""
    if wanted is None and len(known) <= 1:
        return known[0] if known else None
    if wanted in known:
        return wanted
    problem = "the data set has several splits" if wanted is None else f"no split {wanted!r}"
    raise UserError(
        problem,
        where=name,
        found=quoted(known) if known else "a data set without splits",
        hint=f"Name one: {name}[{known[0]}]" if known else "Leave the split out.",
    )


def splits(path: Path, name: str) -> dict[str, list[Path]]:
    """Split -> its shards, in order; the key "" where the folder is not split. Raises UserError for other folders."""
    try:
        if (path / "dataset_dict.json").is_file():
            names = _json(path / "dataset_dict.json", name)["splits"]
            return {split: _saved(path / _inside(split), f"{name}/{split}") for split in list(names)}
        if (path / "state.json").is_file():
            split = _json(path / "state.json", name).get("_split") or ""
            return {_inside(split) if split else "": _saved(path, name)}
        for folder in (path, path / "data"):
            shards = sorted(file for file in folder.iterdir() if file.suffix in _SHARDS) if folder.is_dir() else []
            if shards:
                return _by_name(shards)
    except OSError as error:
        raise unreadable(name, error) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            "the description of the data set is damaged", where=name, hint="Save or download it again."
        ) from error
    raise _nothing_here(path, name)


def _saved(folder: Path, name: str) -> list[Path]:
    return [folder / _inside(file["filename"]) for file in _json(folder / "state.json", name)["_data_files"]]


def _inside(part: str) -> str:
    """A file name from a description that stays inside the folder. ValueError for other names."""
    if "\0" in part or part != Path(part).name or part == ".." or has_surrogate(part):
        raise ValueError(part)
    return part


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not valid JSON", where=name, hint="Save or download it again.") from error


def _by_name(shards: list[Path]) -> dict[str, list[Path]]:
    """`train-00000-of-00002.parquet` belongs to train; one name without a split makes all of them one table."""
    found: dict[str, list[Path]] = {}
    for shard in shards:
        match = _SPLIT.match(shard.name)
        found.setdefault(match[1] if match else "", []).append(shard)
    return found if "" not in found else {"": shards}


def _nothing_here(path: Path, name: str) -> UserError:
    from tunewright.reading.locate import readable_inside

    inside = readable_inside(path)
    return UserError(
        "this is a folder, not a file",
        where=name,
        found=f"inside it {quoted(inside)}" if inside else "no readable file inside it",
        hint=f"Name one, such as {Path(name) / inside[0]}" if inside else "Name the data file itself.",
    )
