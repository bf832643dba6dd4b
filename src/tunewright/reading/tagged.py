"""The first lines of a file -> whether it is CoNLL (a word and its tag a line, blank lines between sentences), and its columns.

'Ulm\\tB-LOC', 'liegt\\tO', '', 'Ja\\tO'      TagLayout(delimiter='\\t', num_columns=2, word=0, tag=1)
'-DOCSTART- -X- O O', 'U.N. NNP I-NP I-ORG'  TagLayout(delimiter=None, num_columns=4, word=0, tag=3)
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.reading.files import Line
from tunewright.reading.names import normalize_name

DOCUMENT = "-DOCSTART-"
NUM_LINES = 5_000
"""Lines in the sample."""
MAX_COLUMNS = 10
_BLANKS = re.compile(r"[ \t]+")
_TYPE_FIRST = r"[^\W\d][\w.&/]*[-_][BIESLUMW]"
_PREFIXED = re.compile(rf"O|[BIESLUMW](?:[-_]\S+)?|{_TYPE_FIRST}")
_TYPED = re.compile(rf"[BIESLUMW][-_]\S+|{_TYPE_FIRST}")
_LONG = re.compile(r"O|[BIESLUMW][-_]\S+")
_COUNT = re.compile(r"[0-9]+(?:[-.][0-9]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:")
_WORD_NAMES = ("word", "words", "token", "tokens", "form")
_COLUMN_NAMES = (*_WORD_NAMES, "id", "lemma", "pos", "upos", "xpos", "feats", "head", "deprel", "deps", "misc", "chunk")
_FEW = 5
_MOST_BARE_TYPES = 200


@dataclass(frozen=True)
class TagLayout:
    """delimiter: a tab, or None for runs of blanks. word / tag: indices of these columns among `num_columns`; tag: None where
    the words have none."""

    delimiter: str | None
    num_columns: int
    word: int
    tag: int | None
    header: str | None = None
    """The first line, where it names the columns."""
    language: str = ""
    """Prefix of every word that is not part of it: `en:` (as in WikiAnn)."""

    def cells(self, text: str) -> list[str]:
        return cells_of(text, self.delimiter)

    @property
    def unused(self) -> list[int]:
        """Numbers, from 1, of the columns that are neither word nor tag."""
        return [place + 1 for place in range(self.num_columns) if place not in (self.word, self.tag)]

    def is_comment(self, text: str) -> bool:
        """Whether the first line of a sentence is a comment: `# id = 7`, but not the word `#` with its tag."""
        if not text.startswith("#"):
            return False
        cells = self.cells(text)
        if self.tag is None:
            return len(cells) != self.num_columns or (self.num_columns == 1 and text.startswith("# "))
        return len(cells) != self.num_columns or not looks_like_tag(cells[self.tag])


def cells_of(text: str, delimiter: str | None) -> list[str]:
    return _BLANKS.split(text.strip(" \t\r\n")) if delimiter is None else text.rstrip("\r\n").split(delimiter)


def is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n")


def is_document_mark(text: str) -> bool:
    return DOCUMENT in text and DOCUMENT in text.split()


def looks_like_tag(cell: str) -> bool:
    return _PREFIXED.fullmatch(cell) is not None


def has_type(tag: str) -> bool:
    """Whether a tag has a type: `B-LOC`, `S_PER`, `LOC-B`."""
    return _TYPED.fullmatch(tag) is not None


def tag_layout(lines: Sequence[Line], *, whole: bool, sure: bool = False) -> TagLayout | None:
    """The columns, or None for another kind of file. sure: the user named the format, so weaker evidence is enough."""
    texts = [text for _, text, fault in lines if fault is None]
    if not sure and not _has_sentences(texts, whole):
        return None
    body = _body(texts)
    for delimiter in ("\t", None):
        rows = [cells_of(text, delimiter) for text in body]
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if not 2 <= width <= MAX_COLUMNS or count < (0.5 if sure else 0.8) * len(rows):
            continue
        columns = list(zip(*(row for row in rows if len(row) == width), strict=True))
        tag = _tag_column(columns, sure)
        if tag is not None:
            word = _word_column(columns, tag)
            header = body[0] if len(rows[0]) == width and _names_columns(rows[0], word, tag) else None
            before = _language(columns[word][header is not None :])
            return TagLayout(delimiter, width, word, tag, header, before)
    return None


def word_layout(lines: Sequence[Line]) -> TagLayout | None:
    """The columns of a file with one word per line and no tags: words alone, or with a number, a part of speech or a lemma.

    None for another kind of file.
    """
    body = _body([text for _, text, fault in lines if fault is None])
    for delimiter, least_width, share in (("\t", 2, 0.5), (None, 1, 0.98), (None, 2, 0.8), ("\t", 1, 0.8)):
        rows = [cells_of(text, delimiter) for text in body]
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if not least_width <= width <= MAX_COLUMNS or count < share * len(rows):
            continue
        if (delimiter, width) == ("\t", 1) and 5 * sum(" " in text.strip() for text in body) > len(body):
            return None  # lines of text
        columns = list(zip(*(row for row in rows if len(row) == width), strict=True))
        word = _word_column(columns, width)
        named = sum(normalize_name(cell) in _COLUMN_NAMES for cell in rows[0])
        header = (
            body[0]
            if 1 < width == len(rows[0]) and normalize_name(rows[0][word]) in _WORD_NAMES and named > 1
            else None
        )
        return TagLayout(delimiter, width, word, None, header, _language(columns[word][header is not None :]))
    return None


def are_words_in_lines(lines: Sequence[Line]) -> bool:
    """Whether the file surely has one word per line: single words in several groups separated by blank lines."""
    texts = [text for _, text, fault in lines if fault is None]
    body = _body(texts)
    groups = [len(list(group)) for blank, group in itertools.groupby(texts, is_blank) if not blank]
    alone = sum(not _BLANKS.search(text.strip()) for text in body)
    return len(groups) > 1 and len(body) >= 3 * len(groups) and alone >= 0.98 * len(body)


def _body(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if not (is_blank(text) or is_document_mark(text) or text.startswith("#"))]


def _language(words: Sequence[str]) -> str:
    """The prefix of every word, `en:`; empty where there are too few words."""
    language = _LANGUAGE.match(words[0]) if len(words) > _FEW else None
    return language[0] if language and all(cell.startswith(language[0]) for cell in words) else ""


def _names_columns(cells: Sequence[str], word: int, tag: int) -> bool:
    return not looks_like_tag(cells[tag]) and (
        normalize_name(cells[word]) in _WORD_NAMES
        or normalize_name(cells[tag]) in ("tag", "tags", "ner", "ner_tag", "ner_tags", "label")
    )


def _has_sentences(texts: Sequence[str], whole: bool) -> bool:
    """Blank lines between lines, or one sentence that is the whole file."""
    body = [number for number, text in enumerate(texts) if not is_blank(text)]
    if not body:
        return False
    return any(later - earlier > 1 for earlier, later in itertools.pairwise(body)) or (whole and len(body) < 1_000)


def _word_column(columns: Sequence[Sequence[str]], tag: int) -> int:
    """The first column that does not count words (1, 2, 3-4, …); where the tags come first, the last such one."""
    places = [place for place in range(len(columns)) if place != tag]
    places = places if tag else places[::-1]
    return next((place for place in places if not all(map(_COUNT.fullmatch, columns[place]))), places[0])


def _tag_column(columns: Sequence[Sequence[str]], sure: bool) -> int | None:
    """The last column with only prefixed tags, else the last or first with O and few other values.

    Of several such columns with types in common (entities within entities) the one with most entities.
    """
    places = [len(columns) - 1, 0, *range(len(columns) - 2, 0, -1)]
    share = 0.5 if sure else 0.98
    tagged = [place for place in places if _is_tagged(columns, place, share)]
    prefixed = [place for place in tagged if any(map(has_type, columns[place]))]
    if prefixed:
        types = _types(columns[prefixed[0]])
        alike = [place for place in prefixed if types & _types(columns[place])]
        return max(alike, key=lambda place: sum(cell != "O" for cell in columns[place]))
    if tagged and sure:
        return tagged[0]
    for place in places[:2]:
        counts = Counter(columns[place])
        few = len(counts) <= min(_MOST_BARE_TYPES, max(2, len(columns[place]) // 5))
        if few and (counts["O"] > 0.3 * len(columns[place])) and len(set(columns[0 if place else -1])) > len(counts):
            return place
    return None


def _is_tagged(columns: Sequence[Sequence[str]], place: int, share: float) -> bool:
    cells, other = columns[place], columns[0 if place else -1]
    num_tags = sum(map(looks_like_tag, cells))
    return num_tags >= share * len(cells) and (
        sum(map(looks_like_tag, other)) < num_tags or len(set(other)) > len(set(cells))
    )


def _types(cells: Sequence[str]) -> set[str]:
    """PER of B-PER and of PER-B."""
    return {cell[2:] if _LONG.fullmatch(cell) else cell[:-2] for cell in cells if has_type(cell)}
