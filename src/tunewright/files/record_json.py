"""A dataclass <-> the JSON that is kept of it: its fields by their names, at any depth.

    to_json(TextColumns(("text",), label="label"))      {"text": ["text"], "pair": None, "label": "label", …}
    from_json(TextColumns, {"text": ["text"]})          TextColumns(("text",))

A field says by its metadata where it differs: `field(metadata=RUN_ONLY)` is not kept, `OMIT_NONE` is left out while it is None.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

RUN_ONLY = {"run_only": True}
OMIT_NONE = {"omit_none": True}

T = TypeVar("T")


def to_json(record: Any) -> dict[str, Any]:
    """Texts, numbers, lists and objects, of every field that the constructor takes. record: an instance of a dataclass."""
    values = {one.name: getattr(record, one.name) for one in _stored_fields(record)}
    omitted = {one.name for one in _stored_fields(record) if "omit_none" in one.metadata and values[one.name] is None}
    return {name: _to_json_value(value) for name, value in values.items() if name not in omitted}


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """Lists become tuples and objects records, as the hints say; a field that is missing has its default.

    TypeError for a key that is no field's, and for a missing one without a default.
    """
    hints = {one.name: hint_of(cls, one.name) for one in _stored_fields(cls)}
    return cls(**{name: _from_json_value(value, hints.get(name, Any)) for name, value in values.items()})


def hint_of(record: type, name: str) -> Any:
    """The type hint of a field, resolved in the module that declares it; Any where it is imported for type checkers alone."""
    owner = next(one for one in record.__mro__ if name in inspect.get_annotations(one))
    alone = type(
        "_", (), {"__annotations__": {name: inspect.get_annotations(owner)[name]}, "__module__": owner.__module__}
    )
    try:
        return typing.get_type_hints(alone)[name]
    except (NameError, TypeError, AttributeError):
        return Any


def _stored_fields(record: Any) -> list[dataclasses.Field[Any]]:
    """The fields that are kept."""
    return [one for one in dataclasses.fields(record) if one.init and "run_only" not in one.metadata]


def _to_json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: _to_json_value(one) for key, one in value.items()}
    return [_to_json_value(one) for one in value] if isinstance(value, (list, tuple)) else value


def _from_json_value(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        fitting = [one for one in arguments if _is_list_type(one) == isinstance(value, list) and one is not type(None)]
        return _from_json_value(value, fitting[0]) if fitting else value
    if origin is tuple and isinstance(value, list):
        each = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        return tuple(map(_from_json_value, value, each)) if len(each) == len(value) else tuple(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_json(hint, value)
    return value


def _is_list_type(hint: Any) -> bool:
    return typing.get_origin(hint) in (tuple, list)
