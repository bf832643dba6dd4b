"""Texts in one file and their labels in another, a line each, as TweetEval ships: which file belongs to which.

train_text.txt  train_labels.txt  mapping.txt
label_file_of(Path("train_text.txt"))      Path("train_labels.txt")
names_of_labels(Path("train_labels.txt"))  ("anger", "joy", "optimism", "sadness")
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from tunewright.reading.files import TextFile, without_line_end
from tunewright.reading.names import one_of
from tunewright.reading.options import ReadOptions

AUTO = "auto"
_LABEL_WORDS = one_of("label labels class classes target targets category categories y gold lbl")
_TEXT_WORDS = one_of(
    "text texts sentence sentences sent sents input inputs tweet tweets review reviews data x doc docs documents"
)
_SUFFIXES = ("", ".txt", ".text", ".label", ".labels", ".lbl", ".y", ".class", ".target")
_MAPS = ("mapping", "label_mapping", "labels_mapping", "label_names", "classes", "label_map", "id2label")
_NUMBERED = re.compile(r"([0-9]+)[\t ,:=]+(\S.*)")
_NUM_LINES, _LONGEST_LABEL = 2_000, 64


def label_file_of(texts: Path) -> Path | None:
    """The label file next to `texts`: its name has a label word where `texts` has a text word, and its lines are labels. None without one."""
    if not texts.is_file() or _without(texts, _LABEL_WORDS) != _words(texts):
        return None
    bare = _without(texts, _TEXT_WORDS)
    files = sorted(
        one for one in texts.parent.iterdir() if one.is_file() and one != texts and _is_named_for_labels(one)
    )
    named = [one for one in files if _without(one, _LABEL_WORDS) == bare]
    if (
        not named
        and len(files) == 1
        and not _without(files[0], _LABEL_WORDS)
        and num_lines(files[0]) == num_lines(texts)
    ):
        named = files
    return next((one for one in named if holds_labels(one)), None)


def is_map_of_labels(path: Path) -> bool:
    return path.stem.lower() in _MAPS


def holds_labels(path: Path) -> bool:
    """Short lines, each of which occurs again and again."""
    found = list(itertools.islice(lines_of(path), _NUM_LINES))
    given = [line.strip() for line in found if line.strip()]
    distinct = set(given)
    return (
        len(given) > 1
        and max(map(len, given)) <= _LONGEST_LABEL
        and len(distinct) <= max(2, len(given) // 2)
        and not any(len(line.split()) > 4 for line in distinct)
    )


def num_lines(path: Path) -> int:
    return sum(1 for _ in lines_of(path))


def names_of_labels(labels: Path) -> tuple[str, ...] | None:
    """The names of the labels 0, 1, 2, … from a mapping file next to them: `0 anger` on each line, or one name per line."""
    ids = {line.strip() for line in lines_of(labels)} - {""}
    if not ids or not all(one.isdecimal() for one in ids):
        return None
    for path in sorted(one for one in labels.parent.iterdir() if one.is_file() and is_map_of_labels(one)):
        lines = [line.strip() for line in itertools.islice(lines_of(path), _NUM_LINES) if line.strip()]
        numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
        if len(numbered) == len(lines):
            found = {int(match[1]): match[2] for match in numbered}
            names = tuple(found[number] for number in sorted(found))
            if sorted(found) == list(range(len(found))) and max(map(int, ids)) < len(names):
                return names
        elif not numbered and max(map(int, ids)) < len(lines) == len(set(lines)):
            return tuple(lines)
    return None


def lines_of(path: Path) -> list[str]:
    """The lines without their ends, blank ones included."""
    return [without_line_end(text) for _, text, _ in TextFile(path, str(path), ReadOptions()).lines()]


def _is_named_for_labels(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and bool(_LABEL_WORDS & set(_words(path))) and not is_map_of_labels(path)


def _words(path: Path) -> list[str]:
    name = path.name.lower()
    return [word for word in re.split(r"[._\- ]", name.removesuffix(".txt").removesuffix(".text")) if word]


def _without(path: Path, words: frozenset[str]) -> list[str]:
    return [word for word in _words(path) if word not in words]
