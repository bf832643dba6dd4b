"""Lines of a plain text file that hold more than text: a label before or after it, a separator, or only labels.

    '__label__joy I am glad'      layout "fasttext"     ('joy', 'I am glad')
    '3 a stirring film'           layout "first"        ('3', 'a stirring film')
    '3,a stirring, slow film'     layout "first cell"   ('3', 'a stirring, slow film')
    'Profit rose .@positive'      layout "at"           ('positive', 'Profit rose .')
    '(3 (2 It) (4 works))'        layout "tree"         ('3', 'It works')

`formats/labelled.py` reads them with `data.format: labelled`; without it `line_question` asks what they are.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunewright.reading.json_values import is_json_list
from tunewright.reading.names import one_of
from tunewright.reading.sniff import is_header

FASTTEXT, TREE, AT, FIRST, LAST = "fasttext", "tree", "at", "first", "last"
FIRST_CELL, LAST_CELL = "first cell", "last cell"
"""Before the first comma, after the last one."""
_FEW, _SEVERAL = 5, 20
"""Minimum lines for markers, and for plain words or numbers, to count as evidence."""
_MOST_LABELS, _MOST_NUMBERS, _ROWS_EACH, _MOST_WORDS = 20, 10, 4, 4
_SURELY = 0.98
_MARK = "__label__"
_MARKED = re.compile(rf"\s*{_MARK}\S+")
_TREE = re.compile(r"\([0-9] (?=\()")
_LEAF = re.compile(r"\([0-9] ([^()]+)\)")
_AT = re.compile(r"(?s:(.*))@(positive|negative|neutral)\s*\Z")
_TREC = re.compile(r"(?:ABBR|DESC|ENTY|HUM|LOC|NUM):[a-z]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.0)?")
_BRACKETED = re.compile(r"\[[\w /-]+\]|<\w+>|#\w+")
_LABEL_WORDS = one_of(
    "pos neg positive negative neutral neu mixed ham spam yes no true false joy anger sadness fear love surprise disgust",
    "toxic offensive clean hate normal entailment contradiction duplicate relevant irrelevant subjective objective",
    "good bad poor happy sad hateful abusive fake real ironic sarcastic favor favour against none optimism disagree agree",
)
_SHORT_NUMBER = re.compile(r"[+-]?[0-9]{1,2}(?:\.0)?")
_LEVELS = one_of("info warn warning error debug trace fatal critical notice verbose severe fine")
"""Log levels, which are not labels."""
_UNITS = one_of(
    "cup cups tbsp tbs tsp tablespoon tablespoons teaspoon teaspoons g gram grams kg ml l liter liters litre litres oz ounce ounces",
    "lb lbs pound pounds clove cloves can cans pinch slice slices piece pieces stick sticks package packages x",
)
"""After a number these mean an amount, not a label."""
_UNIT_SHARE = 0.3
_STAMPED = re.compile(
    r"\W?(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}:[0-9]{2}\b|(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|[A-Z][a-z]{2} +[0-9]{1,2} [0-9]{2}:)"
)
"""A date, a time or an address at the start: lines of a log."""
_TAGGED = re.compile(r"\S+/(?:[A-Z][A-Z0-9$-]*|[BIESLU]-\w+|[.,:;]|``|'')")
_LETTER = re.compile(r"[^\W\d_]")
_SEPARATORS = ("|||", "||", ";;", "@@", "=>", "->", "<sep>", "<SEP>", "[SEP]", "::", "##", "~~", "%%", "&&", "|")


@dataclass(frozen=True)
class LineQuestion:
    """what: what the lines look like. words: the config words that read them. hint: what to do where no words can."""

    what: str
    words: str
    hint: str = ""


def layout_of(texts: Sequence[str], *, sure: bool = False) -> str | None:
    """Where these lines have their label; None where they have none. sure: the user said that they have one."""
    given = [text for text in texts if text.strip()]
    if len(given) < (1 if sure else _FEW):
        return None
    for layout, mark in ((FASTTEXT, _MARKED), (TREE, _TREE), (AT, _AT)):
        if _nearly_all(mark.match, given):
            return layout
    if _nearly_all(lambda text: _TREC.fullmatch(_first(text)), given):
        return FIRST
    if _is_first_word_a_label(given):
        return FIRST
    for layout in (FIRST_CELL, LAST_CELL):
        if _are_cells(given, layout, sure=sure):
            return layout
    ends = [text.rsplit(maxsplit=1) for text in given]
    before = {parts[0].split()[-1].lower() for parts in ends if len(parts) == 2}
    if len(before) >= _FEW and _are_labels([parts[1] for parts in ends if len(parts) == 2], len(given)):
        return LAST
    return FIRST if sure else None


def parsed(text: str, layout: str) -> tuple[str | list[str], str]:
    """(label, or labels of fastText; the text). ValueError for a line that has no label there."""
    if layout == FASTTEXT:
        rest, labels = text.strip(), []
        while rest.startswith(_MARK):
            label, _, rest = rest.partition(" ")
            labels.append(label.removeprefix(_MARK))
            rest = rest.lstrip()
        return _required(labels), rest
    if layout == TREE:
        found = _TREE.match(text)
        return _required(found and text[1]), " ".join(_LEAF.findall(text))
    if layout == AT:
        before, _, label = text.rstrip().rpartition("@")
        return _required(label if before else ""), before
    if layout in (FIRST_CELL, LAST_CELL):
        label, rest = _cells(text, layout)
        return _required(_bare(label)), _required(rest)
    if layout == LAST:
        before, label = [*text.rsplit(maxsplit=1), ""][:2]
        return _required(_bare(label)), before
    label, rest = [*text.split(maxsplit=1), ""][:2]
    return _required(_bare(label)), rest.rstrip()


def line_question(texts: Sequence[str]) -> LineQuestion | None:
    """What these lines look like where they are not prose; None for prose, verse and lists of words."""
    given = [text for text in texts if text.strip()]
    layout = layout_of(given)
    separator = _separator(given) if layout in (None, FIRST, LAST, FIRST_CELL, LAST_CELL) else None
    if separator is not None:
        return _joined(given, separator)
    if layout in (FIRST_CELL, LAST_CELL) and all(len(cells) == 2 for cells in csv.reader(given)):
        return LineQuestion(_WHAT[layout], "data.format=csv")
    if layout is not None:
        return LineQuestion(_WHAT[layout], "data.format=labelled")
    if len(given) >= _SEVERAL and all(len(text.split()) == 1 for text in given) and _are_labels(given, len(given)):
        return LineQuestion("lines that are labels, without a text", "")
    if len(given) >= _FEW and _nearly_all(is_json_list, given):
        return LineQuestion("lines that are lists in JSON", "", 'Write an object on each line: {"text": …, "label": …}')
    if len(given) >= _FEW and _nearly_all(_is_tagged, given):
        return LineQuestion(
            "words each followed by a tag (word/TAG)", "",
            "Write a word and its tag on each line, and a blank line between sentences (CoNLL)",
        )  # fmt: skip
    return None


def _is_tagged(text: str) -> bool:
    words = text.split()
    return len(words) > 1 and all(map(_TAGGED.fullmatch, words))


_WHAT = {
    FASTTEXT: "lines that begin with __label__, as fastText writes them",
    TREE: "parse trees with a number at every node, as in the Stanford Sentiment Treebank",
    AT: "sentences that end in @ and a label",
    FIRST: "lines that begin with a label, as in TREC and SST",
    LAST: "lines that end with a label",
    FIRST_CELL: "lines that begin with a label and a comma",
    LAST_CELL: "lines that end with a comma and a label",
}


def _joined(texts: Sequence[str], separator: str) -> LineQuestion:
    """Two parts per line: a label and a text, or two texts, the second being the answer."""
    spaced = f" {separator} "
    separator = spaced if all(spaced in text for text in texts) else separator
    words = f"data.format=csv {shlex.quote(f'data.delimiter={separator}')}"
    sides = list(zip(*(text.split(separator, 1) for text in texts if separator in text), strict=True))
    if not any(_recur([part.strip() for part in side]) for side in sides):
        rows = [text.split(separator, 1) for text in texts]
        first, second = (shlex.quote(name.strip()) for name in (rows[0] if is_header(rows) else ("column1", "column2")))
        words += f" task=sft data.text={first} data.label={second}"
    return LineQuestion(f"lines of two parts, separated by {separator!r}", words)


def _separator(texts: Sequence[str]) -> str | None:
    if len(texts) < _FEW or _nearly_all(_STAMPED.match, texts):
        return None
    return next((one for one in _SEPARATORS if _nearly_all(partial(_is_cut, one), texts)), None)


def _is_cut(separator: str, text: str) -> bool:
    return text.count(separator) == 1 and all(part.strip() for part in text.split(separator))


def _recur(parts: Sequence[str]) -> bool:
    """Whether these are few short parts that recur: the labels of lines split at a separator."""
    distinct = set(parts)
    enough = len(parts) >= _ROWS_EACH * len(distinct) if len(parts) >= _SEVERAL else len(distinct) <= len(parts) // 2
    return enough and len(distinct) <= _MOST_LABELS and all(len(part.split()) <= _MOST_WORDS for part in distinct)


def _is_first_word_a_label(texts: Sequence[str]) -> bool:
    """False where numbers are amounts (`2 cups of flour`)."""
    behind = [rest for text in texts if (rest := _second(text))]
    amounts = sum(_first(rest).lower().rstrip(".,") in _UNITS for rest in behind)
    words = [_first(text) for text in texts if _second(text)]
    return amounts < _UNIT_SHARE * len(texts) and _are_labels(words, len(texts))


def _cells(text: str, layout: str) -> tuple[str, str]:
    """(label cell, the rest), without surrounding quotes. ("", text) for a line without a comma."""
    before, _, behind = text.strip().partition(",") if layout == FIRST_CELL else text.strip().rpartition(",")
    label, rest = (before, behind) if layout == FIRST_CELL else (behind, before)
    return _unquoted(label), _unquoted(rest)


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _are_cells(texts: Sequence[str], layout: str, *, sure: bool) -> bool:
    """Whether nearly every line has a label before its first comma, or after its last, and a text next to it."""
    cells = [_cells(text, layout) for text in texts]
    labels = [label for label, rest in cells if label and _LETTER.search(rest) and not rest[:3].isdecimal()]
    if len(labels) < _SURELY * len(texts) or not all(map(_SHORT_NUMBER.fullmatch, labels)):
        is_known = len(labels) >= _SURELY * len(texts) and all(label.lower() in _LABEL_WORDS for label in labels)
        return is_known and (sure or _are_labels(labels, len(texts)))
    return sure or _are_labels(labels, len(texts))


def _are_labels(words: Sequence[str], num_lines: int) -> bool:
    """Whether these are few recurring words that can be labels: numbers, words in brackets, known label words."""
    distinct = set(words)
    if len(words) < _SURELY * num_lines or not distinct:
        return False
    if num_lines < _SEVERAL or not 2 <= len(distinct) <= _MOST_LABELS or len(words) < _ROWS_EACH * len(distinct):
        return False
    if all(map(_NUMBER.fullmatch, distinct)):
        return len(distinct) <= _MOST_NUMBERS
    if all(_bare(word).lower() in _LEVELS for word in distinct):
        return False
    return all(map(_BRACKETED.fullmatch, distinct)) or all(
        word.lower().rstrip(":,") in _LABEL_WORDS for word in distinct
    )


def _nearly_all(fits: Callable[[str], object], texts: Sequence[str]) -> bool:
    return sum(bool(fits(text)) for text in texts) >= _SURELY * len(texts)


def _first(text: str) -> str:
    return text.split(maxsplit=1)[0]


def _second(text: str) -> str:
    return text.split(maxsplit=1)[1] if len(text.split(maxsplit=1)) == 2 else ""


def _bare(word: str) -> str:
    """`[joy]`, `joy:` and `#joy` -> `joy`."""
    return word.strip("[]<>#:,") or word


def _required(label: Any) -> Any:
    if not label:
        raise ValueError
    return label
