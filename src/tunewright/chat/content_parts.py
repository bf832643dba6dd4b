"""The content of a turn, in any of the usual formats -> text; parts that are not text -> equivalent keys and turns.

    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes."}]}
      -> {"role": "assistant", "content": [{"type": "text", "text": "Yes."}], "reasoning_content": "hm"}

Reasoning and tool calls (`tool_use`) become keys of the assistant's turn; results (`tool_result`) become turns of the tool before the
user's. Templates write reasoning, text and calls only in this order: a turn with another order is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.errors import RowError

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold the reasoning of an answer."""
_TEXT_KEYS, _TEXT_TYPES = ("text", "value", "content"), ("text", "input_text", "output_text")
_THOUGHT_TYPES, _THOUGHT_KEYS = (
    ("thinking", "reasoning", "think"),
    ("thinking", "reasoning", "think", "text", "content", "summary"),
)
_CALL_TYPES, _RESULT_TYPES = ("tool_use", "tool_call", "function_call"), ("tool_result", "function_call_output")
_RESULT_KEYS, _CALL_IDS = ("content", "output", "text"), ("tool_use_id", "tool_call_id", "call_id")


def content_text(content: Any, number: int, *, said: bool, is_result: bool = False) -> str:
    """A turn's text; a list of parts is joined. said: an answer or tool result, which may be any value: others than text become JSON.

    is_result: a tool result, where a list of texts is a value, too. RowError for parts that are not text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping) and _is_part(content):
        content = [content]
    if is_result and isinstance(content, Sequence) and all(isinstance(part, str) for part in content):
        return as_json(content)
    if isinstance(content, Sequence) and not (said and any(map(_is_no_part, content))):
        return "".join(part if isinstance(part, str) else _part(part, number) for part in content)
    if said:
        return as_json(content)
    raise RowError(f"the content of turn {number} is {kind_of(content)}, expected text")


def as_json(value: Any) -> str:
    """An answer that is not text, as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def kind_of(value: Any) -> str:
    return "empty" if value in (None, "", [], {}) else f"{type(value).__name__} {value!r:.60}"


def reasoning_of(turn: Mapping[str, Any], number: int) -> str | None:
    """The reasoning that a turn has next to its content. RowError for reasoning that is not text, and for two that differ."""
    found = {key: _thought(turn[key], number) for key in REASONING if turn.get(key) not in (None, False, "", [], {})}
    if len(set(found.values())) > 1:
        raise RowError(f"turn {number} gives different reasoning under {' and '.join(map(repr, found))}")
    return next(iter(found.values()), "" if any(turn.get(key) == "" for key in REASONING) else None)


def plain_turns(turn: Mapping[str, Any], key: str | None, number: int, *, is_answer: bool) -> list[Mapping[str, Any]]:
    """A turn with parts as turns whose contents are texts; the turn itself where its parts are texts. key: that of its content.

    RowError for parts in an order that no template can write.
    """
    content = turn.get(key) if key else None
    if not isinstance(content, list) or not any(
        _is_one_of(part, _CALL_TYPES + _RESULT_TYPES + _THOUGHT_TYPES) for part in content
    ):
        return [turn]
    return (
        [_plain_answer(turn, str(key), content, number)]
        if is_answer
        else _with_results(turn, str(key), content, number)
    )


def _plain_answer(turn: Mapping[str, Any], key: str, parts: list[Any], number: int) -> Mapping[str, Any]:
    kinds = [0 if _is_one_of(part, _THOUGHT_TYPES) else 2 if _is_one_of(part, _CALL_TYPES) else 1 for part in parts]
    if kinds != sorted(kinds):
        raise RowError(
            f"turn {number} has text after its tool calls, or reasoning after its text: no template can write that order"
        )
    plain: dict[str, Any] = {**turn, key: [part for part, kind in zip(parts, kinds, strict=True) if kind == 1]}
    thoughts = "".join(_thought(part, number) for part, kind in zip(parts, kinds, strict=True) if kind == 0)
    if thoughts:
        if (beside := reasoning_of(turn, number)) and beside.strip() != thoughts.strip():
            raise RowError(f"turn {number} gives different reasoning in its content and beside it")
        plain |= {name: thoughts for name in REASONING if turn.get(name)} or {REASONING[0]: thoughts}
    calls = [part for part, kind in zip(parts, kinds, strict=True) if kind == 2]
    if calls and not turn.get("tool_calls"):  # some libraries give the calls in both places
        plain["tool_calls"] = [{**call, "id": call.get("id", call.get("call_id"))} for call in calls]
    return plain


def _with_results(turn: Mapping[str, Any], key: str, parts: list[Any], number: int) -> list[Mapping[str, Any]]:
    """Tool results as turns of the tool, the parts between them as turns of the original role."""
    turns: list[Mapping[str, Any]] = []
    said: list[Any] = []
    for part in [*parts, None]:
        is_result = _is_one_of(part, _RESULT_TYPES)
        if said and (is_result or part is None):
            turns.append({**turn, key: said})
            said = []
        if is_result:
            result = next((part[name] for name in _RESULT_KEYS if part.get(name) is not None), "")
            call_id = next((part[name] for name in _CALL_IDS if part.get(name) is not None), None)
            turns.append({"role": "tool", "content": "" if result == [] else result, "tool_call_id": call_id})
        elif part is not None:
            said.append(part)
    return turns


def _thought(value: Any, number: int) -> str:
    """Reasoning as text: a text, or parts that hold one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        inner = next((value[key] for key in _THOUGHT_KEYS if value.get(key) not in (None, "", [])), None)
        if inner is not None:
            return _thought(inner, number)
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        return "".join(_thought(part, number) for part in value)
    raise RowError(f"the reasoning of turn {number} is {kind_of(value)}, expected text")


def _is_one_of(part: Any, types: Sequence[str]) -> bool:
    return isinstance(part, Mapping) and part.get("type") in types


def _is_part(value: Any) -> bool:
    """Is it `{"type": "text", "text": …}`?"""
    return isinstance(value, Mapping) and value.get("type") in _TEXT_TYPES and _text_of_part(value) is not None


def _is_no_part(value: Any) -> bool:
    """Is this value not a part, so that its list is itself an answer or a result?"""
    if isinstance(value, Mapping):
        return "type" not in value and _text_of_part(value) is None
    return not isinstance(value, str)


def _text_of_part(part: Mapping[str, Any]) -> str | None:
    return next((part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)), None)


def _part(part: Any, number: int) -> str:
    kind = part.get("type", "text") if isinstance(part, Mapping) else kind_of(part)
    text = _text_of_part(part) if isinstance(part, Mapping) else None
    if kind not in _TEXT_TYPES or text is None:
        raise RowError(f"turn {number} has a part of type {kind!r}; only text is supported")
    return text
