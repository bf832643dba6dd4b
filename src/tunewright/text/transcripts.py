"""Texts that are conversations already -> whose marks they carry: a chat template's control tokens, or plain headings.

control_marks(["<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n…"])      "chatml"
headings(["### Human: Hi\\n### Assistant: Hello!"])                               "### Human: … ### Assistant:"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_CONTROL = {
    "chatml": re.compile(r"<\|im_start\|>assistant"),
    "llama3": re.compile(r"<\|start_header_id\|>assistant<\|end_header_id\|>"),
    "mistral": re.compile(r"\[INST\].*\[/INST\]", re.DOTALL),
    "gemma": re.compile(r"<start_of_turn>model"),
    "zephyr": re.compile(r"<\|user\|>.*<\|assistant\|>", re.DOTALL),
}
_HEADINGS = {
    f"{asked} … {answered}": re.compile(rf"^\s*{asked}.*^\s*{answered}", re.DOTALL | re.MULTILINE)
    for asked, answered in (
        ("### Human:", "### Assistant:"), ("### User:", "### Assistant:"), ("### Instruction:", "### Response:"),
        ("### Question:", "### Answer:"), ("Human:", "Assistant:"), ("User:", "Assistant:"), ("USER:", "ASSISTANT:"),
        ("User:", "Bot:"),
    )
}  # fmt: skip
_SHARE = 0.9
"""Of the texts, those that must carry the marks."""


def control_marks(texts: Sequence[Any]) -> str | None:
    """The chat template whose control tokens stand in nearly all of these texts."""
    return _carried(_CONTROL, texts)


def headings(texts: Sequence[Any]) -> str | None:
    """The plain words that nearly all of these texts have before questions and answers."""
    return _carried(_HEADINGS, texts)


def _carried(marks: Mapping[str, re.Pattern[str]], texts: Sequence[Any]) -> str | None:
    given = [text for text in texts if isinstance(text, str) and text.strip()]
    for name, mark in marks.items():
        if given and sum(mark.search(text) is not None for text in given) >= _SHARE * len(given):
            return name
    return None
