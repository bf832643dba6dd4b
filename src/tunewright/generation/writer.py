"""A trained model writes: its task says after which tokens, and where an end is.

writer = task.writer(model, encoder, Sampling(temperature=0))
writer.complete([Example("What is a spline?")])     [Answer("A smooth curve.", ended="end")]
writer.written(Example("What is a spline?"))        'A smooth', ' curve', '.'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tunewright.records import Example


class Writer(Protocol):
    """A model, how it is asked, and how its words are chosen."""

    def complete(self, examples: Sequence[Example]) -> list[Any]:
        """What the model writes to each of them, in order: a record with `text`, `ended` and `num_tokens`."""
        ...

    def written(self, example: Example) -> Iterator[str]:
        """The same of one, piece by piece as it becomes certain."""
        ...


class Answers(Writer, Protocol):
    """A writer that takes turns."""

    def trim_history(self, conversation: Any) -> tuple[Any, int, int]:
        """(a `chat.messages.Conversation` without its oldest turns where they leave no room, turns left out, tokens of it still cut)."""
        ...
