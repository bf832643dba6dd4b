"""Which columns hold compared answers: two sides, several answers with scores, or one answer with a judgement.

columns prompt, responses, ratings      Preferences("scored", prompt="prompt", answers="responses", scores="ratings")
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.errors import RowError, RowSkipped, quoted
from tunewright.reading.shares import nearly_all
from tunewright.records import Row

PAIRS, SCORED, UNPAIRED = "pairs", "scored", "unpaired"
_SIDES = (
    ("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"),
    ("answer_chosen", "answer_rejected"), ("preferred", "dispreferred"), ("better", "worse"), ("accepted", "rejected"),
    ("output", "rejected"), ("response", "rejected"), ("response", "rejected_response"), ("answer", "rejected"), ("completion", "rejected"),
    ("response_j", "response_k"), ("chosen_messages", "rejected_messages"), ("messages_chosen", "messages_rejected"),
    ("chosen_conversations", "rejected_conversations"), ("chosen_conversation", "rejected_conversation"),
    ("conversations_chosen", "conversations_rejected"), ("chosen_completion", "rejected_completion"), ("chosen_answer", "rejected_answer"),
    ("chosen_output", "rejected_output"), ("chosen_text", "rejected_text"),
)  # fmt: skip
"""Names of the better and the worse side; the answer column of a supervised row may be the better one."""
_PROMPTS = (
    "prompt",
    "instruction",
    "question",
    "query",
    "messages",
    "conversations",
    "conversation",
    "context",
    "input",
)
_ANSWERS = ("answers", "responses", "completions", "candidates", "outputs", "generations")
_COMPLETIONS = ("completion", "response", "answer", "output")
_SCORES = ("scores", "ratings", "rewards", "ranks", "ranking")
_SCORE_KEYS = ("score", "rating", "overall_score", "reward", "pm_score", "rank")
_LABELS = ("label", "labels", "kto_tag", "desirable", "is_good", "is_safe", "thumbs_up", "rating", "feedback", "vote")
_NUMBERED = re.compile(r"(answer|response|completion|output|conversation|human_ref)_?([0-9]+|[a-z])")
_WINNERS = (
    "winner", "preferred", "preference", "better", "choice", "chosen_id", "better_response_id", "best", "labels", "label",
)  # fmt: skip
_WINNER_NAMES = "model|assistant|answer|response|completion|output|option|chatbot|system"
_TIES = {"tie", "tie (bothbad)", "tie (both bad)", "both bad", "both", "none", "neither", "equal", "same", "neutral"}
_NUMBERED_SCORES = ("score", "rating", "reward", "rank", "winner_model", "winner")
GOOD = {"true", "1", "1.0", "yes", "good", "chosen", "desirable", "positive", "thumbs_up", "up", "+1"}
BAD = {"false", "0", "0.0", "no", "bad", "rejected", "undesirable", "negative", "thumbs_down", "down", "-1"}
"""Values of a judgement of a single answer."""


@dataclass(frozen=True)
class Preferences:
    """format: pairs, scored or unpaired. answers, scores: columns of lists, or the names of the columns of single ones."""

    format: str
    prompt: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    answers: str | tuple[str, ...] | None = None
    scores: str | tuple[str, ...] | None = None
    winner: str | None = None
    completion: str | None = None
    label: str | None = None
    input: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None

    def with_late(self, fields: Mapping[str, Any]) -> Preferences:
        """These columns, with those that only later rows of the file have."""
        late = late_columns(self, fields, {self.prompt, *self.needed})
        return replace(self, **late) if late else self

    @property
    def needed(self) -> list[str]:
        """Columns that every row must have."""
        several = [
            name for one in (self.answers, self.scores) for name in ((one,) if isinstance(one, str) else one or ())
        ]
        alone = [self.chosen, self.rejected, self.completion, self.label, self.winner]
        return [name for name in (*alone, *several) if name] + ([self.prompt] if self.prompt else [])

    @property
    def read_columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        beside_them = (self.input, self.system, self.history, self.tools)
        return (*self.needed, *filter(None, beside_them))

    @property
    def is_instruction(self) -> bool:
        """Prompts of an instruction and an input: a template for those is taken where there is no other."""
        return self.input is not None and self.input.lower() == "input"

    @property
    def columns(self) -> dict[str, str]:
        """Role -> column."""
        found = {}
        for role in (
            "prompt",
            "input",
            "chosen",
            "rejected",
            "answers",
            "scores",
            "winner",
            "completion",
            "label",
            "system",
            "tools",
        ):
            value = getattr(self, role)
            if value:
                found[role] = value if isinstance(value, str) else " ".join(value)
        return found

    def answers_of(self, fields: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
        """All answers of a row and their scores; ranks are negated, so that higher is better."""
        if isinstance(self.answers, tuple) and self.winner is not None:
            won = winner_of(self.answers, fields[self.winner])
            if won is None:
                raise RowSkipped("a tie")
            return [fields[column] for column in self.answers], [float(column == won) for column in self.answers]
        if isinstance(self.answers, tuple):
            assert isinstance(self.scores, tuple)
            if (
                self.scores[0].lower().startswith("winner")
                and len({str(fields[column]) for column in self.scores}) == 1
            ):
                raise RowSkipped("a tie")
            said = zip(self.answers, self.scores, strict=True)
            present = [n for n, columns in enumerate(said) if any(fields[one] not in (None, "") for one in columns)]
            return [fields[self.answers[n]] for n in present], self._higher_scores(
                [fields[self.scores[n]] for n in present]
            )
        answers = _listed(fields[str(self.answers)], "answers")
        if self.scores is None:
            keys = [key for key in _SCORE_KEYS if all(isinstance(one, Mapping) and key in one for one in answers)]
            if not keys:
                raise RowError("the answers have no scores")
            return answers, _higher_is_better([one[keys[0]] for one in answers], keys[0])
        return answers, self._higher_scores(_listed(fields[str(self.scores)], "scores"))

    def _higher_scores(self, scores: list[Any]) -> list[Any]:
        name = self.scores if isinstance(self.scores, str) else (self.scores or ("",))[0]
        return _higher_is_better(scores, name)


def score_of(value: Any, number: int) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if score != score:
        raise RowError(f"the score of answer {number} is {value!r:.40}, expected a number")
    return score


def _higher_is_better(scores: list[Any], name: str) -> list[Any]:
    if not name.lower().startswith("rank"):
        return scores
    return [-score_of(value, number) for number, value in enumerate(scores, start=1)]


def _listed(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"the {name} are not valid JSON") from None
    if not isinstance(value, list):
        raise RowError(f"the {name} are {type(value).__name__} {value!r:.60}, expected a list")
    return value


def find_preferences(
    columns: Sequence[str], rows: Sequence[Row], *, text: str | None = None, label: str | None = None
) -> Preferences | None:
    """The format of these columns, None where they hold no comparisons. text: the column of prompts, label: of judgements."""
    names = {name.strip().lower(): name for name in columns}
    extra = beside(names)

    def roles(taken: set[str], **found: Any) -> Preferences:
        prompt = text or next((names[name] for name in _PROMPTS if name in names and names[name] not in taken), None)
        more = extra
        if (
            prompt in (None, extra["history"]) and extra["history"]
        ):  # in the Stanford Human Preferences the question is in `history`
            prompt, more = extra["history"], {**extra, "history": None}
        return Preferences(**found, prompt=prompt, input=input_beside(names, {prompt, *taken}), **more)

    for better, worse in _SIDES:
        if better in names and worse in names:
            chosen, rejected = names[better], names[worse]
            return roles({chosen, rejected}, format=PAIRS, chosen=chosen, rejected=rejected)
    return _scored(names, rows, label, roles) or _unpaired(names, rows, label, roles)


def late_columns(found: Any, fields: Mapping[str, Any], taken: set[str | None]) -> dict[str, Any]:
    """Role -> column for roles (system, history, tools, input) that `found` lacks because only later rows of a JSON file have them."""
    names = {name.strip().lower(): name for name in fields}
    ways = {**beside(names), "input": input_beside(names, taken)}
    free = {role: column for role, column in ways.items() if column and column not in taken}
    return {role: column for role, column in free.items() if fields[column] and getattr(found, role) is None}


def beside(names: Mapping[str, str]) -> dict[str, Any]:
    """Further columns of a conversation. names: lower case -> as written."""
    ways = {"system": ("system", "system_prompt"), "history": ("history",), "tools": ("tools", "functions")}
    return {role: next((names[name] for name in of if name in names), None) for role, of in ways.items()}


def input_beside(names: Mapping[str, str], taken: set[str | None]) -> str | None:
    """The column with the input of a prompt, where there is one: alpaca's `input`, Dolly's `context`."""
    of = ("input", "context", "passage")
    return next((names[name] for name in of if name in names and names[name] not in taken), None)


def _scored(names: Mapping[str, str], rows: Sequence[Row], label: str | None, roles: Any) -> Preferences | None:
    answers = next((names[name] for name in _ANSWERS if name in names), None)
    scores = next((names[name] for name in _SCORES if name in names), None)
    if answers:
        lists = [row.fields.get(answers) for row in rows]
        inside = any(_has_scores(one) for one in lists)
        if scores or inside:
            return roles({answers, scores}, format=SCORED, answers=answers, scores=scores)
    numbered = {found[2]: name for name in names if (found := _NUMBERED.fullmatch(name))}
    for word in _NUMBERED_SCORES:
        pairs = [
            (names[name], names[score])
            for number, name in sorted(numbered.items())
            for score in (f"{word}_{number}", f"{word}{number}", f"{name}_{word}")
            if score in names
        ]
        if len(pairs) > 1:
            of_answers, of_scores = zip(*pairs, strict=True)
            return roles({*of_answers, *of_scores}, format=SCORED, answers=of_answers, scores=of_scores)
    two = tuple(names[name] for _, name in sorted(numbered.items()))
    judgements = [label] if label else [names[name] for name in _WINNERS if name in names]
    for winner in judgements if len(two) == 2 else ():
        said = [row.fields[winner] for row in rows if row.fields.get(winner) not in (None, "")]
        found = roles({*two, winner}, format=SCORED, answers=two, winner=winner)
        asked = found.prompt or all(name.startswith("conversation") for name in numbered.values())
        if asked and nearly_all(lambda value: _is_judgement(two, value), said):
            return found
    return None


def winner_of(answers: Sequence[str], said: Any) -> str | None:
    """The column that a judgement names, by its name or its ending (`a`, `model_b`, `2`); None for a tie.

    With `human_ref_A` and `human_ref_B` (Stanford Human Preferences) 1 means the first, 0 the second. RowError for a missing
    judgement, or any other word.
    """
    word = "" if said is None else str(said).strip().lower()
    if not word:
        raise RowError("the judgement is missing")
    ends = [re.split(r"_|(?<=[a-z])(?=[0-9]+$)", column.lower())[-1] for column in answers]
    if ends == ["a", "b"] and answers[0].lower().startswith("human_ref") and word in ("0", "1"):
        return answers[1 - int(word)]
    for column, end in zip(answers, ends, strict=True):
        if word == column.lower() or re.fullmatch(rf"(?:(?:{_WINNER_NAMES})[_ ]?)?{re.escape(end)}(?:\.0)?", word):
            return column
    if word in _TIES:
        return None
    raise RowError(f"the judgement is {said!r:.60}, expected one of {quoted(answers)}, {quoted(ends)} or a tie")


def _is_judgement(answers: Sequence[str], value: Any) -> bool:
    try:
        winner_of(answers, value)
    except RowError:
        return False
    return True


def _has_scores(answers: Any) -> bool:
    try:
        found = _listed(answers, "answers")
    except RowError:
        return False
    return bool(found) and all(isinstance(one, Mapping) and set(_SCORE_KEYS) & set(one) for one in found)


def _unpaired(names: Mapping[str, str], rows: Sequence[Row], label: str | None, roles: Any) -> Preferences | None:
    judged = label or next((names[name] for name in _LABELS if name in names), None)
    said = [row.fields[judged] for row in rows if judged and row.fields.get(judged) is not None]
    if judged is None or not nearly_all(lambda one: str(one).strip().lower() in GOOD | BAD, said):
        return None
    answer = next((names[name] for name in _COMPLETIONS if name in names), None)
    if answer:
        found = roles({answer, judged}, format=UNPAIRED, completion=answer, label=judged)
        return found if found.prompt else None
    turns = next((names[name] for name in ("messages", "conversations", "conversation") if name in names), None)
    return Preferences(UNPAIRED, turns, label=judged, **beside(names)) if turns else None
