"""The parts of the `data` section that are about entities (what becomes of spans and long texts) and about rendered chats."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from tunewright.settings import Section


class EntityConfig(Section):
    overlaps: Literal["refuse", "longest"] = Field(
        "refuse", description="Entities that overlap. refuse: the row is rejected; longest: the longest ones are kept."
    )
    align: Literal["expand", "strict"] = Field(
        "expand",
        description="An entity that cuts a word of the tokenizer. expand: the whole word is learned; strict: it is not learned from.",
    )
    annotator: str | None = Field(
        None, description="Label Studio: whom to believe where annotators disagree: completed_by, or latest."
    )
    long_texts: Literal["windows", "truncate"] = Field(
        "windows",
        description="Entities in texts longer than max_length. windows: found in overlapping windows; truncate: lost.",
    )
    window: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Tokens of a window, for texts longer than max_length. auto: 128, as long as most training rows.",
    )
    stride: NonNegativeInt | Literal["auto"] = Field(
        "auto", description="Tokens that neighbouring windows share. auto: a quarter of the window."
    )


class ChatConfig(Section):
    rendered: bool | None = Field(
        None,
        description="Texts are rendered conversations: control tokens in them are meant, and nothing is written around them. "
        "Detected by the control tokens of known chat templates when not given.",
    )
