"""Control tokens in texts of users, tools and documents: escaped before a template runs, restored as text after it.

    escaped = EscapedConversation.of(conversation, control)     user: "what is <|im_end|>?"  ->  user: "what is \\U000f0000?"
    escaped.restored(rendered)                     the text again, and where in it control tokens are only text

A template may cut, join, test or lower-case a text; one private character in place of a control token travels through all of that,
and what still looks like a control token after rendering was written by the template (or is the assistant's own, `<think>`). So that
none comes together from parts either (`<|im_` behind a template's white space filter), every character that begins a control token
is escaped where a user speaks, and in what a tool is called with. An assistant's text keeps its `<`, for templates look for tags in
it; only an open end is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.chat.messages import ASSISTANT, Conversation, Message, ToolCall

ASSISTANTS_OWN = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Control tokens that an assistant may write."""
_FIRST = 0xF0000
_PRIVATE = "\U000f0000-\U0010ffff"
"""Unicode's private planes 15 and 16: placeholders and marks are taken from them."""
_IS_PRIVATE = re.compile(f"[{_PRIVATE}]")


class ControlTokens:
    """The control tokens of one tokenizer, found in texts."""

    def __init__(self, tokens: Sequence[str]) -> None:
        longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
        self.tokens = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self.several = re.compile(f"(?:{self.tokens.pattern})+")
        first = "".join(sorted({re.escape(form) for token in longest_first for form in _cases(token[0])}))
        tokens = [re.escape(token) for token in longest_first]
        self.user_pattern = re.compile("|".join([*tokens, f"[{first}{_PRIVATE}]"]), re.IGNORECASE)
        self.assistant_pattern = re.compile("|".join([*tokens, f"[{_PRIVATE}]"]), re.IGNORECASE)
        self._begun = {token[:size].lower() for token in longest_first for size in range(1, len(token))}
        self._longest = max((len(token) for token in longest_first), default=1) - 1

    def open_end(self, text: str) -> tuple[int, int]:
        """The range of an incomplete control token at the end of the text, (0, 0) where there is none. `a <|im_ ` -> (2, 7)"""
        stop = len(text.rstrip())
        begins = range(max(0, stop - self._longest), stop)
        return next(((begin, stop) for begin in begins if text[begin:stop].lower() in self._begun), (0, 0))


@dataclass(frozen=True)
class EscapedConversation:
    """A conversation without control tokens in its texts. strings: the text that each private character replaces."""

    conversation: Conversation
    strings: tuple[str, ...]

    @classmethod
    def of(cls, conversation: Conversation, control: ControlTokens) -> EscapedConversation:
        strings: dict[str, str] = {}

        def private(string: str) -> str:
            return strings.setdefault(string, chr(_FIRST + len(strings)))

        def escape(value: Any, pattern: re.Pattern[str]) -> Any:
            if isinstance(value, str) and pattern is control.assistant_pattern:
                escaped = pattern.sub(
                    lambda match: match[0] if match[0] in ASSISTANTS_OWN else private(match[0]), value
                )
                begin, end = control.open_end(escaped)
                return escaped[:begin] + private(escaped[begin:end]) + escaped[end:] if begin < end else escaped
            if isinstance(value, str):
                return pattern.sub(lambda match: private(match[0]), value)
            if isinstance(value, dict):
                return {escape(key, pattern): escape(one, pattern) for key, one in value.items()}
            return [escape(one, pattern) for one in value] if isinstance(value, list) else value

        def of_message(one: Message) -> Message:
            pattern = control.assistant_pattern if one.role == ASSISTANT else control.user_pattern
            calls = tuple(
                ToolCall(*(escape(value, control.user_pattern) for value in (call.name, call.arguments, call.id)))
                for call in one.tool_calls
            )
            return replace(
                one, content=escape(one.content, pattern), reasoning=escape(one.reasoning, pattern),
                input=escape(one.input, pattern), name=escape(one.name, control.user_pattern), tool_calls=calls,
                call_id=escape(one.call_id, control.user_pattern),
            )  # fmt: skip

        tools = tuple(escape(tool, control.user_pattern) for tool in conversation.tools)
        messages = tuple(of_message(one) for one in conversation.messages)
        return cls(replace(conversation, messages=messages, tools=tools), tuple(strings))

    def restored(
        self, text: str, places: Sequence[int], control: ControlTokens
    ) -> tuple[str, list[int], list[tuple[int, int]]]:
        """(the text with everything restored, `places` in it shifted accordingly, ranges of restored control tokens)."""
        if not self.strings:
            return text, list(places), []
        parts: list[str] = []
        ranges: list[tuple[int, int]] = []
        length = at = 0
        steps = [(0, 0)]
        for match in re.finditer(f"[{chr(_FIRST)}-{chr(_FIRST + len(self.strings) - 1)}]", text):
            string = self.strings[ord(match[0]) - _FIRST]
            parts += [text[at : match.start()], string]
            length += match.start() - at
            if not _IS_PRIVATE.match(string):
                ranges.append((length, length + len(string)))
            length, at = length + len(string), match.end()
            steps.append((at, length - at))
        parts.append(text[at:])
        return "".join(parts), [place + _shift(steps, place) for place in places], ranges


def _shift(steps: Sequence[tuple[int, int]], place: int) -> int:
    """How far a place moves: by the length restored before it."""
    return next(shift for begin, shift in reversed(steps) if begin <= place)


def _cases(letter: str) -> set[str]:
    return {letter, letter.lower(), letter.upper()}
