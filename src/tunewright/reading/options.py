"""How to read a file, where its name and content do not show it.

ReadOptions(delimiter=";", encoding="cp1252")      what `data.delimiter: ";"` and `data.encoding: cp1252` become
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from tunewright.errors import UserError, suggestion

_COMMON_ENCODINGS = ("utf-8", "utf-16", "utf-32", "cp1252", "latin-1", "shift_jis", "gb18030", "big5", "euc-kr")
_LONGEST_DELIMITER = 8
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """All options of the readers."""

    format: str | None = None
    """`jsonl`, `json`, `csv`, …; None: from the suffix, or from the content where a file has no suffix."""
    encoding: str = "utf-8"
    """Any text encoding Python knows. A UTF-8 byte order mark is dropped."""
    delimiter: str | None = None
    """Between the fields of a table (also `tab`); None: detected among `,` `;` `|` and tab. With more than
    one character (`||`), quotes have no meaning."""
    header: bool | None = None
    """Whether a table's first row names its columns; None: detected from the first rows."""
    quoting: bool | None = None
    """Whether quotes (") around a table's cell quote it; None: detected from the whole file for tab-separated text, otherwise true."""
    max_row_bytes: int = 4 * 2**20
    """A row larger than this is rejected without being held in memory. A tokenizer may need a hundred times a row's bytes."""
    config: str | None = None
    """Hub data sets: the configuration."""
    documents: str = "line"
    """Plain text files: a row is a `line`, a `paragraph`, or a piece of the `file`; `auto`: of the file where it has blank lines."""
    label_file: str | None = None
    """Plain text files: the file with their labels, one per line. `auto`: the file next to it with a matching name, if any."""
    split: str | None = None
    """Hub data sets and dataset folders: the split."""
    revision: str | None = None
    """Hub data sets: a branch, tag or commit."""
    words_alone: bool = False
    """Accept words without tags (for prediction)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", _known_encoding(self.encoding))
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _usable(self.delimiter))
        if self.max_row_bytes < 1:
            found = str(self.max_row_bytes)
            raise UserError("the limit is too small", where="data.max_row_bytes", found=found, expected="1 or more")


def _known_encoding(name: str) -> str:
    """The name, `utf-8` for all its spellings (a byte order mark is dropped either way)."""
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # refuses codecs that are no text encodings, such as hex
    except (LookupError, ValueError):
        raise UserError(
            f"no text encoding {name!r}",
            where="data.encoding",
            hint=suggestion(name.lower(), _COMMON_ENCODINGS, f"Common ones: {', '.join(_COMMON_ENCODINGS)}."),
        ) from None
    return "utf-8" if codec.name in ("utf-8", "utf-8-sig") else name


def _usable(delimiter: str) -> str:
    character = _DELIMITER_NAMES.get(delimiter.lower(), delimiter)
    if not 0 < len(character) <= _LONGEST_DELIMITER or set(character) & set('\r\n"\0'):
        raise UserError(
            "this delimiter cannot be used",
            where="data.delimiter",
            found=repr(delimiter),
            expected=f"one to {_LONGEST_DELIMITER} characters, and no quote or line end",
        )
    return character
