"""A metric: a number that knows whether higher values are better.

Metric(0.91, higher_is_better=True)       accuracy
Metric(0.12, higher_is_better=False)      rmse
Metric(17.5, higher_is_better=None)       tokens of an answer: neither, so it chooses no checkpoint
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Metric(float):
    """A float, written to JSON as one."""

    higher_is_better: bool | None

    def __new__(cls, value: Any, higher_is_better: bool | None) -> Metric:
        metric = super().__new__(cls, value)
        metric.higher_is_better = higher_is_better
        return metric

    def __getnewargs__(self) -> tuple[float, bool | None]:  # type: ignore[override]  # for copies
        return float(self), self.higher_is_better


def higher(values: Mapping[str, Any]) -> dict[str, Metric]:
    """Metrics whose higher values are better."""
    return {name: Metric(value, True) for name, value in values.items()}


def lower(values: Mapping[str, Any]) -> dict[str, Metric]:
    """Metrics whose lower values are better."""
    return {name: Metric(value, False) for name, value in values.items()}
