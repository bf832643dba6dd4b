"""Row -> Conversation: which columns hold prompts, answers, messages or plain text, and how each format is read.

{"instruction": "Translate", "input": "Hund", "output": "dog"}
  -> Dialogues("alpaca", prompt="instruction", answer="output", input="input")
  -> Conversation((Message("user", "Translate", input="Hund"), Message("assistant", "dog")))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunewright.chat.content_parts import as_json
from tunewright.chat.messages import (
    ASSISTANT,
    USER,
    Conversation,
    Message,
    askable,
    conversation,
    earlier_turns,
    in_turns,
    is_turn,
    learnable,
    single_turn,
    stringified_calls,
    stringified_turns,
)
from tunewright.chat.preference_columns import Preferences, beside, find_preferences, input_beside, late_columns
from tunewright.chat.preferences import parse_comparison, parse_prompt
from tunewright.errors import RowError, RowSkipped, quoted
from tunewright.records import Row

MESSAGES, ALPACA, PAIR, TEXT = "messages", "alpaca", "pair", "text"
PREFERRED = "preferred"
"""Of two compared answers the better one is learned."""
_LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue")
PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "answer"), ("question", "answer"),
    ("question", "response"), ("query", "response"), ("query", "answer"), ("input", "output"),
    ("instruction", "response"), ("instruction", "completion"), ("instruction", "answer"), ("problem", "solution"),
    ("inputs", "targets"), ("input", "target"), ("dialogue", "summary"), ("article", "highlights"), ("article", "summary"),
    ("document", "summary"), ("question", "answers"), ("query", "answers"),
)  # fmt: skip
LIKELY_PAIRS = (
    ("prompt", "output"), ("prompt", "generation"), ("prompt", "target"), ("query", "output"), ("query", "completion"),
    ("question", "output"), ("question", "solution"), ("question", "rationale"), ("problem", "answer"), ("input", "response"),
    ("input", "answer"), ("inputs", "outputs"), ("input_text", "output_text"), ("input_text", "target_text"), ("instruction", "generation"),
    ("source_text", "target_text"), ("context", "response"), ("user", "assistant"), ("human", "assistant"), ("human", "bot"),
    ("message", "reply"), ("utterance", "response"), ("ask", "answer"), ("src", "tgt"), ("source", "target"), ("text", "summary"),
    ("content", "summary"), ("text", "translation"),
)  # fmt: skip
"""Names that texts with labels also have: then the answers decide."""


@dataclass(frozen=True)
class Dialogues:
    """The format of a source's rows, and its columns. Made by `find_dialogues`."""

    format: str
    prompt: str
    answer: str | None = None
    input: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    compared: Preferences | None = None
    """How the answers of `PREFERRED` rows are compared."""

    @property
    def is_instruction(self) -> bool:
        """Prompts of an instruction and an input: they get a template for those where there is no other."""
        return self.format == ALPACA or (self.compared is not None and self.compared.is_instruction)

    @property
    def read_columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        if self.compared is not None:
            return self.compared.read_columns
        return tuple(filter(None, (self.prompt, self.answer, self.input, self.system, self.history, self.tools)))

    @property
    def columns(self) -> dict[str, str]:
        """Role -> column, for the roles that have one."""
        found = {key: value for key, value in asdict(self).items() if key not in ("format", "compared") and value}
        return {self.format if self.answer is None and key == "prompt" else key: value for key, value in found.items()}

    def for_training(self, row: Row) -> Conversation:
        """The conversation to train on. RowError for roles, orders and answers that cannot be learned."""
        if self.compared is not None:
            best = parse_comparison(row, self.compared)[0]
            if not best.good:
                raise RowSkipped("its answer is judged bad")
            return best.chosen
        found = self._read(row.fields, answered=True)
        if self.format == TEXT:
            if not found.messages[0].content.strip():
                raise RowError(f"blank text in {self.prompt!r}")
            return found
        return learnable(found)

    def for_generation(self, row: Row) -> Conversation:
        """The conversation to answer: without its last answer, which may be missing."""
        if self.compared is not None:
            return parse_prompt(row, self.compared)
        found = self._read(row.fields, answered=False)
        return found if self.format == TEXT else askable(found)

    def _read(self, fields: Mapping[str, Any], *, answered: bool) -> Conversation:
        if self.prompt not in fields:
            raise RowError(f"no field {self.prompt!r}; found {quoted(fields)}")
        if self.format != TEXT and (late := late_columns(self, fields, {self.prompt, self.answer})):
            return replace(self, **late)._read(fields, answered=answered)
        system = _text(fields, self.system)
        tools = fields.get(self.tools) if self.tools else None
        if self.format == MESSAGES:
            return conversation(in_turns(fields[self.prompt]), tools, system=system)
        answer = fields.get(self.answer) if self.answer else None
        if self.answer and answered and self.answer not in fields:
            raise RowError(f"no field {self.answer!r}; found {quoted(fields)}")
        asked, answer = _as_turns(fields[self.prompt]), _as_text(_as_turns(_first_found(answer)))
        if tools and isinstance(asked, str) and isinstance(answer, str) and (calls := stringified_calls(answer)):
            answer = [{"role": ASSISTANT, "content": None, "tool_calls": calls}]
        if isinstance(answer, list) and isinstance(asked, str):
            asked = [{"role": USER, "content": asked}]
        if isinstance(asked, list) and self.input and fields.get(self.input):
            raise RowError(f"{self.prompt!r} holds turns, so {self.input!r} cannot add to the prompt")
        if isinstance(asked, list):
            return conversation([*asked, *(_turns(answer) if answered else ())], tools, system=system)
        prompt = _text({self.prompt: asked}, self.prompt)
        if prompt is None:
            raise RowError(f"no prompt in {self.prompt!r}")
        if self.format == TEXT:
            return Conversation((Message(ASSISTANT, prompt),)) if answered else Conversation((Message(USER, prompt),))
        text = (_text({**fields, self.answer: answer}, self.answer) or "") if answered and self.answer else None
        found = single_turn(prompt, text, system=system, input=_text(fields, self.input))
        return _with_history(found, fields.get(self.history) if self.history else None)


def find_dialogues(
    columns: Sequence[str], rows: Sequence[Row], *, text: str | None = None, label: str | None = None
) -> Dialogues | None:
    """The format of these columns; None where it is not a known one. text, label: columns that the user names."""
    names = {name.strip().lower(): name for name in columns}
    of = None if text else find_preferences(columns, rows)
    if of is not None:
        answer = of.chosen or of.completion or (of.answers if isinstance(of.answers, str) else None)
        prompt = of.prompt or of.chosen or of.label or ""
        return Dialogues(PREFERRED, prompt, answer, input=of.input, system=of.system, tools=of.tools, compared=of)
    extra = beside(names)
    if text and label:
        return Dialogues(PAIR, text, label, input=input_beside(names, {text, label}), **extra)
    turns = text if text and _is_turns(rows, text) else None if text else _turns_column(names, rows)
    if turns:
        return Dialogues(MESSAGES, turns, system=extra["system"], tools=extra["tools"])
    if text:
        return Dialogues(TEXT, text)
    if {
        "definition",
        "inputs",
        "targets",
    } <= names.keys():  # Super-NaturalInstructions
        return Dialogues(ALPACA, names["definition"], names["targets"], input=names["inputs"])
    if "instruction" in names and "output" in names:
        others = {key: value for key, value in extra.items() if key != "tools"}
        return Dialogues(ALPACA, names["instruction"], names["output"], input=input_beside(names, set()), **others)
    for prompt, answer in (*PAIRS, *LIKELY_PAIRS):
        if (
            prompt in names
            and answer in names
            and (answer != "answers" or _are_answers(rows, names[answer], extra["tools"]))
        ):
            more = input_beside(names, {names[prompt], names[answer]})
            return Dialogues(PAIR, names[prompt], names[answer], input=more, **extra)
    return Dialogues(TEXT, names["text"]) if "text" in names else None


def _are_answers(rows: Sequence[Row], column: str, tools: str | None) -> bool:
    """Plain texts, SQuAD's objects, or tool calls; other lists are multiple choices."""
    given = [row.fields[column] for row in rows if row.fields.get(column)]
    if tools and given and all(isinstance(one, str) and stringified_calls(one) for one in given):
        return True
    return bool(given) and all(
        _is_squads(one) or (isinstance(one, str) and not one.lstrip().startswith(("[", "{"))) for one in given
    )


def _turns_column(names: Mapping[str, str], rows: Sequence[Row]) -> str | None:
    return next((names[name] for name in _LISTS if name in names and _is_turns(rows, names[name])), None)


def _is_turns(rows: Sequence[Row], column: str) -> bool:
    """Does the column hold lists of turns (or their JSON)?"""
    values = [row.fields[column] for row in rows if row.fields.get(column)]
    turns = sum(isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[") for value in values)
    return turns > len(values) / 2  # a few other rows are rejected later, and do not rule the column out


def _text(fields: Mapping[str, Any], column: str | None) -> str | None:
    value = fields.get(column) if column else None
    if value is None or isinstance(value, str):
        return value
    raise RowError(f"{column!r} holds {type(value).__name__} {value!r:.80}, expected text")


def _as_turns(value: Any) -> Any:
    """Turns from their JSON, the only text of a list; anything else unchanged."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    return (stringified_turns(value) or value) if isinstance(value, str) else value


def _as_text(answer: Any) -> Any:
    """Numbers, booleans and objects as JSON; texts and turns unchanged."""
    if isinstance(answer, (bool, int, float)) or (isinstance(answer, Mapping) and not is_turn(answer)):
        return as_json(answer)
    values = isinstance(answer, list) and not all(isinstance(one, str) for one in answer)
    if values and not any(map(is_turn, answer)):
        return as_json(answer)
    return answer


def _first_found(answer: Any) -> Any:
    """The first of SQuAD's answers, `{"text": ["in Ulm", "Ulm"], "answer_start": [4, 7]}`; None where there are none."""
    return next(iter(answer["text"]), None) if _is_squads(answer) else answer


def _is_squads(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("text"), list)


def _turns(answer: Any) -> list[Any]:
    if answer is None:
        return []
    if is_turn(answer):
        return [answer]
    return list(answer) if isinstance(answer, list) else [{"role": ASSISTANT, "content": answer}]


def _with_history(found: Conversation, history: Any) -> Conversation:
    """The conversation with earlier questions and answers between the system turn and the prompt."""
    earlier = earlier_turns(history)
    if not earlier:
        return found
    at = next(number for number, one in enumerate(found.messages) if one.role == USER)
    return Conversation((*found.messages[:at], *earlier, *found.messages[at:]), found.tools)
