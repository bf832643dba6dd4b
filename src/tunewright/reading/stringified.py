"""Stringified lists and objects, as tables hold them: JSON, or as Python or NumPy prints them.

    stringified_list("['joy', 'anger']"), stringified_list('["joy", "anger"]'), stringified_list("['joy' 'anger']")    ['joy', 'anger'] thrice

NumPy puts no commas between items, where Python would join neighbouring strings: hence a parser of our own. A list with commas
in some places only is rejected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tunewright.reading.json_values import text_fault
from tunewright.reading.shares import nearly_all

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\\n]|\\[\\'"abfnrtvxuUN0-7])*'|"(?:[^"\\\n]|\\[\\'"abfnrtvxuUN0-7])*")(?=[\s,:\[\](){}]|$)
      | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(?=[\s,:\[\](){}]|$)
      | (?P<word>True|False|None)\b
      | (?P<mark>[\[\](){},:])
    )""",
    re.VERBOSE,
)
_WORDS = {"True": True, "False": False, "None": None}
_CLOSES = {"[": "]", "(": ")", "{": "}"}
_NOTHING = ("end", None)


def stringified_value(text: str) -> Any:
    """The value of a stringified list, dict, string, number, true, false or null. ValueError for any other text."""
    try:
        value = _value(text)
        fault = text_fault(value) if "\\" in text else None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if fault is not None:
        raise ValueError(fault)
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if not text.lstrip().startswith(tuple(_CLOSES)):
        raise ValueError("neither a list nor an object")
    tokens = _Tokens(text)
    value = tokens.value()
    if not tokens.at_end:
        raise ValueError("extra text after the value")
    return value


def stringified_list(text: str) -> list[Any] | None:
    """The value of a stringified list; None for any other text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = stringified_value(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def are_stringified_lists(values: Sequence[Any]) -> bool:
    """Whether these are stringified lists (missing and blank values aside)."""
    given = [value for value in values if value is not None and value != ""]
    return nearly_all(lambda value: isinstance(value, str) and stringified_list(value) is not None, given)


class _Tokens:
    """A parser with one token of lookahead. ValueError for a text with other tokens."""

    def __init__(self, text: str) -> None:
        self._found = _tokens(text)
        self._next = next(self._found, _NOTHING)

    @property
    def at_end(self) -> bool:
        return self._next is _NOTHING

    def value(self) -> Any:
        kind, value = self._take()
        if kind == "value":
            return value
        if value in ("[", "("):
            return self._items(_CLOSES[value])
        if value == "{":
            return self._fields()
        raise ValueError(f"{value!r} where a value was expected")

    def _items(self, close: str) -> list[Any]:
        """With a comma after every item (except the last), or after none."""
        items: list[Any] = []
        gaps: set[bool] = set()
        comma = False
        while self._next != ("mark", close):
            items.append(self.value())
            comma = self._next == ("mark", ",")
            if comma:
                self._take()
            if self._next != ("mark", close):
                gaps.add(comma)
        self._take()
        if len(gaps) > 1 or (comma and False in gaps):
            raise ValueError("commas between some items only")
        return items

    def _fields(self) -> dict[Any, Any]:
        fields: dict[Any, Any] = {}
        while self._next != ("mark", "}"):
            kind, key = self._take()
            if kind != "value" or self._take() != ("mark", ":"):
                raise ValueError("an object without a key")
            fields[key] = self.value()
            if self._next == ("mark", ","):
                self._take()
            elif self._next != ("mark", "}"):
                raise ValueError("no comma between fields")
        self._take()
        return fields

    def _take(self) -> tuple[str, Any]:
        taken = self._next
        if taken is _NOTHING:
            raise ValueError("the text ends too early")
        self._next = next(self._found, _NOTHING)
        return taken


def _tokens(text: str) -> Iterator[tuple[str, Any]]:
    """("mark", one of []{}(),:) or ("value", a text, number, True, False or None)."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"not readable at character {at + 1}")
        at = match.end()
        if match["text"] is not None:
            yield "value", _unescaped(match["text"][1:-1])
        elif match["number"] is not None:
            number = match["number"]
            yield "value", int(number) if re.fullmatch(r"-?[0-9]+", number) else float(number)
        elif match["word"] is not None:
            yield "value", _WORDS[match["word"]]
        else:
            yield "mark", match["mark"]


def _unescaped(body: str) -> str:
    """The content of a quoted Python string. ValueError for an invalid escape."""
    if "\\" not in body:
        return body
    return body.encode("latin-1", "backslashreplace").decode("unicode-escape")
