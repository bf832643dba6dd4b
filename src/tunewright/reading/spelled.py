"""Texts that spell lists, as tables hold them: in JSON, as Python prints them, or as NumPy does.

spelled_list("['joy', 'anger']"), spelled_list('["joy", "anger"]'), spelled_list("['joy' 'anger']")    ['joy', 'anger'] thrice
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[0-9]+"""
_NUMPY = re.compile(rf"\[\s*(?:{_ITEM})(?:\s+(?:{_ITEM}))+\s*\]")
"""Items with nothing but space between them; Python would read the texts among them as one."""
_NUMPY_OBJECTS = re.compile(r"\}[ ]*\n\s*\{")
"""Between NumPy's objects; a text as Python prints it never runs over a line's end."""


def spelled_value(text: str) -> Any:
    """What a text spells, JSON or Python. ValueError for another text."""
    if _NUMPY.fullmatch(text):
        return [ast.literal_eval(item) for item in re.findall(_ITEM, text)]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python's parser, about a text that is no Python
            return ast.literal_eval(_NUMPY_OBJECTS.sub("}, {", text.strip()))
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def spelled_list(text: str) -> list[Any] | None:
    """The list that a text spells; None where it is another text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = spelled_value(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def all_spell_lists(values: Sequence[Any]) -> bool:
    """Whether these are texts, each of which spells a list (what is missing or blank aside)."""
    given = [value for value in values if value is not None and value != ""]
    return bool(given) and all(isinstance(value, str) and spelled_list(value) is not None for value in given)
