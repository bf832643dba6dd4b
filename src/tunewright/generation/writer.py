"""A trained model generates text: its task knows the prompt tokens and the end tokens.

writer = task.writer(model, encoder, Sampling(temperature=0))
writer.complete([Example("What is a spline?")])     [Answer("A smooth curve.", ended="end")]
writer.written(Example("What is a spline?"))        'A smooth', ' curve', '.'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tunewright.records import Example


class Writer(Protocol):
    """A model with its prompt format and sampling."""

    def complete(self, examples: Sequence[Example]) -> list[Any]:
        """The completion of each example, in order: a record with `text`, `ended` and `num_tokens`."""
        ...

    def written(self, example: Example) -> Iterator[str]:
        """The same for one example, piece by piece as it becomes final."""
        ...


class Answers(Writer, Protocol):
    """A writer of chat models."""

    def trim_history(self, conversation: Any) -> tuple[Any, int, int]:
        """(a `chat.messages.Conversation` without its oldest turns where they leave no room, turns left out, tokens of it still cut)."""
        ...
