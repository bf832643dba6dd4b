"""Are values of a kind? A few damaged ones change no answer: they are rejected with their lines when the rows are read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

_FEW = 20
_SEVERAL = 5


def nearly_all(fits: Callable[[Any], object], values: Collection[Any]) -> bool:
    """Of more than five values all but one, of many all but one in twenty; of none False.

    nearly_all(str.isdigit, ["1", "2", "3", "4", "5", "x"])      True
    """
    num_wrong = sum(not fits(value) for value in values)
    return bool(values) and num_wrong <= max(len(values) // _FEW, len(values) > _SEVERAL)
