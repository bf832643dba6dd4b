"""YAML as a config is written: strict, small, and told by its line where it is not.

    read_values("train: {epochs: 5}\\n", where="config.yaml")      {"train": {"epochs": 5}}
    value_of_word("5")                                            5

A config is a page or two: what would take a second or a gigabyte to read (aliases that multiply, endless nesting) is no config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tunewright.errors import UserError

MAX_CHARACTERS = 2**19
"""A longer file is no config; one of this length is read in about a second."""
_MAX_DEPTH = 40
_MAX_VALUES = 100_000
"""Values a document may have once its aliases are written out."""
_MAX_INTEGER = 2**63


class _Yaml(yaml.SafeLoader):
    """YAML in which a repeated key is an error (PyYAML takes the last one and drops the others), and in which dates, `no`, `007`,
    `12:30` and `1_000` are texts: names of labels and columns are what they look like."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _wrong(f"nested deeper than {_MAX_DEPTH} levels", self.peek_event())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_document(self, node: Node) -> Any:
        _require_few(node)
        return super().construct_document(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            raise _wrong(f"{str(node.value)[:40]!r} is no {kind}", node) from None
        if type(value) is int and abs(value) >= _MAX_INTEGER:
            raise _wrong("a whole number of more than 63 bits", node)
        return value

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
            raise _wrong("a NUL, or half of a surrogate pair, which is no character", node)
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen:
                    raise _wrong(f"{key.value!r} is given twice here", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", "-+.0123456789"),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _wrong(problem: str, place: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, place.start_mark)


def _require_few(root: Node) -> None:
    """Raises ConstructorError where aliases lead back to what they stand in, or multiply to more values than a config has."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node) -> int:
        if isinstance(node, ScalarNode):
            return 1
        if id(node) in open_nodes:
            raise _wrong("an alias refers to itself", node)
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(map(size, parts))
            open_nodes.discard(id(node))
            if sizes[id(node)] > _MAX_VALUES:
                raise _wrong(f"more than {_MAX_VALUES:,} values, with its aliases written out", node)
        return sizes[id(node)]

    size(root)


def read_values(content: bytes, *, where: str) -> Any:
    """The one document of a config file. UserError, with the line, for what is not UTF-8 or no YAML."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"not valid YAML (byte 0x{content[error.start]:02X} is not UTF-8)",
            where=f"{where}:{line}",
            hint="Save the file as UTF-8.",
        ) from None
    try:
        return _Yaml(text).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        place = _line_of(error, text)
        raise UserError(
            f"not valid YAML ({_problem(error)})", where=f"{where}:{place}" if place else where, hint="Mend that line."
        ) from None


def _line_of(error: Exception, text: str) -> int | None:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return mark.line + 1 if mark else None


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {chr(error.character)!r} is in it" if isinstance(error.character, int) else error.reason
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return getattr(error, "problem", None) or str(error)


def value_of_word(text: str) -> Any:
    """The right side of a key=value word: a YAML value on one line, or the text as it stands (`|`, `a #1`, `C:\\\\data: x.csv`)."""
    if len(text) > MAX_CHARACTERS:
        return text
    try:
        values = _Yaml(f"[{text}]").get_single_data()
    except (yaml.YAMLError, RecursionError):
        return text
    value = values[0] if isinstance(values, list) and len(values) == 1 else text
    if isinstance(value, str) and text[0] not in "'\"":
        return text
    if (value is None and text not in ("null", "~")) or (isinstance(value, Mapping) and text[0] != "{"):
        return text
    return value
