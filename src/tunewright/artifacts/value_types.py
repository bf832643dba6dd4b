"""Is a value what its type hint says? For records that are built from JSON which anybody may have written.

wrong_field(TextColumns(text=(5,)))        "text": the first field of a dataclass, at any depth, that holds another type
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence, Set
from typing import Any

from tunewright.files.record_json import hint_of


def wrong_field(record: Any) -> str | None:
    """The dotted name of the first field whose value is not of its declared type; None where all are.

    Hints that cannot be resolved at run time are taken for Any. record: an instance of a dataclass.
    """
    for field in dataclasses.fields(record):
        if not field.init:
            continue
        value = getattr(record, field.name)
        if not fits(value, hint_of(type(record), field.name)):
            inner = wrong_field(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else None
            return f"{field.name}.{inner}" if inner else field.name
    return None


def fits(value: Any, hint: Any) -> bool:
    """Is `value` of the type that `hint` stands for? An int is a float too; a bool is neither."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (typing.TypeVar, str)):
        return True
    if hint is None:
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, tuple) and _fits_tuple(value, arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(one, arguments[1]) for key, one in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, (Sequence, Set)):
        return (
            isinstance(value, origin) and not isinstance(value, str) and all(fits(one, arguments[0]) for one in value)
        )
    if not isinstance(hint, type):
        return True
    return isinstance(value, hint) and (not dataclasses.is_dataclass(hint) or wrong_field(value) is None)


def _fits_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(fits(one, arguments[0]) for one in value)
    return len(value) == len(arguments) and all(fits(one, hint) for one, hint in zip(value, arguments, strict=True))
