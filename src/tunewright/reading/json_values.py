"""JSON text -> exact values, or the reason why a row cannot be used; shared by the JSONL and JSON readers.

    read = StrictJson()
    read.row('{"text": "Fine.", "label": 7}')              {'text': 'Fine.', 'label': 7}
    read.row('{"text": "a", "text": "b"}')                 RowError: the key 'text' occurs twice

Python's decoder is more lenient: it accepts NaN, keeps the last of two equal keys, and makes 1e999 infinite.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from tunewright.errors import RowError
from tunewright.reading.files import LONE_SURROGATE, NUL, has_surrogate

MAX_KEY = 200
"""Characters of a key that a message shows."""
_ENDS = frozenset(("\n", "\r\n", ""))
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class StrictJson:
    """A JSON decoder that records faults and continues, so that the end of a faulty value is still found."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_float=self._float
        )
        self.raw_decode = self._decoder.raw_decode

    def row(self, text: str) -> dict[str, Any]:
        """The object that is the whole of `text`. Raises RowError, with the position where there is one."""
        if self.faults:
            self.faults.clear()
        try:
            value, end = self.raw_decode(text)
            if text[end:] not in _ENDS:
                value = self._decoder.decode(text)  # white space around it, or more text than one value
        except json.JSONDecodeError as error:
            if not text.startswith((" ", "\t", "\r")):
                raise RowError(_syntax(error, text)) from None
            return self.row(text.lstrip(" \t\r\n"))
        except (ValueError, RecursionError) as error:
            raise RowError(unparsable(error)) from None
        escaped = "\\u" in text
        if escaped or self.faults or type(value) is not dict:
            return self.checked(value, escaped)
        return value

    def checked(self, value: Any, escaped: bool) -> dict[str, Any]:
        """`value`, just parsed, as the fields of a row; RowError for an unusable one.

        escaped: whether its strings must be checked. A text and its annotations, spaCy's `["Ulm", {"entities":
        [[0, 3, "LOC"]]}]`, are the fields `text` and those.
        """
        if self.faults:
            fault = self.faults[0]
            self.faults.clear()
            raise RowError(fault)
        fields = {"text": value[0], **value[1]} if is_text_and_fields(value) else value
        if type(fields) is not dict:
            raise RowError(f"{kind_of(value)}, expected an object: {{…}}")
        if escaped and (fault_found := text_fault(fields)):
            raise RowError(fault_found)
        return fields

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            self.faults.append(f"the key {twice[:MAX_KEY]!r} occurs twice")
        return fields

    def _constant(self, name: str) -> None:
        self.faults.append(f"{name} is not JSON; expected a number or null")

    def _float(self, text: str) -> float:
        number = float(text)
        if math.isinf(number):
            self.faults.append(f"the number {text[:40]} is too large for a float")
        return number


def is_json_object(text: str) -> bool:
    """Whether `text`, a line of a file for example, is an object in JSON and nothing else."""
    return _spells(text, "{", dict)


def is_json_list(text: str) -> bool:
    """Whether `text` is a list in JSON and nothing else."""
    return _spells(text, "[", list)


def _spells(text: str, opening: str, kind: type) -> bool:
    if not text.lstrip().startswith(opening):
        return False
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False


def is_text_and_fields(value: Any) -> bool:
    """`["Ulm liegt hier", {"entities": …}]`, where the object has no text of its own."""
    return (
        type(value) is list
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and "text" not in value[1]
    )


def kind_of(value: Any) -> str:
    """`a list`, `a string`, …: what a value is, in JSON's words."""
    return _KINDS.get(type(value), "a number")


def text_fault(value: Any) -> str | None:
    """What is wrong with the text anywhere in a value (keys too): a NUL or half a surrogate pair."""
    if isinstance(value, str):
        if "\0" in value:
            return NUL
        return LONE_SURROGATE if has_surrogate(value) else None
    if isinstance(value, dict):
        return next((f for pair in value.items() for part in pair if (f := text_fault(part))), None)
    if isinstance(value, list):
        return next((f for part in value if (f := text_fault(part))), None)
    return None


def unparsable(error: Exception) -> str:
    """The reason where the decoder fails for anything but syntax."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "an integer has more digits than Python can read" if "digits" in str(error) else str(error)


def _syntax(error: json.JSONDecodeError, text: str) -> str:
    end = len(text.rstrip(" \t\r\n"))
    if error.pos >= end or error.msg.startswith("Unterminated string"):
        return f"not valid JSON: the line is truncated at column {end + 1} ({error.msg[0].lower()}{error.msg[1:]})"
    return f"not valid JSON at column {error.pos + 1}: {error.msg[0].lower()}{error.msg[1:]}"
