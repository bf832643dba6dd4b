"""Texts that are already rendered conversations -> their markers: a chat template's control tokens, or plain headings.

control_marks(["<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n…"])      "chatml"
headings(["### Human: Hi\\n### Assistant: Hello!"])                               "### Human: … ### Assistant:"
answer_spans("### Human: Hi\\n### Assistant: Hello!", marks_of("### Assistant:"))   ((28, 35),)
literal_end("5 stars</s>")                                                       "</s>"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.errors import RowError

_CONTROL = {
    "chatml": (r"<\|im_start\|>user", r"<\|im_start\|>assistant"),
    "llama3": (r"<\|start_header_id\|>user", r"<\|start_header_id\|>assistant<\|end_header_id\|>"),
    "mistral": (r"\[INST\]", r"\[/INST\]"),
    "gemma": ("<start_of_turn>user", "<start_of_turn>model"),
    "zephyr": (r"<\|user\|>", r"<\|assistant\|>"),
}


def _is_heading_anywhere(heading: str) -> bool:
    """Does a heading count also inside a line: after ###, and in capitals (Vicuna's `USER: Hi ASSISTANT: Hello!` on one line)?"""
    return heading.startswith("###") or heading.isupper()


def _pattern(heading: str) -> str:
    """The pattern of a heading: anywhere, or at the beginning of a line."""
    if heading.startswith("###"):
        return re.escape(heading)
    return rf"(?<![^\W_]){re.escape(heading)}" if _is_heading_anywhere(heading) else rf"^[ \t]*{re.escape(heading)}"


_HEADINGS = {
    f"{asked} … {answered}": (rf"^[ \t]*{asked}" if asked.startswith("###") else _pattern(asked), _pattern(answered))
    for asked, answered in (
        ("### Human:", "### Assistant:"), ("### User:", "### Assistant:"), ("### Instruction:", "### Response:"),
        ("### Question:", "### Answer:"), ("Human:", "Assistant:"), ("User:", "Assistant:"), ("USER:", "ASSISTANT:"),
        ("User:", "Bot:"),
    )
}  # fmt: skip
_ENDED_BY = {
    "chatml": (r"<\|im_start\|>assistant[ \t]*\n?", r"<\|im_start\|>(?:user|human)[ \t]*\n?", "<|im_end|>"),
    "llama3": (r"<\|start_header_id\|>assistant<\|end_header_id\|>\n{0,2}", r"<\|start_header_id\|>user<\|end_header_id\|>\n{0,2}", "<|eot_id|>"),
    "mistral": (r"\[/INST\]", r"\[INST\]", "</s>"),
    "gemma": (r"<start_of_turn>model[ \t]*\n?", r"<start_of_turn>user[ \t]*\n?", "<end_of_turn>"),
    "zephyr": (r"<\|assistant\|>[ \t]*\n?", r"<\|user\|>[ \t]*\n?", "</s>"),
}  # fmt: skip
"""Template -> how an answer begins in a rendered text, how a question does, and the token that ends an answer."""
_SPEAKERS = {
    "chatml": r"<\|im_start\|>", "llama3": r"<\|start_header_id\|>", "mistral": r"<s>|\[INST\]", "gemma": "<start_of_turn>",
    "zephyr": r"<\|(?:user|system)\|>",
}  # fmt: skip
_ENDS = re.compile(
    r"\s*(<\|(?:endoftext|end_of_text|im_end|eot_id|eom_id|end|return|endofturn|end_of_turn|eos|EOT|END_OF_TURN_TOKEN)\|>|</?s>|<eos>|\[EOS\]"
    r"|<end_of_turn>|<eot>|<EOT>|<end_of_utterance>|<｜end▁of▁sentence｜>)\s*\Z"
)
"""The end tokens of common tokenizers, at the end of a text."""
_SHARE = 0.9
"""Share of the texts that must have the markers."""
_LITERAL_END_SHARE = 0.2
"""Share of the texts with an end token from which it is reported."""
_TAIL = 200
"""Characters at a text's end that are looked at."""
_BEGINNING = 20_000
"""Characters of a text that are looked at."""


def control_marks(texts: Sequence[Any]) -> str | None:
    """The chat template whose control tokens are in nearly all of these texts, the user's before the assistant's."""
    return _markers_in(_CONTROL, texts)


def headings(texts: Sequence[Any]) -> str | None:
    """The plain headings that nearly all of these texts have before questions and answers."""
    return _markers_in(_HEADINGS, texts)


@dataclass(frozen=True)
class Marks:
    """The markers around the turns of a rendered text. answered, asked, next: patterns before an answer, a question, any other turn.

    name: as `task.answers_after` calls them. end: the token that ends an answer and is learned with it. certain: whether it is
    known how a question begins.
    """

    name: str
    answered: re.Pattern[str]
    asked: re.Pattern[str]
    next: re.Pattern[str]
    end: str | None = None
    certain: bool = True


def marks_of(after: str, until: str | None = None) -> Marks:
    """The markers for a template's name (chatml, …), its own text before an answer, or a heading (`### Assistant:`).

    until: the heading of questions, where the heading of answers is not a usual one.
    """
    for name, (answered, asked, end) in _ENDED_BY.items():
        if after == name or re.fullmatch(answered, after):
            return Marks(name, re.compile(answered), re.compile(asked), re.compile(_SPEAKERS[name]), end)
    heading = after.strip()
    usual = [one.split(" … ")[0] for one in _HEADINGS if one.endswith(f" … {heading}")]
    questions = [until.strip()] if until else usual
    others = (
        []
        if until or not usual
        else ["### System:", "### Input:"]
        if heading.startswith("###")
        else ["System:", "SYSTEM:"]
    )
    return Marks(
        heading,
        _heading([heading]),
        _heading(questions),
        _heading([*questions, *others], whole=False),
        certain=bool(questions),
    )


def _heading(names: Sequence[str], *, whole: bool = True) -> re.Pattern[str]:
    """A pattern for any of these headings. whole: including the end of its line."""
    patterns = "|".join(map(_pattern, names)) or "(?!)"
    return re.compile(f"(?:{patterns}){'(?:[ ]*' + chr(10) + ')?' if whole else ''}", re.MULTILINE)


def recognized_marks(texts: Sequence[Any]) -> Marks | None:
    """The markers that nearly all of these texts have."""
    name = control_marks(texts)
    if name is None and (found := headings(texts)) is not None:
        name = found.split(" … ")[1]
    return None if name is None else marks_of(name)


def answer_spans(text: str, marks: Marks) -> tuple[tuple[int, int], ...]:
    """The spans of the answers in a rendered text, each with its end token where it has one.

    RowError where there is none, or where it is unknown how the first of several ends.
    """
    begins = [match.end() for match in marks.answered.finditer(text)]
    if not begins:
        raise RowError(f"no answer: the text has no {marks.name!r}")
    if len(begins) > 1 and not marks.certain:
        raise RowError(
            f"{len(begins)} answers after {marks.name!r}, but it is unknown where they end: set task.answers_until to the heading of questions"
        )
    spans = []
    for begin, last in zip(
        begins, [*[match.start() for match in marks.answered.finditer(text)][1:], len(text)], strict=True
    ):
        behind = marks.next.search(text, begin, last)
        stop = behind.start() if behind else last
        ended = text.find(marks.end, begin, stop) if marks.end else -1
        if ended >= 0:
            stop = ended + len(str(marks.end))
        elif stop < len(text):
            stop = begin + len(text[begin:stop].rstrip())
        if text[begin:stop].replace(marks.end or "", "").strip():
            spans.append((begin, stop))
    if not spans:
        raise RowError(f"no answer: no text after {marks.name!r}")
    return tuple(spans)


def literal_end(text: str) -> str | None:
    """The end token (of any common tokenizer) at the end of a text; None where there is none."""
    found = _ENDS.search(text[-_TAIL:])
    return found[1] if found else None


def common_literal_end(texts: Sequence[Any]) -> str | None:
    """The end token that many of these texts end with; None where few or none do."""
    given = [text for text in texts if isinstance(text, str) and text.strip()]
    found = Counter(end for text in given if (end := literal_end(text)) is not None)
    most = found.most_common(1)
    return most[0][0] if most and found.total() >= _LITERAL_END_SHARE * len(given) else None


def without_literal_ends(text: str) -> str:
    """The text without end tokens at its end. "5 stars</s>" -> "5 stars" """
    while found := _ENDS.search(text[-_TAIL:]):
        text = text[: max(0, len(text) - _TAIL) + found.start()]
    return text


def _markers_in(marks: Mapping[str, tuple[str, str]], texts: Sequence[Any]) -> str | None:
    given = [text[:_BEGINNING] for text in texts if isinstance(text, str) and text.strip()]
    for name, (asked, answered) in marks.items():
        first, then = re.compile(asked, re.MULTILINE), re.compile(answered, re.MULTILINE)
        if given and sum(_in_turn(first, then, text) for text in given) >= _SHARE * len(given):
            return name
    return None


def _in_turn(first: re.Pattern[str], then: re.Pattern[str], text: str) -> bool:
    found = first.search(text)
    return found is not None and then.search(text, found.end()) is not None
