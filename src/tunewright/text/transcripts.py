"""Texts that are conversations already -> whose marks they carry: a chat template's control tokens, or plain headings.

control_marks(["<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n…"])      "chatml"
headings(["### Human: Hi\\n### Assistant: Hello!"])                               "### Human: … ### Assistant:"
literal_end("5 stars</s>")                                                       "</s>"
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
_ENDS = re.compile(
    r"\s*(<\|(?:endoftext|end_of_text|im_end|eot_id|eom_id|end|return|endofturn|end_of_turn|eos|EOT|END_OF_TURN_TOKEN)\|>|</?s>|<eos>|\[EOS\]"
    r"|<end_of_turn>|<eot>|<EOT>|<end_of_utterance>|<｜end▁of▁sentence｜>)\s*\Z"
)
"""The end tokens of common tokenizers, behind a text."""
_SHARE = 0.9
"""Of the texts, those that must carry the marks."""
_TAIL = 200
"""Characters at a text's end that are looked at."""
_BEGINNING = 20_000
"""Characters of a text that are looked at."""


def control_marks(texts: Sequence[Any]) -> str | None:
    """The chat template whose control tokens stand in nearly all of these texts, the user's before the assistant's."""
    return _carried(_CONTROL, texts)


def headings(texts: Sequence[Any]) -> str | None:
    """The plain words that nearly all of these texts have before questions and answers, each on a line's beginning; answers behind ### may follow at once."""
    return _carried(_HEADINGS, texts)


def literal_end(text: str) -> str | None:
    """The end token that a text spells at its end, of whichever tokenizer; None where there is none."""
    found = _ENDS.search(text[-_TAIL:])
    return found[1] if found else None


def without_literal_ends(text: str) -> str:
    """The text without end tokens at its end. "5 stars</s>" -> "5 stars" """
    while found := _ENDS.search(text[-_TAIL:]):
        text = text[: max(0, len(text) - _TAIL) + found.start()]
    return text


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
