"""A reader from another package: whatever yields a mapping for each row becomes a source like those of our own readers.

[project.entry-points."tunewright.readers"]      in the package's pyproject.toml
recipes = "my_package.recipes"                   a module with `SUFFIXES = (".rcp",)` and `rows(path)`

tunewright train dinners.rcp                     by its suffix, or data.format=recipes
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tunewright.errors import RowError, UserError
from tunewright.plugins import find
from tunewright.reading.json_values import StrictJson
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import MAX_RAW, Source
from tunewright.records import Reject, Row


class PluginReader:
    """Calls the `rows(path)` of a plug-in's module, once for each pass over the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of files that it reads, with their dots."""
        return tuple(getattr(find("readers", self.name), "SUFFIXES", ()))

    def make_source(self, path: Path, name: str, format: str, options: ReadOptions) -> Source:
        return Source(name, format, lambda source: self._rows(path, name), paths=(path,))

    def _rows(self, path: Path, name: str) -> Iterator[Row | Reject]:
        """Rows are counted from 1; what JSON cannot hold, or we refuse in JSON, is refused here. UserError where the plug-in fails."""
        read, parse, number = find("readers", self.name).rows, StrictJson().row, 0
        try:
            for number, given in enumerate(read(path), start=1):
                try:
                    row: Row | Reject = Row(name, number, parse(json.dumps(given, ensure_ascii=False)))
                except (TypeError, ValueError, RecursionError) as error:
                    row = Reject(
                        name, number, f"the reader gives what is no JSON object ({error})", repr(given)[:MAX_RAW]
                    )
                except RowError as error:
                    row = Reject(name, number, error.reason, repr(given)[:MAX_RAW])
                yield row
        except UserError:
            raise
        except Exception as error:  # a plug-in's own code may raise anything
            raise UserError(
                f"the reader {self.name} fails ({type(error).__name__}: {error})", where=f"{name}:{number + 1}"
            ) from error
