"""A list of chat messages, however it is spelled -> one conversation record, in order and whole, or the reason why not.

    [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "Bye"}]
      -> Conversation((Message("user", "Hi"), Message("assistant", "Hello!")), num_trimmed=1)

Both spellings are read (`role`/`content` and sharegpt's `from`/`value`), content as text, null or a list of text parts; answers and results of
tools may be numbers or objects, which become JSON. Turns come in any order: a template says itself which it takes. What comes after
the last answer teaches nothing: it is trimmed and counted. `weight`, `training`, `loss` and the like of a turn say whether it is learned.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.errors import RowError, quoted
from tunewright.reading.spelled import spelled_value

SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL = "system", "developer", "user", "assistant", "tool"
_ROLES = {
    "system": SYSTEM, "developer": DEVELOPER, "user": USER, "human": USER, "prompter": USER, "assistant": ASSISTANT,
    "customer": USER, "ai": ASSISTANT, "ai_assistant": ASSISTANT, "agent": ASSISTANT, "llm": ASSISTANT, "claude": ASSISTANT,
    "gpt": ASSISTANT, "model": ASSISTANT, "bot": ASSISTANT, "chatbot": ASSISTANT, "chatgpt": ASSISTANT, "bing": ASSISTANT, "bard": ASSISTANT,
    "tool": TOOL, "function": TOOL,
    "observation": TOOL, "ipython": TOOL, "tool_response": TOOL, "tool_result": TOOL, "tool_output": TOOL, "function_response": TOOL,
    "function_result": TOOL, "environment": TOOL,
}  # fmt: skip
_CALLS = {"function_call", "tool_call", "tool_calls", "function_calls"}
"""Roles whose content is the assistant's call of a tool, as JSON."""
_ARGUMENTS = ("arguments", "parameters", "args", "input")
INPUT_JOINER = "\n\n"
"""Between an instruction and its input, where a template knows no inputs."""
_LIST_OR_OBJECT = re.compile(r"\s*(?:\[\s*)?\{")
_PYTHON_TURNS = re.compile(r"\s*\[?\s*\{\s*'(?:role|from|content|value)'")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_FLAGS = (
    "weight",
    "training",
    "train",
    "loss",
    "train_on_turn",
    "loss_mask",
    "loss_weight",
    "trainable",
    "supervised",
    "learn",
)
"""Keys of a turn that say whether it is learned."""
_NUMBERS = ("weight", "loss_mask", "loss_weight")
_YES_OR_NO = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True, "no": False, "yes": True}
_TEXT_KEYS, _TEXT_TYPES = ("text", "value", "content"), ("text", "input_text", "output_text")
_KNOWN = {
    "role",
    "from",
    "content",
    "value",
    "name",
    "tool_calls",
    "function_call",
    "tool_call_id",
    "tools",
    *_REASONING,
    *_FLAGS,
}
_FOLLOWS: dict[str | None, set[str]] = {
    None: {SYSTEM, DEVELOPER, USER}, SYSTEM: {USER, DEVELOPER}, DEVELOPER: {USER}, USER: {ASSISTANT},
    ASSISTANT: {USER, TOOL}, TOOL: {ASSISTANT, TOOL},
}  # fmt: skip
"""Role -> the roles that usually come next."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """arguments: a mapping, or a text that is no JSON object."""

    name: str
    arguments: Any
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. input: alpaca's second field of a prompt. learned: False where the row says `weight: 0` or `training: false`."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    input: str | None = None
    name: str | None = None
    call_id: str | None = None
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order. tools: descriptions of the tools that may be called. num_trimmed: turns behind the last answer.

    unread: keys of its turns that are not known.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    num_trimmed: int = 0
    unread: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """What the user says before the first answer to it: rows with the same one are not split apart."""
        behind = itertools.dropwhile(lambda one: one.role != USER, self.messages)
        asked = [one for one in itertools.takewhile(lambda one: one.role != ASSISTANT, behind) if one.role == USER]
        return "\0".join(f"{one.content}\0{one.input or ''}" for one in asked)

    @property
    def num_answers(self) -> int:
        return sum(one.role == ASSISTANT for one in self.messages)

    def to_answer(self) -> Conversation:
        """The same without its last answer: what a model is asked."""
        last = self.messages[-1].role == ASSISTANT
        return replace(self, messages=self.messages[:-1]) if last else self


def said_in(message: Message) -> str:
    """What a turn says, an instruction with its input."""
    return INPUT_JOINER.join(part for part in (message.content, message.input) if part)


def single_turn(
    prompt: str, answer: str | None, *, system: str | None = None, input: str | None = None
) -> Conversation:
    """A prompt and its answer; without one where there is only a prompt."""
    turns = [Message(SYSTEM, system)] if system else []
    turns.append(Message(USER, prompt, input=input or None))
    return Conversation((*turns, *([Message(ASSISTANT, answer)] if answer is not None else [])))


def earlier_turns(history: Any) -> list[Message]:
    """Pairs of question and answer, or their JSON, as turns; none of nothing. RowError for anything else."""
    if isinstance(history, str) and history.strip():
        try:
            history = json.loads(history)
        except (ValueError, RecursionError):
            raise RowError(f"the history is a text that is no JSON ({history[:60]!r})") from None
    if not history or isinstance(history, str):
        return []
    if not isinstance(history, list) or not all(isinstance(one, (list, tuple)) and len(one) == 2 for one in history):
        raise RowError(f"the history is {history!r:.60}, expected pairs of question and answer")
    return [Message(role, str(text)) for pair in history for role, text in zip((USER, ASSISTANT), pair, strict=True)]


def conversation(turns: Any, tools: Any = None, *, system: str | None = None) -> Conversation:
    """Raw messages (a list, or its JSON) -> a conversation as it stands. RowError for a turn that cannot be understood."""
    turns = _parsed(turns, "messages")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise RowError(f"the messages are {_kind(turns)}, expected a list of turns")
    for sides in (("input", "output"), ("human", "assistant")):
        if all(isinstance(turn, Mapping) and set(sides) <= set(turn) and "role" not in turn for turn in turns):
            both = zip((USER, ASSISTANT), sides, strict=True)
            turns = [{"role": role, "content": turn[key]} for turn, (role, key) in itertools.product(turns, both)]
    messages = [message(turn, number) for number, turn in enumerate(turns, start=1)]
    of_turns = (turn["tools"] for turn in turns if turn.get("tools"))
    return Conversation(
        _with_system(messages, system), _tools(tools or next(of_turns, None)), unread=unread_keys(turns)
    )


def unread_keys(turns: Sequence[Any]) -> tuple[str, ...]:
    """Keys of these turns that nothing reads, sorted; also flags that would have other turns learned than the assistant's."""
    unread = set[str]()
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        unread |= {str(key) for key, value in turn.items() if key not in _KNOWN and value is not None}
        role = _ROLES.get(str(turn.get("role", turn.get("from"))).strip().lower())
        if role not in (None, ASSISTANT):
            flags = (flag for flag in _FLAGS if _YES_OR_NO.get(str(turn.get(flag)).strip().lower()))
            unread |= {f"{flag} of the {role}'s turns" for flag in flags}
    return tuple(sorted(unread))


def in_turns(turns: Any) -> Any:
    """Texts of nobody in particular are the user's and the assistant's by turns; anything else as it is."""
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, str) for turn in turns):
        return turns
    return [{"role": (USER, ASSISTANT)[number % 2], "content": turn} for number, turn in enumerate(turns)]


def _with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The system's turn of a column of its own, in front. RowError where a turn already says something else."""
    if not system:
        return tuple(messages)
    first = messages[0]
    if first.role not in (SYSTEM, DEVELOPER):
        return (Message(SYSTEM, system), *messages)
    if first.content.strip() != system.strip():
        raise RowError("the row's system text is another than that of its first turn")
    return tuple(messages)


def spelled_turns(text: str) -> list[Any] | None:
    """The turns that a text spells (tables have no lists); None where it is a text as any other.

    RowError for a list that Python has printed and that cannot be read back: it was cut, or holds other objects.
    """
    if not _LIST_OR_OBJECT.match(text):
        return None
    try:
        found = spelled_value(text)
    except ValueError:
        if _PYTHON_TURNS.match(text):
            raise RowError(f"turns as Python prints them, but broken ({text[:60]!r})") from None
        return None
    turns = [found] if isinstance(found, dict) else found
    return turns if turns and all(map(_is_turn, turns)) else None


def spelled_calls(text: str) -> list[Any] | None:
    """The calls of tools that an answer spells, `[{"name": …, "arguments": …}]`; None where it is a text as any other."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = spelled_value(text)
    except ValueError:
        return None
    are_calls = all(isinstance(one, dict) and {"name", "arguments"} <= one.keys() for one in found)
    return found if found and are_calls else None


def _is_turn(one: Any) -> bool:
    if not isinstance(one, dict) or not {"content", "value", "tool_calls"} & set(one):
        return False
    return str(one.get("role", one.get("from"))).strip().lower() in _ROLES.keys() | _CALLS


def learnable(found: Conversation) -> Conversation:
    """The conversation up to its last answer. RowError for answers to nobody and for empty ones."""
    messages = found.messages
    while messages and messages[-1].role != ASSISTANT:
        messages = messages[:-1]
    if not messages:
        raise RowError("no answer: no turn is the assistant's")
    if not any(one.role == USER for one in messages):
        raise RowError("no turn before the last answer is the user's")
    for number, one in enumerate(messages, start=1):
        if one.role == ASSISTANT and not one.content.strip() and not one.tool_calls:
            raise RowError("empty answer" if found.num_answers == 1 else f"empty answer in turn {number}")
    return replace(found, messages=messages, num_trimmed=len(found.messages) - len(messages))


def askable(found: Conversation) -> Conversation:
    """The conversation as far as the last question: what a model is to answer. RowError where nothing is asked."""
    asked = found.to_answer()
    if not any(one.role == USER for one in asked.messages):
        raise RowError("no turn is the user's")
    return asked


def in_usual_order(messages: Sequence[Message]) -> bool:
    """System, then user and assistant by turns, the assistant's with tools between them: what any chat template should take."""
    before = None
    for one in messages:
        if one.role not in _FOLLOWS[before]:
            return False
        before = one.role
    return True


def message(turn: Any, number: int) -> Message:
    """One raw turn. RowError that says which and why."""
    if not isinstance(turn, Mapping):
        raise RowError(f"turn {number} is {_kind(turn)}, expected role and content")
    spoken = turn.get("role", turn.get("from"))
    if spoken is None:
        raise RowError(f"turn {number} has no role; found {quoted(turn)}")
    role = str(spoken).strip().lower()
    if role not in _ROLES and role not in _CALLS:
        raise RowError(f"unknown role {spoken!r} in turn {number}")
    content = _text(turn.get("content", turn.get("value")), number, said=_ROLES.get(role) in (ASSISTANT, TOOL))
    if role in _CALLS:
        return Message(ASSISTANT, "", tool_calls=_calls(content, number), learned=_learned(turn, number))
    called = turn.get("tool_calls") or turn.get("function_call")
    calls = _calls(called, number) if called and called not in ("[]", "null") else ()
    reasoning = next((turn[key] for key in _REASONING if isinstance(turn.get(key), str)), None)
    return Message(
        _ROLES[role], content, reasoning=reasoning, tool_calls=calls, name=turn.get("name"),
        call_id=turn.get("tool_call_id"), learned=_learned(turn, number),
    )  # fmt: skip


def _text(content: Any, number: int, *, said: bool) -> str:
    """A turn's text; a list of parts is joined. said: an answer, or a tool's, which may be any value: then it becomes JSON.

    RowError for parts that are no text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping) and _is_part(content):
        content = [content]
    if isinstance(content, Sequence) and not (said and any(map(_is_no_part, content))):
        return "".join(part if isinstance(part, str) else _part(part, number) for part in content)
    if said:
        return as_json(content)
    raise RowError(f"the content of turn {number} is {_kind(content)}, expected text")


def as_json(value: Any) -> str:
    """An answer that is no text, as text: JSON, as its field holds it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_part(value: Any) -> bool:
    """Is it `{"type": "text", "text": …}`?"""
    return isinstance(value, Mapping) and value.get("type") in _TEXT_TYPES and _text_of_part(value) is not None


def _is_no_part(value: Any) -> bool:
    """Values of a list that is no list of parts: an answer or a result in itself."""
    if isinstance(value, Mapping):
        return "type" not in value and _text_of_part(value) is None
    return not isinstance(value, str)


def _text_of_part(part: Mapping[str, Any]) -> str | None:
    return next((part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)), None)


def _part(part: Any, number: int) -> str:
    kind = part.get("type", "text") if isinstance(part, Mapping) else _kind(part)
    text = _text_of_part(part) if isinstance(part, Mapping) else None
    if kind not in _TEXT_TYPES or text is None:
        raise RowError(f"turn {number} holds a part of type {kind!r}; only text can be learned")
    return text


def _learned(turn: Mapping[str, Any], number: int) -> bool:
    """False where one of its flags says so. RowError for a flag that is neither yes nor no."""
    said = {flag: turn[flag] for flag in _FLAGS if turn.get(flag) is not None}
    for flag, value in said.items():
        if str(value).strip().lower() not in _YES_OR_NO:
            expected = "0 or 1" if flag in _NUMBERS else "true or false"
            raise RowError(f"the {flag} of turn {number} is {value!r:.40}, expected {expected}")
    return all(_YES_OR_NO[str(value).strip().lower()] for value in said.values())


def _calls(value: Any, number: int) -> tuple[ToolCall, ...]:
    value = _parsed(value, f"the call in turn {number}")
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise RowError(f"the call in turn {number} is {_kind(value)}, expected a name and arguments")
    return tuple(_call(one, number) for one in found)


def _call(value: Any, number: int) -> ToolCall:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError(f"a call in turn {number} has no name")
    arguments: Any = next((function[key] for key in _ARGUMENTS if key in function), {})
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else arguments
    return ToolCall(function["name"], {} if arguments is None else arguments, value.get("id"))


def _tools(tools: Any) -> tuple[Any, ...]:
    if not tools:
        return ()
    tools = _parsed(tools, "the tools")
    found = [tools] if isinstance(tools, Mapping) else tools
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(one, Mapping) for one in found):
        raise RowError(f"the tools are {_kind(tools)}, expected a list of descriptions")
    return tuple(found)


def _parsed(value: Any, what: str) -> Any:
    """Texts stand for what they spell: tables have no lists."""
    if not isinstance(value, str):
        return value
    try:
        return spelled_value(value)
    except ValueError:
        raise RowError(f"{what}: a text that is no JSON ({value[:60]!r})") from None


def _kind(value: Any) -> str:
    return "empty" if value in (None, "", [], {}) else f"{type(value).__name__} {value!r:.60}"
