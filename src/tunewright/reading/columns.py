"""Row -> the texts of an example: which columns hold text, pair, label and weight, and how they are joined.

TextColumns(text=("subject", "body")).texts_of(row)     ("Invoice 1007\\n\\nIt was charged twice.", None)
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Any

from tunewright.errors import RowError, quoted
from tunewright.records import Row

JOINER = "\n\n"
_SHAPELESS = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode categories of controls, format characters and separators."""


@dataclass(frozen=True)
class TextColumns:
    """Columns by role. `text` may be several, joined by a blank line; `labels`: columns of zeros and ones, one per label."""

    text: tuple[str, ...]
    pair: str | None = None
    label: str | None = None
    weight: str | None = None
    label_delimiter: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def named_label(self) -> str:
        """The label column, or columns, for messages."""
        return ", ".join(self.labels) or str(self.label)

    @property
    def label_columns(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.label, *self.labels)))

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that a text or a label is read from."""
        return tuple(filter(None, (*self.text, self.pair, *self.label_columns)))

    def settings(self) -> dict[str, Any]:
        """The keys of the `data` section that name these columns."""
        values: dict[str, Any] = {"text": self.text[0] if len(self.text) == 1 else list(self.text)}
        label = list(self.labels) or self.label
        found = {"pair": self.pair, "label": label, "label_delimiter": self.label_delimiter}
        return values | {key: value for key, value in found.items() if value}

    def described(self) -> dict[str, str]:
        """`{"text": "premise + hypothesis", "label": "gold_label"}`, for people."""
        label = {"label": self.named_label} if self.label_columns else {}
        return {"text": " + ".join(filter(None, (*self.text, self.pair))), **label}

    def texts_of(self, row: Row) -> tuple[str, str | None]:
        """(text, pair or None). RowError for a missing column, a value that is not text, or a blank text."""
        text = JOINER.join(part for part in (_text(row, name) for name in self.text) if not is_blank(part))
        if not text:
            raise RowError("blank text")
        if self.pair is None:
            return text, None
        pair = _text(row, self.pair)
        if is_blank(pair):
            raise RowError(f"blank text in {self.pair!r}")
        return text, pair

    def weight_of(self, row: Row) -> float:
        """The row's weight in the loss, 1 where no column is named."""
        if self.weight is None:
            return 1.0
        value = row.fields.get(self.weight)
        try:
            weight = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise RowError(f"the weight is {value!r}, expected a number") from None
        if not math.isfinite(weight) or weight < 0:
            raise RowError(f"the weight is {value!r}, expected a finite number, 0 or more")
        return weight


def is_blank(text: str) -> bool:
    """Whether a text has only white space and invisible characters (zero-width space, byte order mark, …)."""
    return not any(unicodedata.category(character) not in _SHAPELESS for character in text.strip())


def _text(row: Row, column: str) -> str:
    if column not in row.fields:
        raise RowError(f"no field {column!r}; found {quoted(row.fields)}")
    value = row.fields[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{column!r} holds {type(value).__name__} {value!r:.80}, expected text")
    return value
