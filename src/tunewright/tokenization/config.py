"""The encoding half of the `data` section: how texts become token ids."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from tunewright.settings import Section


class EncodeConfig(Section):
    max_length: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Longest row in tokens, special tokens included. auto: what the model can take, at most 512.",
    )
    padding: Literal["longest", "max_length"] = Field(
        "longest", description="Pad each micro-batch to its longest row, or to max_length."
    )
    padding_side: Literal["auto", "right", "left"] = Field(
        "auto",
        description="Side that is padded in batches given out and by the saved tokenizer. auto: the tokenizer's own. What is learned does "
        "not depend on it.",
    )
    truncation_side: Literal["right", "left"] = Field(
        "right", description="Side that is cut when a row is longer than max_length."
    )
