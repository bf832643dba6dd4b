"""A file -> an iterator of Row and Reject, streaming. The first room of the house: everything starts here.

    source = open_source("train.csv")
    source.format, source.columns          'csv', ('review', 'sentiment')
    for row in source.rows(): …            Row('train.csv', 2, {'review': 'Fine.', 'sentiment': 'good'}) or Reject(…)

`locate.py` finds the file and its format, `formats/` has a reader for each, `detect.py` detects the text and label
columns.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tunewright.errors import UserError
from tunewright.files.paths import expanded
from tunewright.reading.files import is_utf8
from tunewright.reading.in_memory import Readable, paths_in, staged_file
from tunewright.reading.locate import locate, matching, reader_of
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import Source
from tunewright.reading.unchanged import stamp_of
from tunewright.reading.words import with_sentences

__all__ = ["ReadOptions", "Readable", "Source", "files_of", "open_source", "read", "splits_of"]

_MAY_HOLD_WORDS = ("jsonl", "json", "parquet", "arrow")
"""Formats, besides tables, in which a row may be one word."""
_WITH_SPLIT = re.compile(r"(.+)\[([^\[\]]+)\]")


def open_source(path: str, options: ReadOptions = ReadOptions()) -> Source:  # noqa: B008 (frozen)
    """Opens a file, a dataset folder or `hub:owner/name`; a split may be named in options or as `folder[train]`.

    Reads only what is needed to know the format, the columns and whether the file as a whole is damaged.
    Raises UserError, with what to do, where the file cannot be used; rows that cannot be used come as Reject.
    """
    name, path, options = path, *_named_split(path, options)
    place = Path(expanded(path))
    stamp = stamp_of(place)
    where, format = locate(path, options)
    source = reader_of(format).make_source(where, name, format, options)
    if format in _MAY_HOLD_WORDS:
        source = with_sentences(source, words_alone=options.words_alone, limit=options.max_row_bytes)
    wrong = next((one for one in (name, *map(str, source.paths)) if not is_utf8(one)), None)
    if wrong is not None:  # nothing could name it: no ledger, no message
        raise UserError("the file name is not UTF-8", where=ascii(wrong)[1:-1], hint="Rename the file.")
    for made in (source, source.by_word):
        if made is not None:
            made.stamps.update({one: stamp if one == place else stamp_of(one) for one in made.files()})
    return source


def read(data: Readable, options: ReadOptions = ReadOptions()) -> Source:  # noqa: B008 (frozen)
    """The rows of a file, of several that a pattern names, or of an object in memory: a DataFrame, a Table, a Dataset, dicts.

    options: how a file is read; rows in memory need none. UserError as of `open_source`.
    """
    sources = [open_source(path, options) for path in files_of(data)]
    return sources[0] if len(sources) == 1 else _one_after_another(sources, str(data))


def files_of(data: Readable) -> list[str]:
    """The paths of what can be read; rows in memory become a file for as long as the process lasts. UserError for anything else."""
    if isinstance(data, str | Path):
        return matching(str(data))
    return paths_in(data) or [staged_file(data, "data")]


def _one_after_another(sources: list[Source], name: str) -> Source:
    """Several sources as one: their columns are those of the first."""
    first = sources[0]
    return replace(
        first, name=name, read=lambda _: (row for source in sources for row in source.rows()), keep=None, by_word=None,
        paths=tuple(path for source in sources for path in source.paths), notes=[note for source in sources for note in source.notes],
        stamps={path: stamp for source in sources for path, stamp in source.stamps.items()},
    )  # fmt: skip


def splits_of(path: str, options: ReadOptions = ReadOptions()) -> tuple[str, ...]:  # noqa: B008 (frozen)
    """The splits of a dataset folder or a Hub data set, in its order; () for what is not split. Raises UserError.

    For `folder[test]` only `test`.
    """
    name, path, options = path, *_named_split(path, options)
    where, format = locate(path, options)
    if path != name and options.split:
        return (options.split,)
    if format == "hub":
        from tunewright.reading.formats import hub

        return tuple(hub.load(path, options))
    if format == "dataset":
        from tunewright.reading.formats import folder

        return tuple(split for split in folder.splits(where, path) if split)
    return ()


def _named_split(path: str, options: ReadOptions) -> tuple[str, ReadOptions]:
    """`hub:owner/name[test]` -> (`hub:owner/name`, options with split `test`), unless a file has that very name."""
    match = _WITH_SPLIT.fullmatch(path)
    if match is None or (not path.startswith("hub:") and (Path(path).exists() or not Path(match[1]).is_dir())):
        return path, options
    return match[1], replace(options, split=match[2])
