"""A label cell -> label names, and the set of labels a run knows.

label_name(4)                    "4"
label_name(0, ["neg", "pos"])    "neg"
LabelSpace.learn(["10", "9"])    names ("9", "10"): integers in their order, other labels sorted
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunewright.errors import RowError, RowSkipped, UserError, quoted
from tunewright.reading.names import BINARY
from tunewright.reading.stringified import stringified_list

MAX_LABELS = 5_000
_FEW_LABELS = 50
"""Up to this many labels may occur only once each."""
_LONG = 32
"""A longer name counts as a sentence, not as a label."""
_WHOLE = re.compile(r"[0-9]+\.0")


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a run, in the order of the model's outputs."""

    names: tuple[str, ...]
    multi_label: bool = False

    @classmethod
    def learn(cls, found: Iterable[str], *, multi_label: bool = False) -> LabelSpace:
        names = list(found)
        if all(_is_integer(name) for name in names):
            return cls(tuple(sorted(names, key=int)), multi_label)
        return cls(tuple(sorted(names)), multi_label)

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)


def label_name(value: Any, names: Sequence[str] | None = None, *, decimals: bool = False) -> str:
    """The name of one label cell. RowError for a missing, blank or unusable one.

    names: names of the integers 0, 1, 2, …; a cell may then hold the integer or the name. decimals: 0.5 is a name too, as it is written.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowError("no label")
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        text = str(int(value))
    elif isinstance(value, str):
        text = value.partition(".")[0] if _WHOLE.fullmatch(value) else value  # as tables write integers beside gaps
    elif decimals and isinstance(value, float) and math.isfinite(value):
        text = repr(value)
    else:
        raise RowError(f"the label is {value!r}, expected a text or an integer")
    if names is None or text in names:
        return text
    if text == "-1":
        raise RowSkipped("no label (-1)")
    if _is_integer(text) and 0 <= int(text) < len(names):
        return names[int(text)]
    hint = "; the first name belongs to 0" if text == str(len(names)) else ""
    raise RowError(f"label {text!r} is not among data.label_names ({quoted(names)}){hint}")


def label_names(
    value: Any, names: Sequence[str] | None = None, *, delimiter: str | None = None, multi_hot: bool = False
) -> tuple[str, ...]:
    """The names of a multi-label cell: a list, or a text split at `delimiter`. An empty list is a row without labels.

    multi_hot: every list of the column has a 0 or 1 for each label (`are_multi_hot`); else a list shows it by a repeat.
    """
    found = stringified_list(value) if isinstance(value, str) else None
    value = value if found is None else found
    if isinstance(value, str) and value.startswith(("['", '["')):
        raise RowError(f"the labels are {value!r:.80}, which is not a valid list")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(delimiter)] if delimiter else [value]
        value = [part for part in value if part]
    if not isinstance(value, (list, tuple)):
        raise RowError("no labels" if value is None else f"the labels are {value!r}, expected a list")
    if (multi_hot and _are_zeros_and_ones(value)) or _is_multi_hot(value):
        return _labels_of_multi_hot(value, names, certain=multi_hot)
    return tuple(dict.fromkeys(label_name(one, names) for one in value))


def parse_binary_columns(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels whose column holds 1. RowSkipped for a row of -1 (not labelled), RowError for any other value."""
    ones = {label: _is_zero_or_one(value) for label, value in values.items()}
    wrong = next((label for label, one in ones.items() if one is None), None)
    if wrong is None:
        return tuple(label for label, one in ones.items() if one)
    if {str(value) for value in values.values()} <= {"-1", "-1.0"}:
        raise RowSkipped("no label (-1)")
    raise RowError(f"column {wrong!r} holds {values[wrong]!r}, expected 0 or 1")


def are_tags_of_words(names: Iterable[str]) -> bool:
    """Whether these labels look like tags of words, one or several in a cell: `B-ORG`, `O`, `B-ORG O O`."""
    parts = [part for name in names for part in _PARTS.findall(name)]
    return bool(parts) and all(map(_TAG.fullmatch, parts)) and any("-" in part for part in parts)


def are_scores(names: Sequence[str]) -> bool:
    """Whether most of these labels are decimal numbers of a scale."""
    decimals = sum(_DECIMAL.fullmatch(name) is not None for name in names)
    return decimals > max(4, len(names) / 2)


_DECIMAL = re.compile(r"[+-]?\d*\.\d*[1-9]\d*")
_PARTS = re.compile(r"[^\s,\[\]'\"]+")
_TAG = re.compile(r"O|[BIESLU]-\S+")


def joined_labels(names: Sequence[str]) -> tuple[str, str] | None:
    """(delimiter, an example) where labels are combinations of others: `joy,anger` next to `joy` and `anger`."""
    known = set(names)
    for delimiter in (",", "|", ";"):
        joined = [name for name in names if delimiter in name]
        made = [name for name in joined if known >= {part.strip() for part in name.split(delimiter)}]
        if len(made) > 1 or (made and len(made) == len(joined)):
            return delimiter, made[0]
    return None


def are_multi_hot(values: Iterable[Any]) -> bool:
    """Whether a column's lists hold a 0 or 1 for each label: all of the same length, two or more.

    Also for two labels, where `[0, 1]` alone could be the ids of both: no data set gives every row all of its labels.
    """
    lists = [
        one for value in values if (one := stringified_list(value) if isinstance(value, str) else value) is not None
    ]
    if not lists or not all(isinstance(one, (list, tuple)) for one in lists):
        return False
    return len({len(one) for one in lists}) == 1 and len(lists[0]) > 1 and all(map(_are_zeros_and_ones, lists))


def _is_multi_hot(value: Sequence[Any]) -> bool:
    """Zeros and ones with a repeat, or written 0.0 and 1.0, which a list of label ids never has: one number per label."""
    if not _are_zeros_and_ones(value):
        return False
    ones = [_is_zero_or_one(part) for part in value]
    return len(set(ones)) < len(ones) or (len(ones) > 1 and any(isinstance(part, (float, bool)) for part in value))


def _are_zeros_and_ones(value: Sequence[Any]) -> bool:
    """Whether all are zeros and ones; words (`yes`, `N`) in a list are names of labels."""
    return all(_is_zero_or_one(part) is not None and str(part).strip().lower() not in _NAMES for part in value)


_NAMES = ("yes", "no", "y", "n", "t", "f", "on", "off")
"""Words that mean true or false in a column of their own, but may be label names in a list."""


def _is_zero_or_one(part: Any) -> bool | None:
    """True for 1, 1.0, true, "1" and "yes", False for their opposites, else None."""
    return BINARY.get(str(part).strip().lower())


def _labels_of_multi_hot(value: Sequence[Any], names: Sequence[str] | None, *, certain: bool) -> tuple[str, ...]:
    """The names at the positions of ones. RowError where the names are unknown; with two labels a lone [0, 1] could also be two ids."""
    is_multi_hot = certain or len(value) > 2 or any(isinstance(part, (float, bool)) for part in value)
    if names is not None and len(names) == len(value) and is_multi_hot:
        return tuple(name for name, part in zip(names, value, strict=True) if _is_zero_or_one(part))
    hint = "list the labels' names instead"
    if is_multi_hot:
        hint = f"set data.label_names to the {len(value)} names in this order"
    raise RowError(f"the labels are {list(value)!r:.80}, a 0 or 1 for each label; {hint}")


def check_labels(space: LabelSpace, *, where: str, num_given: int | None = None) -> None:
    """UserError when nothing can be learned: no label, one label, a name twice, or so many that this is not a label column.

    num_given: rows with a label. Mostly distinct sentences are taken for answers.
    """
    if len(space.index) < len(space):
        twice = sorted({name for name in space.names if space.names.count(name) > 1})
        raise UserError("a label is named twice", where=where, found=quoted(twice), hint="Fix data.label_names.")
    if len(space) < 2:
        found = f"only {quoted(space.names)}" if space.names else "none"
        raise UserError(
            "classification needs at least two labels",
            where=where,
            found=found,
            expected="two labels or more",
            hint="Check data.label.",
        )
    are_prose = sum(len(name.split()) > 2 or len(name) > _LONG for name in space.names) > len(space) / 2
    judged = num_given is not None and are_prose and not space.multi_label
    most = min(MAX_LABELS, max(_FEW_LABELS, (num_given or 0) // 2)) if judged else MAX_LABELS
    if len(space) > most:
        raise UserError(
            "this does not look like a label column",
            where=where,
            found=f"{len(space):,} different values" + (f" in {num_given:,} rows" if num_given is not None else ""),
            expected=f"at most {most:,}",
            hint="Set data.label to the label column, or task=sft to learn answers. If these are labels, list them in "
            "data.label_names.",
        )


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None
