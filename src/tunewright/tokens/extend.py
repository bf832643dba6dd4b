"""A tokenizer made to fit its model: words that the user adds, and no token types where the model knows none.

    new_tokens(tokenizer, ["metformin"])        [NewToken("metformin", 30522, (2777, 14192, 2378))]   met ##form ##in
    fit_tokenizer(tokenizer, source)            "metformin" is now one token, 30522

The pieces say where a new embedding starts: at the mean of the rows it replaces (Hewitt 2021), see `models/extend.py`. Added words
are found as transformers finds them, also inside other words; what looks like control (`<tool_call>`) is in the
vocabulary and is never read out of a user's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.models.source import ModelFolder


@dataclass(frozen=True)
class NewToken:
    """A token that the vocabulary did not have: the id it gets, and the ids that its text was split into before."""

    token: str
    id: int
    pieces: tuple[int, ...]


def new_tokens(tokenizer: Any, tokens: Sequence[str]) -> list[NewToken]:
    """Of `tokens` those that a tokenizer, not yet extended, does not have, in order."""
    known = tokenizer.get_vocab()
    fresh = [token for token in dict.fromkeys(tokens) if token not in known]
    first = len(tokenizer)
    return [NewToken(token, first + number, _pieces(tokenizer, token)) for number, token in enumerate(fresh)]


def _pieces(tokenizer: Any, token: str) -> tuple[int, ...]:
    return tuple(tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def fit_tokenizer(tokenizer: Any, source: ModelFolder) -> None:
    """Add the user's tokens; drop token types where the tokenizer comes from elsewhere and the model has none."""
    tokenizer.add_tokens(list(source.added_tokens))
    names = tokenizer.model_input_names
    if source.tokenizer and source.json_file("config.json").get("type_vocab_size", 0) < 2 and "token_type_ids" in names:
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
