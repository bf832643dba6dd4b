"""Columns and a few rows -> which of them are the text, its pair and the label, for text classification.

    ('review', 'sentiment')                          Roles(text=('review',), pair=None, label='sentiment', …)
    ('column1', 'column2'), ('ham', 'Ok lar…'), …    Roles(text=('column2',), pair=None, label='column1', …)

Names decide first, then content; a pair is never guessed. What remains unclear is an error that asks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.errors import UserError, did_you_mean, quoted
from tunewright.reading.names import BINARY, LABEL_TIERS, NEVER, PAIRS, TEXT_TIERS, normalize_name, tier
from tunewright.reading.shares import nearly_all
from tunewright.reading.source import Source
from tunewright.reading.stringified import stringified_list
from tunewright.records import Row

_LONGEST_LABEL = 64
LONGEST_NAME = 16
"""A run of more characters without spaces is a sentence (Chinese, Japanese), not a name or label."""
_CLEARLY = 2.0
"""The text is a column whose values are this many times as long as those of any other."""


@dataclass(frozen=True)
class Roles:
    """What the columns are for. `text` has one column, or two with `pair` as the second sentence's column."""

    text: tuple[str, ...]
    pair: str | None
    label: str | None
    multi_label: bool
    reason: str
    """How the roles were detected, for the user: `text 'review' by its name, label 'y' by its values`."""


def peek(source: Source, n: int = 200) -> tuple[list[Row], tuple[str, ...]]:
    """The first `n` rows and the columns: those of the table, or every key of these rows in order of appearance."""
    rows = source.first_rows(n)
    return rows, source.columns or tuple(dict.fromkeys(key for row in rows for key in row.fields))


def find_column(name: str, columns: Iterable[str], *, where: str | None = None, key: str | None = None) -> str:
    """`name`, where it is a column. Raises UserError that names the closest; `key`: the config key that named it."""
    known = list(columns)
    if name in known:
        return name
    by_normalized = {normalize_name(column): column for column in known}
    close = by_normalized.get(normalize_name(name)) or did_you_mean(name, known)
    hint = f"Did you mean {close!r}?" if close else f"Set {key or 'the column'} to one of them."
    raise UserError(f"no column {name!r}", where=where, found=quoted(known), hint=hint)


def check_columns(data: Any, columns: Sequence[str], *, where: str, keys: Sequence[str]) -> None:
    """UserError where one of these keys of the `data` section names a column that is not there. A key may name several."""
    for key in keys:
        named = getattr(data, key)
        for name in [named] if isinstance(named, str) else named or ():
            find_column(name, columns, where=where, key=f"data.{key}")


def detect_roles(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    text: tuple[str, ...] = (),
    pair: str | None = None,
    label: str | None = None,
) -> Roles:
    """The roles of the columns. Those given (`text`, `pair`, `label`) are kept; the rest is detected.

    `Roles.label` is None where no column could be one (data to predict on). Raises UserError where two columns are
    equally good, or none is text.
    """
    values = {column: [row.fields.get(column) for row in rows] for column in columns}
    where = rows[0].source if rows else None
    how_text = f"text {quoted(text)} as named"
    named_pairs = [(a, b) for a, b in _named_pairs(columns) if pair in (None, b) and label not in (a, b)]
    if named_pairs and not text:
        text, pair = named_pairs[0][:1], named_pairs[0][1]
        how_text = f"pair {text[0]!r} and {pair!r} by their names"
    free = [column for column in columns if normalize_name(column) not in NEVER and not _counts_up(values[column])]
    free = [column for column in free if column not in (*text, pair)]
    if label is not None:
        how_label = f"label {label!r} as named"
    else:
        label, how_label = _label(free, values, bool(text), where)
    if not text:
        found, how_text = _text([column for column in free if column != label], values, columns, where)
        text = (found,)
    multi_label = label is not None and _is_list(values.get(label, ()))
    return Roles(text, pair, label, multi_label, f"{how_text}, {how_label}")


def detect_text(columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, str]:
    """(the text column, how it was detected), whatever the other columns are. UserError where several could be it."""
    values = {column: [row.fields.get(column) for row in rows] for column in columns}
    free = [column for column in columns if normalize_name(column) not in NEVER and not _counts_up(values[column])]
    return _text(free, values, columns, rows[0].source if rows else None)


_QUESTIONS = frozenset(
    ("question", "query", "ctx", "context", "sentence", "premise", "startphrase", "sent1", "article", "story", "stem")
)
_CHOICES = re.compile(
    r"choices|options|endings|candidates|(choice|option|ending|sol|answer)_?[0-9]|(choice|option)_?[a-e]|op[a-d]"
)


def refuse_choices(columns: Sequence[str], text: str, where: str) -> None:
    """UserError for a multiple-choice question: its choices are not read, and without them there is nothing to learn."""
    found = [column for column in columns if _CHOICES.fullmatch(normalize_name(column))]
    if normalize_name(text) in _QUESTIONS and (
        any(normalize_name(column).endswith("s") for column in found) or len(found) > 1
    ):
        raise UserError(
            "a question with answers to choose from", where=where, found=quoted(found), expected="all text to read in one or two columns",
            hint="Name the columns to read with data.text, or write prompt and completion.",
        )  # fmt: skip


def mean_length(rows: Sequence[Row], column: str) -> float:
    return _mean_length([row.fields.get(column) for row in rows])


def _named_pairs(columns: Sequence[str]) -> list[tuple[str, str]]:
    by_name = {normalize_name(column): column for column in reversed(columns)}
    return [(by_name[a], by_name[b]) for a, b in PAIRS if a in by_name and b in by_name]


def _label(
    candidates: Sequence[str], values: dict[str, list[Any]], has_text: bool, where: str | None
) -> tuple[str | None, str]:
    """The label among the free columns; a single column is the label only where the text is already known."""
    filled = [column for column in candidates if _non_empty(values[column]) or tier(LABEL_TIERS[:1], column) == 0]
    if 0 < len(filled) < len(candidates):  # columns such as `tags` may be empty
        found = _label(filled, values, has_text, where)
        if found[0] is not None:
            return found
    named = _best_tier(LABEL_TIERS, candidates)
    if len(named) > 1:
        raise _ambiguous("more than one column could be the label", named, where)
    if named:
        _ask_about_one_hot(named[0], candidates, values, where)
        return named[0], f"label {named[0]!r} by its name"
    rest = [column for column in candidates if tier(TEXT_TIERS, column) is None or not _is_text(values[column])]
    likely = [column for column in rest if is_label(values[column])]
    if len(likely) > 1:
        likely = [column for column in likely if _is_list(values[column])] or likely
    if len(likely) > 1 and len(_binary_columns(likely, values)) == len(likely):
        raise _several_labels(likely, where)
    if len(likely) > 1:
        raise _ambiguous("more than one column could be the label", likely, where)
    if likely and (len(candidates) > 1 or has_text):
        return likely[0], f"label {likely[0]!r} by its values"
    return None, "no label"


def _ask_about_one_hot(label: str, candidates: Sequence[str], values: dict[str, list[Any]], where: str | None) -> None:
    """UserError where two or more columns next to the label also hold zeros and ones: one column per label."""
    ones = _binary_columns(candidates, values)
    if label in ones and len(ones) > 2:
        raise _several_labels(ones, where)


def _binary_columns(candidates: Sequence[str], values: dict[str, list[Any]]) -> list[str]:
    """The columns of zeros and ones, in any spelling: 0, 1.0, True, "yes"."""
    return [column for column in candidates if nearly_all(is_binary, _non_empty(values[column]))]


def is_binary(value: Any) -> bool:
    return str(value).strip().lower() in BINARY


def _several_labels(columns: Sequence[str], where: str | None) -> UserError:
    return UserError(
        "several columns could each be a label", where=where, found=quoted(columns),
        hint=f"Name one with data.label={columns[0]}, or all of them: data.label=[{','.join(columns)}].",
    )  # fmt: skip


def _text(
    free: Sequence[str], values: dict[str, list[Any]], columns: Sequence[str], where: str | None
) -> tuple[str, str]:
    texts = [column for column in free if _is_text(values[column]) and not normalize_name(column).endswith("_id")]
    named = _best_tier(TEXT_TIERS, texts)
    if len(named) > 1:
        raise _ambiguous("more than one column could be the text", named, where)
    if named and not (tier(TEXT_TIERS[-1:], named[0]) == 0 and _is_outdone(named[0], texts, values)):
        return named[0], f"text {named[0]!r} by its name"
    by_length = sorted(texts, key=lambda column: -_mean_length(values[column]))
    if not by_length:
        raise UserError(
            "no column holds text", where=where, found=quoted(columns), hint="Set data.text to the column to read."
        )
    if len(by_length) > 1 and _mean_length(values[by_length[0]]) < _CLEARLY * _mean_length(values[by_length[1]]):
        raise _ambiguous("more than one column could be the text", by_length, where)
    return by_length[0], f"text {by_length[0]!r} by its values"


def _is_outdone(title: str, texts: Sequence[str], values: dict[str, list[Any]]) -> bool:
    """Whether a column with an unknown name holds much longer texts than the titles."""
    longer = [text for text in texts if _mean_length(values[text]) > _CLEARLY * _mean_length(values[title])]
    return any(is_prose(values[text]) for text in longer)


def is_prose(values: Sequence[Any]) -> bool:
    """Whether most values are sentences: several words, or a long run as in Chinese and Japanese; not names, URLs or paths."""
    given = [value for value in values if isinstance(value, str) and value]
    return sum(map(_is_sentence, given)) > len(given) / 2


def _is_sentence(text: str) -> bool:
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    if text.count(" ") > 2:
        return "://" not in first
    return len(first) > LONGEST_NAME and not first.isascii() and "/" not in first


def _best_tier(tiers: Sequence[frozenset[str]], columns: Sequence[str]) -> list[str]:
    """The columns of the best tier that has any."""
    places = {column: place for column in columns if (place := tier(tiers, column)) is not None}
    return [column for column in places if places[column] == min(places.values())]


def _ambiguous(problem: str, candidates: Sequence[str], where: str | None) -> UserError:
    return UserError(problem, where=where, found=quoted(candidates), hint="Set data.text=… and data.label=…")


def _non_empty(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None and value != ""]


def _is_list(values: Sequence[Any]) -> bool:
    """Lists of strings or integers, or of 0.0 and 1.0: the labels of a multi-label task."""
    return nearly_all(_is_list_of_labels, [_as_list(value) for value in _non_empty(values)])


def _is_list_of_labels(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str | int) or part in (0.0, 1.0) for part in value)


def _as_list(value: Any) -> Any:
    """A stringified list as a list; any other value unchanged."""
    found = stringified_list(value) if isinstance(value, str) else None
    return value if found is None else found


def _is_text(values: Sequence[Any]) -> bool:
    """Mostly texts: a few other cells are rejected row by row and do not disqualify the column."""
    given = _non_empty(values)
    texts = [value for value in given if isinstance(value, str)]
    return not given or (len(texts) > len(given) / 2 and not all(map(_is_number, texts)))


def is_label(values: Sequence[Any]) -> bool:
    """Few distinct short values, most of them repeated; or lists of such."""
    if _is_list(values):
        lists = filter(_is_list_of_labels, map(_as_list, _non_empty(values)))
        given = [part for value in lists for part in value]
    else:
        given = _non_empty(values)
        if not all(isinstance(value, str | int) or value in (0.0, 1.0) for value in given):
            return False
    distinct = {str(value) for value in given}
    if not distinct or max(map(len, distinct)) > _LONGEST_LABEL:
        return False
    return len(distinct) <= max(1, len(given) // 2) or (len(given) < 10 and len(distinct) < len(given))


NUMBERS, UNCLEAR, CLASSES = "numbers", "unclear", "classes"
"""What a column of labels holds."""
_MANY, _FEW = 20, 5
_A_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|\d*\.\d+|\d+\.)([eE][+-]?\d+)?")


def kind_of_labels(values: Sequence[Any]) -> str:
    """Numbers on a scale, classes, or what nobody can tell but the user.

    Decimals are numbers where there are many: over 20, or a value of its own for half the rows. Fewer are unclear, fewer than 5 classes.
    Integers are classes, but for those that neither repeat nor count the classes through: those are unclear.
    """
    given = _non_empty(values)
    numbers = {
        float(str(value)) for value in given if not isinstance(value, bool) and _A_NUMBER.fullmatch(str(value).strip())
    }
    if not given or not nearly_all(
        lambda value: not isinstance(value, bool) and _A_NUMBER.fullmatch(str(value).strip()), given
    ):
        return CLASSES
    many = len(numbers) > len(given) / 2
    if all(value.is_integer() for value in numbers):
        counted = max(numbers) - min(numbers) < 2 * len(numbers)
        return UNCLEAR if many and len(numbers) > _MANY and not counted else CLASSES
    if len(numbers) < _FEW:
        return CLASSES
    return NUMBERS if many or len(numbers) > _MANY else UNCLEAR


def number_columns(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The columns that hold many numbers, by their values; none that is called as an id or a date is."""
    values = {
        column: [row.fields.get(column) for row in rows] for column in columns if normalize_name(column) not in NEVER
    }
    return [column for column, of_column in values.items() if kind_of_labels(of_column) == NUMBERS]


def _counts_up(values: Sequence[Any]) -> bool:
    """A row number: integers, each one more than the one before."""
    numbers = [int(value) for value in values if isinstance(value, int | str) and str(value).isdecimal()]
    steps = {later - earlier for earlier, later in itertools.pairwise(numbers)}
    return len(numbers) == len(values) > 2 and steps == {1}


def _mean_length(values: Sequence[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(1, len(values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
