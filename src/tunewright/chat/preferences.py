"""Row -> compared answers: a better and a worse one to the same prompt, or a single one that is judged good or bad.

    {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
      -> Preferences("pairs", prompt="prompt", chosen="chosen", rejected="rejected")
      -> [Comparison(chosen=Conversation(user "Hi", assistant "Hello!"), rejected=Conversation(user "Hi", assistant "What."))]

The beginning that both conversations share is the prompt; only the turns after it are learned.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.chat.content_parts import as_json
from tunewright.chat.messages import (
    ASSISTANT,
    SYSTEM,
    USER,
    Conversation,
    Message,
    askable,
    conversation,
    earlier_turns,
    in_turns,
    is_turn,
    learnable,
    stringified_turns,
    unread_keys,
)
from tunewright.chat.preference_columns import BAD, GOOD, PAIRS, UNPAIRED, Preferences, score_of
from tunewright.errors import RowError, quoted
from tunewright.records import Row

_TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \n]?")
_SPEAKERS = {"Human": USER, "Assistant": ASSISTANT}


@dataclass(frozen=True, slots=True)
class Comparison:
    """chosen, rejected: whole conversations with the same beginning. Without `rejected` a single answer is judged: `good` or not."""

    chosen: Conversation
    rejected: Conversation | None = None
    good: bool = True

    @property
    def sides(self) -> tuple[Conversation, ...]:
        return (self.chosen,) if self.rejected is None else (self.chosen, self.rejected)


def parse_comparison(row: Row, columns: Preferences) -> tuple[Comparison, ...]:
    """The comparisons in a row; several answers with scores give a pair for each answer that is worse than the best.

    RowError for a missing or empty side, for two equal answers and for answers to different prompts.
    """
    fields = row.fields
    columns = columns.with_late(fields)
    for column in columns.needed:
        if column not in fields:
            raise RowError(f"no field {column!r}; found {quoted(fields)}")
    unread = _unread(fields, columns)
    if columns.format == UNPAIRED:
        one = _judged(fields, columns)
        return (replace(one, chosen=replace(one.chosen, unread=unread)),)
    if columns.format == PAIRS:
        sides = [(_side(fields[str(columns.chosen)], "chosen"), _side(fields[str(columns.rejected)], "rejected"))]
    else:
        sides = _ranked(fields, columns)
    pairs = [_pair(fields, columns, better, worse) for better, worse in sides]
    return tuple(replace(one, chosen=replace(one.chosen, unread=unread)) for one in pairs)


def _unread(fields: Mapping[str, Any], columns: Preferences) -> tuple[str, ...]:
    """Keys of the row's turns that nothing reads."""
    names = (columns.prompt, columns.chosen, columns.rejected, columns.completion)
    values = [fields.get(name) for name in names if name]
    turns = [turn for value in values if isinstance(value, list) for turn in value]
    return unread_keys([*turns, *filter(is_turn, values)])


def parse_prompt(row: Row, columns: Preferences) -> Conversation:
    """The prompt alone, for prediction. RowError where the row has none."""
    columns = columns.with_late(row.fields)
    if columns.prompt is not None and columns.prompt not in row.fields:
        raise RowError(f"no field {columns.prompt!r}; found {quoted(row.fields)}")
    if columns.format == UNPAIRED and columns.completion is None:
        return askable(_whole(row.fields, columns, columns.prompt))
    prompt = _prompt(row.fields, columns)
    if _asks(prompt):
        return askable(prompt)
    found = parse_comparison(row, columns)[0]
    first = next(number for number, one in enumerate(found.chosen.messages) if one.role == ASSISTANT and one.learned)
    return askable(replace(found.chosen, messages=found.chosen.messages[:first]))


# One answer, judged


def _judged(fields: Mapping[str, Any], columns: Preferences) -> Comparison:
    good = _is_good(fields[str(columns.label)])
    if columns.completion is None:
        found = learnable(_whole(fields, columns, columns.prompt))
        return Comparison(_learned_from(found, len(found.messages) - 1), good=good)
    prompt = _prompt(fields, columns)
    answer = _side(fields[columns.completion], "answer")
    if isinstance(answer, str):
        answer = (Message(ASSISTANT, answer),)
    last = max((number for number, one in enumerate(answer) if one.role == ASSISTANT), default=0)
    if answer[0].role != ASSISTANT or _is_asked_in(prompt, answer[:last]):
        prompt, answer = replace(prompt, messages=_joined(prompt.messages, answer[:last])), answer[last:]
    if not _asks(prompt):
        raise RowError("no prompt")
    found = learnable(replace(prompt, messages=(*prompt.messages, *answer)))
    return Comparison(_learned_from(found, len(prompt.messages)), good=good)


def _is_good(value: Any) -> bool:
    said = str(value).strip().lower()
    if said in GOOD or said in BAD:
        return said in GOOD
    raise RowError(f"the label is {value!r:.60}, expected true or false")


# Two answers


def _pair(fields: Mapping[str, Any], columns: Preferences, chosen: Any, rejected: Any) -> Comparison:
    prompt = _prompt(fields, columns)
    if isinstance(chosen, str) and isinstance(rejected, str) and not _asks(prompt):
        shared, chosen, rejected = _implicit(chosen, rejected)
        prompt = replace(prompt, messages=(*prompt.messages, Message(USER, shared)))
    sides = [(Message(ASSISTANT, one),) if isinstance(one, str) else one for one in (chosen, rejected)]
    whole = [side[0].role != ASSISTANT for side in sides]
    if not any(whole) and _is_asked_in(prompt, _same(*sides)):
        whole = [True, True]  # conversations that the assistant begins
    if all(whole):
        begins = _shared(sides[0], sides[1])
    elif any(whole):
        begins = sides[whole.index(True)][:-1]
    else:
        begins = ()
    if any(whole):
        prompt = replace(prompt, messages=_joined(prompt.messages, begins))
        sides = [side[len(begins) :] if is_whole else side for side, is_whole in zip(sides, whole, strict=True)]
    if not _asks(prompt):
        raise RowError("no prompt: no prompt column, and no common beginning")
    return _checked(prompt, *sides)


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[Message, ...]:
    """The turns that both conversations begin with, up to a question."""
    shared = _same(chosen, rejected)
    if len(shared) == len(chosen) == len(rejected):
        raise RowError("chosen and rejected are equal")
    while shared and shared[-1].role == ASSISTANT:
        shared.pop()
    if not any(one.role == USER for one in shared):
        raise RowError("chosen and rejected have different prompts")
    return tuple(shared)


def _same(one: Sequence[Message], other: Sequence[Message]) -> list[Message]:
    """The turns that both begin with."""
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return [turn for turn, _ in alike]


def _is_asked_in(prompt: Conversation, begins: Sequence[Message]) -> bool:
    """Do these turns, which begin with the assistant, hold the prompt's last question (without a prompt: any question)?"""
    questions = [_spoken(one) for one in begins if one.role == USER]
    asked = [_spoken(one) for one in prompt.messages if one.role == USER]
    return bool(questions) and (not asked or asked[-1] in questions)


def _joined(prompt: Sequence[Message], begins: Sequence[Message]) -> tuple[Message, ...]:
    """The turns before the answers, from the row's prompt and the common beginning of both conversations.

    The prompt may be that beginning, its last question, or hold further turns before it. RowError where they do not match.
    """
    if not begins:
        return tuple(prompt)
    system = tuple(one for one in prompt[:1] if one.role == SYSTEM and begins[0].role != SYSTEM)
    own = [_spoken(one) for one in prompt if one.role != SYSTEM]
    theirs = [_spoken(one) for one in begins if one.role != SYSTEM]
    if len(own) > len(theirs) and own[-len(theirs) :] == theirs:
        return (
            tuple(prompt) if begins[0].role != SYSTEM else (begins[0], *(one for one in prompt if one.role != SYSTEM))
        )
    asked = [content for role, content in own if role == USER]
    if asked and (USER, asked[-1]) not in theirs:
        raise RowError("the answers belong to a different prompt than the row's")
    if any(one not in theirs for one in own if one[0] == ASSISTANT):
        raise RowError("the earlier turns of the prompt and of the answers differ")
    return (*system, *begins)


def _spoken(one: Message) -> tuple[str, str]:
    return one.role, one.content.strip()


def _asks(prompt: Conversation) -> bool:
    return any(one.role == USER for one in prompt.messages)


def _checked(prompt: Conversation, chosen: Sequence[Message], rejected: Sequence[Message]) -> Comparison:
    found = []
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        try:
            one = learnable(replace(prompt, messages=(*prompt.messages, *side)))
        except RowError as error:
            raise RowError(f"{name}: {error.reason}") from None
        if len(one.messages) <= len(prompt.messages):
            raise RowError(f"{name}: no answer")
        found.append(_learned_from(one, len(prompt.messages)))
    if _said(found[0]) == _said(found[1]):
        raise RowError("chosen and rejected are equal")
    return Comparison(found[0], found[1])


def _said(found: Conversation) -> list[Any]:
    """What equality of answers is decided by, white space around them ignored."""
    return [(one.role, one.content.strip(), one.reasoning, one.tool_calls) for one in found.messages]


def _learned_from(found: Conversation, first: int) -> Conversation:
    """The conversation, learned only from turn `first` on."""
    turns = [replace(one, learned=one.learned and number >= first) for number, one in enumerate(found.messages)]
    return replace(found, messages=tuple(turns))


def _implicit(chosen: str, rejected: str) -> tuple[str, str, str]:
    """(the common beginning of two texts, the rest of each), cut after a line, else between words."""
    differs = (place for place, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1])
    shared = chosen[: next(differs, min(len(chosen), len(rejected)))]
    if chosen.strip() == rejected.strip():
        raise RowError("chosen and rejected are equal")
    line = shared.rstrip("\n").rfind("\n") + 1 if not shared.endswith("\n") else len(shared)
    end = line if shared[:line].strip() else max((place.end() for place in re.finditer(r"\s", shared)), default=0)
    if not shared[:end].strip():
        raise RowError("no prompt: no column of prompts, and chosen and rejected begin differently")
    return shared[:end].rstrip(), chosen[end:].lstrip(), rejected[end:].lstrip()


# Several answers


def _ranked(fields: Mapping[str, Any], columns: Preferences) -> list[tuple[Any, Any]]:
    """(best, other) for every answer that scores below the best one."""
    answers, scores = columns.answers_of(fields)
    if len(answers) != len(scores):
        raise RowError(f"{len(answers)} answers, {len(scores)} scores")
    if len(answers) < 2:
        raise RowError(f"{len(answers)} answers to compare, expected 2 or more")
    sides = [_side(answer, f"answer {number}") for number, answer in enumerate(answers, start=1)]
    values = [score_of(score, number) for number, score in enumerate(scores, start=1)]
    best = max(range(len(values)), key=values.__getitem__)
    pairs = [(sides[best], side) for side, value in zip(sides, values, strict=True) if value < values[best]]
    if not pairs:
        raise RowError("no answer scores below the others")
    return pairs


# Prompts and answers in their various formats


def _prompt(fields: Mapping[str, Any], columns: Preferences) -> Conversation:
    """The turns before the answers; none where the row has no prompt column."""
    system = _system(fields, columns)
    before = (Message(SYSTEM, system),) if system else ()
    if columns.prompt is None:
        return Conversation(before, _tools(fields, columns))
    found = _side(fields.get(columns.prompt), "prompt", empty=True)
    if isinstance(found, str):
        more = fields.get(columns.input) if columns.input else None
        found = (Message(USER, found, input=more or None),) if found.strip() else ()
    if found and found[-1].role == ASSISTANT and not found[-1].content:
        found = found[:-1]  # "Human: … Assistant:", and the answer elsewhere
    if found and found[0].role == SYSTEM and system:
        before = () if found[0].content.strip() == system.strip() else before
    earlier = earlier_turns(fields.get(columns.history) if columns.history else None)
    return Conversation((*before, *earlier, *found), _tools(fields, columns))


def _system(fields: Mapping[str, Any], columns: Preferences) -> str | None:
    system = fields.get(columns.system) if columns.system else None
    if system is not None and not isinstance(system, str):
        raise RowError(f"{columns.system!r} is {type(system).__name__} {system!r:.60}, expected text")
    return system or None


def _whole(fields: Mapping[str, Any], columns: Preferences, column: str | None) -> Conversation:
    tools = fields.get(columns.tools) if columns.tools else None
    return conversation(in_turns(fields[str(column)]), tools, system=_system(fields, columns))


def _tools(fields: Mapping[str, Any], columns: Preferences) -> tuple[Any, ...]:
    tools = fields.get(columns.tools) if columns.tools else None
    return conversation([{"role": USER, "content": ""}], tools).tools if tools else ()


def _side(value: Any, name: str, *, empty: bool = False) -> str | tuple[Message, ...]:
    """A text, or turns: from a list, a single turn, JSON, or a transcript (`Human: … Assistant: …`). RowError where it is empty."""
    if isinstance(value, Mapping) and not (empty and not is_turn(value) and not set(_TEXTS) & set(value)):
        value = [value] if is_turn(value) else _text_of(value)
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str):
        value = stringified_turns(value) or value
        if isinstance(value, str):
            turns = _TRANSCRIPT.split(value)
            if len(turns) > 2 and not turns[0].strip():
                spoken = zip(turns[1::2], turns[2::2], strict=True)
                return tuple(Message(_SPEAKERS[speaker], text.strip()) for speaker, text in spoken)
            if not value.strip() and not empty:
                raise RowError(f"{name}: empty")
            return value
    if value is None or value == []:
        if empty:
            return ()
        raise RowError(f"{name}: missing")
    if not empty and isinstance(value, (bool, int, float)):
        return as_json(value)
    if not isinstance(value, list):
        raise RowError(f"{name} is {type(value).__name__} {value!r:.60}, expected text or turns")
    return conversation(in_turns(value) if empty else value).messages


_TEXTS = ("content", "value", "text", "full_text", "response", "answer", "completion", "output")


def _text_of(answer: Mapping[str, Any]) -> Any:
    """The answer inside a mapping; where none of its keys holds one, the mapping itself as JSON."""
    return (
        next((answer[key] for key in _TEXTS if key in answer), None) if set(_TEXTS) & set(answer) else as_json(answer)
    )
