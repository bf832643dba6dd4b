"""Columns and a few rows -> which of them hold words and tags, or a text and its entities; None where there are none.

    ('tokens', 'ner_tags')         Roles(text=('tokens',), label='ner_tags', …)    lists, also stringified
    ('text', 'labels')             Roles(text=('text',), label='labels', …)      'Ulm liegt hier', 'B-LOC O O'
    ('text', 'entities')           Roles(text=('text',), label='entities', …)    [{"start": 0, "end": 3, "label": "LOC"}]
    ('id', 'data', 'annotations')  Roles(text=('data',), label='annotations', …)  a Label Studio export

doccano's JSONL (`label: [[0, 3, "LOC"]]`) and Prodigy's (`spans`, `answer`) are texts with entities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.errors import UserError, quoted
from tunewright.reading.detect import Roles
from tunewright.reading.names import TEXT_TIERS, normalize_name, tier
from tunewright.reading.shares import nearly_all
from tunewright.reading.stringified import are_stringified_lists, stringified_list
from tunewright.reading.tagged import has_type, looks_like_tag
from tunewright.records import Row

_WORDS = ("tokens", "words", "token", "word")
WORD_NAMES = (*_WORDS, "sentence", "text")
TAG_NAMES = ("ner_tags", "ner", "ner_tag", "tags", "labels", "label", "bio_tags", "iob_tags", "entities", "tag")
SPAN_NAMES = ("entities", "spans", "label", "labels", "ner", "annotations", "entity", "ents")
NOT_NER = ("pos", "pos_tags", "upos", "xpos", "chunk_tags", "chunks", "id", "ids", "lemmas", "head", "deprel")
LABEL_STUDIO = ("annotations", "completions")
START_NAMES = (
    "start", "start_offset", "begin", "offset", "startoffset", "start_char", "char_start", "start_idx", "start_position", "from",
)  # fmt: skip
END_NAMES = (
    "end", "end_offset", "stop", "length", "endoffset", "end_char", "char_end", "end_idx", "end_position", "to",
)  # fmt: skip


def entity_roles(
    columns: Sequence[str], rows: Sequence[Row], *, text: tuple[str, ...] = (), label: str | None = None
) -> Roles | None:
    """The roles of the columns; those given are kept. None where the rows have neither tags of words nor entities."""
    if len(text) > 1:
        return None
    rows = _with_lists(columns, rows)
    values = {column: [row.fields[column] for row in rows if row.fields.get(column) is not None] for column in columns}
    is_studio = text in ((), ("data",)) and nearly_all(_is_object, values.get("data", ()))
    for key in LABEL_STUDIO:
        if is_studio and label in (None, key) and nearly_all(_is_task, values.get(key, ())):
            _refuse_choices(values[key], rows[0].source)
            return Roles(("data",), None, key, False, "a Label Studio export")
    for names, is_text, is_label, kind in (
        (TAG_NAMES, _is_words, _is_tags, "words"),
        (SPAN_NAMES, _is_text, _is_spans, "text"),
    ):
        found_label = _pick(
            [label] if label else _label_candidates(columns, values, names, kind), values, names, is_label
        )
        word_names = WORD_NAMES if kind == "words" else ("text", *WORD_NAMES)
        free = [column for column in columns if column != found_label]
        found_text = _pick(list(text) or free, values, word_names, is_text)
        if found_label and found_text and _agree(values[found_text], values[found_label], kind):
            if kind == "words" and label is None:
                _check_no_rival(found_text, found_label, columns, rows)
            reason = f"{kind} {found_text!r} and {'tags' if kind == 'words' else 'entities'} {found_label!r}"
            return Roles((found_text,), None, found_label, False, f"{reason} by their values")
    return _in_one_text(text, label, columns, rows)


def _label_candidates(
    columns: Sequence[str], values: dict[str, list[Any]], names: Sequence[str], kind: str
) -> list[str]:
    """The columns that may hold tags or entities, by name or because their tags have types. Columns of empty lists do not count.

    Words in a column with such a name are types without prefixes where `O` is among them, or where another column is named
    for words.
    """
    filled = [column for column in columns if any(values[column])]
    if kind == "text":
        return filled
    has_words = any(normalize_name(column) in _WORDS for column in columns)
    named = [column for column in filled if normalize_name(column) in names]
    tagged = [column for column in filled if _are_tags_in_rows(values[column])]
    return [column for column in named if has_words or column in tagged or _are_bare_tags(values[column])] or tagged


def _are_bare_tags(values: Sequence[Any]) -> bool:
    """Numbers, or words with `O` among them."""
    tags = {tag for row in values if isinstance(row, list) for tag in row if isinstance(tag, (str, int))}
    return "O" in tags or not any(isinstance(tag, str) for tag in tags)


@dataclass(frozen=True)
class ListReader:
    """How a column of texts becomes a column of lists. note: the line for the user."""

    column: str
    read: Callable[[str], list[Any] | None]
    note: str


def list_readers(rows: Sequence[Row], text: str, label: str | None) -> list[ListReader]:
    """Readers for columns of stringified lists, and for words and tags separated by spaces in one text."""
    values = {column: [row.fields.get(column) for row in rows] for column in (text, label) if column is not None}
    stringified = [column for column, found in values.items() if are_stringified_lists(found)]
    readers = []
    is_tags = label is not None and _are_tags_in_rows(list(map(_cell, values[label])))
    for column, found in values.items():
        given = [value for value in found if value]
        if not given or not all(map(_is_text, given)):
            continue
        if column in stringified:
            if column == label or nearly_all(lambda value: _is_words(stringified_list(value)), given):
                readers.append(ListReader(column, _list_in_cell, f"column {column!r} holds lists written as text"))
        elif is_tags:
            readers.append(ListReader(column, str.split, f"column {column!r} is split at blanks"))
    return readers


def _with_lists(columns: Sequence[str], rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with stringified lists parsed, in columns that hold only such."""
    stringified = [column for column in columns if are_stringified_lists([row.fields.get(column) for row in rows])]
    if not stringified:
        return rows
    return [
        Row(row.source, row.line, {**row.fields, **{c: _cell(row.fields.get(c)) for c in stringified}}) for row in rows
    ]


def _cell(value: Any) -> Any:
    """A stringified list as a list; any other cell unchanged."""
    found = _list_in_cell(value) if isinstance(value, str) else None
    return value if found is None else found


def _list_in_cell(text: str) -> list[Any] | None:
    """The list in a cell; an empty cell is an empty list (no entities)."""
    return stringified_list(text) if text else []


def _are_tags_in_rows(values: Sequence[Any]) -> bool:
    """Whether each holds tags and nothing else, as a list or as a text (`O O B-LOC`), and one of them at least has a type."""
    rows = [value.split() if isinstance(value, str) else value for value in values if value]
    tagged = [row for row in rows if _is_tagged(row)]
    return nearly_all(_is_tagged, rows) and any(has_type(tag) for row in tagged for tag in row)


def _is_tagged(row: Any) -> bool:
    return isinstance(row, list) and all(isinstance(tag, str) and looks_like_tag(tag) for tag in row)


def _in_one_text(text: tuple[str, ...], label: str | None, columns: Sequence[str], rows: Sequence[Row]) -> Roles | None:
    """Roles where words, tags or both are texts split at spaces: equally many words and tags in most rows."""

    def of(column: str) -> list[Any]:
        return [row.fields[column] for row in rows if row.fields.get(column)]

    labels = [column for column in ([label] if label else columns) if _are_tags_in_rows(of(column))]
    found_label = next((column for name in TAG_NAMES for column in labels if normalize_name(column) == name), None)
    found_label = found_label or next(iter(labels), None)
    free = {column: of(column) for column in text or columns if column != found_label}
    found_text = _pick(list(free), free, WORD_NAMES, _is_words) or _pick(
        list(free), free, ("text", *WORD_NAMES), _is_text
    )
    if found_label is None or found_text is None:
        return None
    both = [row.fields for row in rows if row.fields.get(found_text) and row.fields.get(found_label)]
    words, tags = (list(map(_split, (fields[column] for fields in both))) for column in (found_text, found_label))
    if not _agree(words, tags, "words"):
        return None
    if sum(len(row) > 1 for row in words) < len(words) / 10:
        if normalize_name(found_text) in _WORDS:
            raise UserError(
                "each row is one word, and no column numbers the sentences", where=rows[0].source, found=quoted(columns),
                hint="Add a column sentence_id, or write CoNLL (.conll): a word and its tag a line, blank lines between sentences.",
            )  # fmt: skip
        return None
    reason = f"words {found_text!r} and their tags {found_label!r}, split at blanks"
    return Roles((found_text,), None, found_label, False, reason)


def _split(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def input_column(columns: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The column of texts or words to predict on, known by its name or because there is only one."""
    values = {column: [row.fields[column] for row in rows if row.fields.get(column) is not None] for column in columns}
    return _pick(columns, values, WORD_NAMES, _is_words) or _pick(columns, values, ("text", *WORD_NAMES), _is_text)


def _pick(candidates: Sequence[str], values: dict[str, list[Any]], names: Sequence[str], fits: Any) -> str | None:
    """The best-named column whose values fit; a column with another known role only as the single candidate."""
    fitting = [column for column in candidates if nearly_all(fits, values.get(column, ()))]
    if len(candidates) > 1:
        fitting = [column for column in fitting if normalize_name(column) not in NOT_NER]
    named = [column for name in names for column in fitting if normalize_name(column) == name]
    known = [column for column in fitting if tier(TEXT_TIERS, column) is not None] if fits is _is_text else []
    best = named or known or fitting
    return best[0] if best else None


def _agree(texts: Sequence[Any], labels: Sequence[Any], kind: str) -> bool:
    """Whether most rows have a tag for each word; or any row has an entity."""
    if kind == "words":
        pairs = [(a, b) for a, b in zip(texts, labels, strict=False) if isinstance(a, list) and isinstance(b, list)]
        return 2 * sum(len(a) == len(b) for a, b in pairs) > len(texts)
    return any(labels)


def _check_no_rival(words: str, tags: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Raises UserError where two columns of tags are equally good."""
    named = [column for column in columns if normalize_name(column) in TAG_NAMES]
    rival = [
        column
        for column in columns
        if column not in (words, tags, *named)
        and normalize_name(column) not in NOT_NER
        and rows
        and all(_is_tags(row.fields.get(column)) for row in rows)
        and all(len(row.fields[column]) == len(row.fields[words]) for row in rows)
    ]
    if rival and normalize_name(tags) not in TAG_NAMES:
        raise UserError(
            "more than one column could hold the tags",
            where=rows[0].source,
            found=quoted([tags, *rival]),
            hint="Set data.label to the one to learn.",
        )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_tags(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return all(isinstance(tag, str) for tag in value) or all(type(tag) is int for tag in value)


def _is_spans(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_span, value))


def is_span(value: Any) -> bool:
    """`[start, end, label]` or an object with a start and an end."""
    if isinstance(value, list | tuple):
        return len(value) >= 3 and type(value[0]) is int and type(value[1]) is int and isinstance(value[2], str)
    if not isinstance(value, dict):
        return False
    keys = {normalize_name(str(key)) for key in value}
    return any(name in keys for name in START_NAMES) and any(name in keys for name in END_NAMES)


def _refuse_choices(values: Sequence[Any], where: str) -> None:
    """UserError where an export has classes of texts and no entities."""
    results = [one for value in values for annotation in value for one in annotation.get("result") or ()]
    kinds = {one.get("type") for one in results if isinstance(one, dict)}
    if "choices" in kinds and not kinds & {"labels", "hypertextlabels"}:
        raise UserError(
            "a Label Studio export of choices", where=where, expected="entities; classes are read from tables",
            hint="Export it as CSV or JSON-MIN: a column of texts and one of choices.",
        )  # fmt: skip


def _is_task(value: Any) -> bool:
    """The annotations of a Label Studio task."""
    return isinstance(value, list) and all(isinstance(one, dict) and "result" in one for one in value)
