"""The config as a JSON Schema, for editors that complete and check YAML, and the values of each key in words, for the reference.

json_schema()["properties"]["train"]["anyOf"][0]["properties"]["epochs"]   {"type": "number", "exclusiveMinimum": 0, "default": 3, …}
values_in_words({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]})       "auto, or a whole number ≥ 0"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter

from tunewright.config.keys import Setting, all_keys
from tunewright.plugins import names

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHORT_FORMS: dict[str, dict[str, Any]] = {
    "data": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "model": {"type": "string"},
    "plugins": {"type": "string"},
}
"""What a section or key may be given as instead; `task` and `adapter` may also be one of their names."""
_NUMBERS = {"integer": "a whole number", "number": "a number"}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_TYPES = {"string": "text", "array": "a list", "object": "keys and values", "null": ""}


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config file, every key with its description, its default and, where not all have it, its tasks or adapters."""
    properties: dict[str, Any] = {
        "schema": {"type": "integer", "description": "Version of the config, in a run's own."}
    }
    sections: dict[str, dict[str, Any]] = {}
    for key, settings in all_keys().items():
        section, _, name = key.rpartition(".")
        place = sections.setdefault(section, {}) if section else properties
        found = [_described(one) for one in settings]
        forms = [*found, SHORT_FORMS[key]] if key in SHORT_FORMS else found
        place[name] = forms[0] if len(forms) == 1 else {"anyOf": forms}
    for section, inner in sections.items():
        properties[section] = {
            "anyOf": [
                {"type": "object", "properties": inner, "additionalProperties": False},
                *_short_forms(section),
                {"type": "null"},
            ]
        }
    return {
        "$schema": DIALECT,
        "title": "Tunewright config",
        "type": "object",
        "properties": properties,
        "required": ["data"],
        "additionalProperties": False,
    }


def key_schema(setting: Setting) -> dict[str, Any]:
    """The JSON Schema of one key's value, without its description."""
    field = setting.field
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(annotation).json_schema()


def values_in_words(schema: Mapping[str, Any]) -> str:
    """Every value that a key may have, as a reader of the reference needs it."""
    if "anyOf" in schema:
        words = [values_in_words(one) for one in schema["anyOf"]]
        fixed = [word for word, one in zip(words, schema["anyOf"], strict=True) if "const" in one or "enum" in one]
        return ", or ".join(dict.fromkeys([*fixed, *(word for word in words if word and word not in fixed)]))
    if "title" in schema:
        return str(schema["title"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", ""))
    if kind == "boolean":
        return "true, false"
    if kind in _NUMBERS:
        bounds = " and ".join(f"{sign} {schema[bound]:,}" for bound, sign in _BOUNDS.items() if bound in schema)
        return f"{_NUMBERS[kind]} {bounds}".strip()
    word = _TYPES.get(kind, "")
    return f"{word} such as {schema['examples'][0]}" if "examples" in schema else word


def _described(setting: Setting) -> dict[str, Any]:
    field, owners = setting
    of = f"[{', '.join(owners)}] " if owners else ""
    default = field.get_default(call_default_factory=True)
    found = key_schema(setting) | {"description": of + (field.description or "")}
    return found if field.is_required() or default is None else found | {"default": default}


def _short_forms(section: str) -> list[dict[str, Any]]:
    if section in ("task", "adapter"):
        # Not an enum: a plug-in that this machine lacks may be named too.
        return [{"type": "string", "examples": [{"task": "auto", "adapter": "none"}[section], *names(f"{section}s")]}]
    return [SHORT_FORMS[section]] if section in SHORT_FORMS else []
