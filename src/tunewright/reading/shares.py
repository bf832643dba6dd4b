"""Whether nearly all values are of a kind. A few damaged ones do not change the answer; their rows are rejected later."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

_FEW = 20
_SEVERAL = 5


def nearly_all(fits: Callable[[Any], object], values: Collection[Any]) -> bool:
    """All but one of more than five values, all but one in twenty of many; False without values.

    nearly_all(str.isdigit, ["1", "2", "3", "4", "5", "x"])      True
    """
    num_wrong = sum(not fits(value) for value in values)
    return bool(values) and num_wrong <= max(len(values) // _FEW, len(values) > _SEVERAL)
