"""A list of chat messages, in any of the usual formats -> one conversation record, or the reason why it is rejected.

    [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "Bye"}]
      -> Conversation((Message("user", "Hi"), Message("assistant", "Hello!")), num_trimmed=1)

Role and content are read under their usual keys (`role`/`content`, sharegpt's `from`/`value`, `speaker`/`text`); content is text, null or
a list of parts (`chat/content_parts.py`). Answers and tool results may be numbers or objects, which become JSON. Turns may come in any order:
the template decides which it accepts. Turns after the last answer teach nothing: they are trimmed and counted. `weight`, `training`, `loss`
and similar keys of a turn say whether it is learned.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.chat.content_parts import REASONING, content_text, kind_of, plain_turns, reasoning_of
from tunewright.errors import RowError, quoted
from tunewright.reading.stringified import stringified_value

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
"""Joins an instruction and its input for templates without inputs."""
_LIST_OR_OBJECT = re.compile(r"\s*(?:\[\s*)?\{")
_PYTHON_TURNS = re.compile(r"\s*\[?\s*\{\s*'(?:role|from|content|value)'")
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
_ROLE_KEYS = ("role", "from", "speaker", "sender", "author")
_CONTENT_KEYS = ("content", "value", "text", "utterance", "parts")
_HEADED = re.compile(r"\s*(\w+)\s*:\s*(.*)", re.DOTALL)
"""A turn that begins with its speaker (`User: Hi`), in a list of texts."""
_ANSWERS_OWN = ("tool_calls", "function_call", *REASONING)
_KNOWN = {"name", "tool_call_id", "tools", *_ANSWERS_OWN, *_FLAGS}
_FOLLOWS: dict[str | None, set[str]] = {
    None: {SYSTEM, DEVELOPER, USER}, SYSTEM: {USER, DEVELOPER}, DEVELOPER: {USER}, USER: {ASSISTANT},
    ASSISTANT: {USER, TOOL}, TOOL: {ASSISTANT, TOOL},
}  # fmt: skip
"""Role -> the roles that usually come next."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """arguments: a mapping, or a text that is not a JSON object."""

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
    """Turns in order. tools: descriptions of the tools that may be called. num_trimmed: turns removed after the last answer.

    unread: unknown keys of its turns.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    num_trimmed: int = 0
    unread: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The user's turns before the first answer to them: rows with the same prompt stay in one split."""
        from_user = itertools.dropwhile(lambda one: one.role != USER, self.messages)
        questions = [
            one for one in itertools.takewhile(lambda one: one.role != ASSISTANT, from_user) if one.role == USER
        ]
        return "\0".join(f"{one.content}\0{one.input or ''}" for one in questions)

    @property
    def num_answers(self) -> int:
        return sum(one.role == ASSISTANT for one in self.messages)

    def without_last_answer(self) -> Conversation:
        """The same without its last answer: the prompt for a model."""
        last = self.messages[-1].role == ASSISTANT
        return replace(self, messages=self.messages[:-1]) if last else self


def message_text(message: Message) -> str:
    """The text of a turn: an instruction with its input."""
    return INPUT_JOINER.join(part for part in (message.content, message.input) if part)


def single_turn(
    prompt: str, answer: str | None, *, system: str | None = None, input: str | None = None
) -> Conversation:
    """A prompt and its answer (None: the prompt alone)."""
    turns = [Message(SYSTEM, system)] if system else []
    turns.append(Message(USER, prompt, input=input or None))
    return Conversation((*turns, *([Message(ASSISTANT, answer)] if answer is not None else [])))


def earlier_turns(history: Any) -> list[Message]:
    """Pairs of question and answer, or their JSON, as turns; an empty history gives none. RowError for anything else."""
    if isinstance(history, str) and history.strip():
        try:
            history = json.loads(history)
        except (ValueError, RecursionError):
            raise RowError(f"the history is not valid JSON ({history[:60]!r})") from None
    if not history or isinstance(history, str):
        return []
    if not isinstance(history, list) or not all(isinstance(one, (list, tuple)) and len(one) == 2 for one in history):
        raise RowError(f"the history is {history!r:.60}, expected pairs of question and answer")
    return [Message(role, str(text)) for pair in history for role, text in zip((USER, ASSISTANT), pair, strict=True)]


def conversation(turns: Any, tools: Any = None, *, system: str | None = None) -> Conversation:
    """Raw messages (a list, or its JSON) -> the whole conversation. RowError for a turn that cannot be read."""
    turns = _parsed(turns, "messages")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise RowError(f"the messages are {kind_of(turns)}, expected a list of turns")
    for sides in (("input", "output"), ("human", "assistant")):
        if all(isinstance(turn, Mapping) and set(sides) <= set(turn) and "role" not in turn for turn in turns):
            both = zip((USER, ASSISTANT), sides, strict=True)
            turns = [{"role": role, "content": turn[key]} for turn, (role, key) in itertools.product(turns, both)]
    messages = [one for number, turn in enumerate(turns, start=1) for one in _messages(turn, number)]
    of_turns = (turn["tools"] for turn in turns if turn.get("tools"))
    return Conversation(
        _with_system(messages, system), _tools(tools or next(of_turns, None)), unread=unread_keys(turns)
    )


def unread_keys(turns: Sequence[Any]) -> tuple[str, ...]:
    """Keys of these turns that nothing reads, sorted; also flags, reasoning and calls of turns that are not the assistant's."""
    unread = set[str]()
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        by_role, by_content = _key_in(turn, _ROLE_KEYS), _key_in(turn, _CONTENT_KEYS)
        read = [turn[key] for key in (by_role, by_content) if key]
        others = {str(key): value for key, value in turn.items() if key not in (*_KNOWN, by_role, by_content)}
        unread |= {key for key, value in others.items() if value is not None and value not in read}
        role = _role_of(turn)
        if role not in (None, ASSISTANT):
            flags = (flag for flag in _FLAGS if _YES_OR_NO.get(str(turn.get(flag)).strip().lower()))
            own = (key for key in _ANSWERS_OWN if turn.get(key) not in (None, "", "[]", "null", [], {}, False))
            unread |= {f"{key} of the {role}'s turns" for key in (*flags, *own)}
    return tuple(sorted(unread))


def _key_in(turn: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these keys with a value in the turn, else the first that it has at all."""
    return next((key for key in keys if turn.get(key) is not None), next((key for key in keys if key in turn), None))


def _role_of(turn: Mapping[str, Any]) -> str | None:
    key = _key_in(turn, _ROLE_KEYS)
    return _ROLES.get(str(turn[key]).strip().lower()) if key else None


def is_turn(value: Any) -> bool:
    """Is this a turn, rather than an answer that is an object?"""
    if not isinstance(value, Mapping):
        return False
    return bool({"role", "from"} & set(value)) or (
        _role_of(value) is not None and _key_in(value, _CONTENT_KEYS) is not None
    )


def in_turns(turns: Any) -> Any:
    """A list of texts as turns: of the roles they begin with (`User: Hi`), else of user and assistant in turn; anything else unchanged."""
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) or turn is None for turn in turns):
        return turns
    headed = [_HEADED.fullmatch(turn or "") for turn in turns]
    if all(found and found[1].lower() in _ROLES for found in headed):
        return [{"role": found[1], "content": found[2]} for found in headed if found]
    return [{"role": (USER, ASSISTANT)[number % 2], "content": turn} for number, turn in enumerate(turns)]


def _with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The turns after a system turn from its own column. RowError where the first turn is a different system turn."""
    if not system:
        return tuple(messages)
    first = messages[0]
    if first.role not in (SYSTEM, DEVELOPER):
        return (Message(SYSTEM, system), *messages)
    if first.content.strip() != system.strip():
        raise RowError("the system column and the first turn hold different system texts")
    return tuple(messages)


def stringified_turns(text: str) -> list[Any] | None:
    """The turns in a text that is a printed list (tables have no lists); None for any other text.

    RowError for a list printed by Python that cannot be parsed: it was cut, or holds other objects.
    """
    if not _LIST_OR_OBJECT.match(text):
        return None
    try:
        found = stringified_value(text)
    except ValueError:
        if _PYTHON_TURNS.match(text):
            raise RowError(f"cannot parse turns printed by Python ({text[:60]!r})") from None
        return None
    turns = [found] if isinstance(found, dict) else found
    return turns if turns and all(map(_is_turn, turns)) else None


def stringified_calls(text: str) -> list[Any] | None:
    """The tool calls in an answer that is their JSON, `[{"name": …, "arguments": …}]`; None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = stringified_value(text)
    except ValueError:
        return None
    are_calls = all(isinstance(one, dict) and {"name", "arguments"} <= one.keys() for one in found)
    return found if found and are_calls else None


def _is_turn(one: Any) -> bool:
    if not isinstance(one, dict) or not {*_CONTENT_KEYS, "tool_calls"} & set(one):
        return False
    key = _key_in(one, _ROLE_KEYS)
    return key is not None and str(one[key]).strip().lower() in _ROLES.keys() | _CALLS


def learnable(found: Conversation) -> Conversation:
    """The conversation up to its last answer. RowError for answers without a question, and for empty ones."""
    messages = found.messages
    while messages and messages[-1].role != ASSISTANT:
        messages = messages[:-1]
    if not messages:
        raise RowError("no answer: no turn has the role assistant")
    if not any(one.role == USER for one in messages):
        raise RowError("no user turn before the last answer")
    for number, one in enumerate(messages, start=1):
        if one.role == ASSISTANT and not one.content.strip() and not one.tool_calls:
            raise RowError("empty answer" if found.num_answers == 1 else f"empty answer in turn {number}")
    return replace(found, messages=messages, num_trimmed=len(found.messages) - len(messages))


def askable(found: Conversation) -> Conversation:
    """The conversation up to the last question, for a model to answer. RowError where there is no question."""
    prompt = found.without_last_answer()
    if not any(one.role == USER for one in prompt.messages):
        raise RowError("no user turn")
    return prompt


def in_usual_order(messages: Sequence[Message]) -> bool:
    """Do the roles follow the order that any chat template should accept: system, then user and assistant (and tools) in turn?"""
    before = None
    for one in messages:
        if one.role not in _FOLLOWS[before]:
            return False
        before = one.role
    return True


def _messages(turn: Any, number: int) -> list[Message]:
    """One raw turn; several where a user turn holds tool results. RowError with the turn and the reason."""
    if not isinstance(turn, Mapping):
        raise RowError(f"turn {number} is {kind_of(turn)}, expected role and content")
    key = _key_in(turn, _CONTENT_KEYS)
    return [_message(one, number) for one in plain_turns(turn, key, number, is_answer=_role_of(turn) == ASSISTANT)]


def _message(turn: Mapping[str, Any], number: int) -> Message:
    by_role, by_content = _key_in(turn, _ROLE_KEYS), _key_in(turn, _CONTENT_KEYS)
    if by_role is None or turn[by_role] is None:
        raise RowError(f"turn {number} has no role; found {quoted(turn)}")
    role = str(turn[by_role]).strip().lower()
    if role not in _ROLES and role not in _CALLS:
        raise RowError(f"unknown role {turn[by_role]!r} in turn {number}")
    said, is_result = _ROLES.get(role) in (ASSISTANT, TOOL), _ROLES.get(role) == TOOL
    content = content_text(turn[by_content] if by_content else None, number, said=said, is_result=is_result)
    if role in _CALLS:
        return Message(ASSISTANT, "", tool_calls=_calls(content, number), learned=_learned(turn, number))
    called = turn.get("tool_calls") or turn.get("function_call")
    calls = _calls(called, number) if called and called not in ("[]", "null") else ()
    return Message(
        _ROLES[role], content, reasoning=reasoning_of(turn, number), tool_calls=calls, name=turn.get("name"),
        call_id=turn.get("tool_call_id"), learned=_learned(turn, number),
    )  # fmt: skip


def _learned(turn: Mapping[str, Any], number: int) -> bool:
    """False where one of its flags says so. RowError for a flag that is neither yes nor no."""
    flags = {flag: turn[flag] for flag in _FLAGS if turn.get(flag) is not None}
    for flag, value in flags.items():
        if str(value).strip().lower() not in _YES_OR_NO:
            expected = "0 or 1" if flag in _NUMBERS else "true or false"
            raise RowError(f"the {flag} of turn {number} is {value!r:.40}, expected {expected}")
    return all(_YES_OR_NO[str(value).strip().lower()] for value in flags.values())


def _calls(value: Any, number: int) -> tuple[ToolCall, ...]:
    value = _parsed(value, f"the call in turn {number}")
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise RowError(f"the call in turn {number} is {kind_of(value)}, expected a name and arguments")
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
        raise RowError(f"the tools are {kind_of(tools)}, expected a list of descriptions")
    return tuple(found)


def _parsed(value: Any, what: str) -> Any:
    """A text is parsed (tables have no lists); anything else is returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return stringified_value(value)
    except ValueError:
        raise RowError(f"{what}: not valid JSON ({value[:60]!r})") from None
