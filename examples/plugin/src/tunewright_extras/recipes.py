"""A reader: files of recipes, `label: text` a line, lines with # left out."""

from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".rcp",)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """A mapping for each row, in order. It is called once for each pass over the file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                label, _, text = line.rstrip("\n").partition(": ")
                yield {"text": text, "label": label}
