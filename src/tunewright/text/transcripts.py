"""Texts that are conversations already -> whose marks they carry: a chat template's control tokens, or plain headings.

control_marks(["<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n…"])      "chatml"
headings(["### Human: Hi\\n### Assistant: Hello!"])                               "### Human: … ### Assistant:"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_CONTROL = {
    "chatml": (r"<\|im_start\|>user", r"<\|im_start\|>assistant"),
    "llama3": (r"<\|start_header_id\|>user", r"<\|start_header_id\|>assistant<\|end_header_id\|>"),
    "mistral": (r"\[INST\]", r"\[/INST\]"),
    "gemma": ("<start_of_turn>user", "<start_of_turn>model"),
    "zephyr": (r"<\|user\|>", r"<\|assistant\|>"),
}
_HEADINGS = {
    f"{asked} … {answered}": (rf"^[ \t]*{asked}", answered if answered.startswith("###") else rf"^[ \t]*{answered}")
    for asked, answered in (
        ("### Human:", "### Assistant:"), ("### User:", "### Assistant:"), ("### Instruction:", "### Response:"),
        ("### Question:", "### Answer:"), ("Human:", "Assistant:"), ("User:", "Assistant:"), ("USER:", "ASSISTANT:"),
        ("User:", "Bot:"),
    )
}  # fmt: skip
_SHARE = 0.9
"""Of the texts, those that must carry the marks."""
_BEGINNING = 20_000
"""Characters of a text that are looked at."""


def control_marks(texts: Sequence[Any]) -> str | None:
    """The chat template whose control tokens stand in nearly all of these texts, the user's before the assistant's."""
    return _carried(_CONTROL, texts)


def headings(texts: Sequence[Any]) -> str | None:
    """The plain words that nearly all of these texts have before questions and answers, each on a line's beginning; answers behind ### may follow at once."""
    return _carried(_HEADINGS, texts)


def _carried(marks: Mapping[str, tuple[str, str]], texts: Sequence[Any]) -> str | None:
    given = [text[:_BEGINNING] for text in texts if isinstance(text, str) and text.strip()]
    for name, (asked, answered) in marks.items():
        first, then = re.compile(asked, re.MULTILINE), re.compile(answered, re.MULTILINE)
        if given and sum(_in_turn(first, then, text) for text in given) >= _SHARE * len(given):
            return name
    return None


def _in_turn(first: re.Pattern[str], then: re.Pattern[str], text: str) -> bool:
    found = first.search(text)
    return found is not None and then.search(text, found.end()) is not None
