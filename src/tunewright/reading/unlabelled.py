"""Columns and a few rows -> the text column for tasks that learn from text alone.

text_roles(("review", "sentiment"), rows, source="reviews.csv")     (("review",), "text 'review' by its name")
is_lone_text(("text",), rows)                                       True
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from tunewright.errors import UserError
from tunewright.reading.detect import detect_roles, detect_text, find_column, is_prose, mean_length
from tunewright.reading.labelled_lines import line_question
from tunewright.reading.names import normalize_name
from tunewright.records import Row


def text_roles(
    columns: Sequence[str], rows: Sequence[Row], *, source: str, text: Sequence[str] = ()
) -> tuple[tuple[str, ...], str]:
    """(text columns, how they were detected). UserError where they are unclear."""
    if text:
        for name in text:
            find_column(name, columns, where=source, key="data.text")
        return tuple(text), "text as named"
    try:
        roles = detect_roles(columns, rows)
    except UserError:  # what the label is does not matter here
        found, how = detect_text(columns, rows)
        return (found,), how
    return roles.text, roles.reason.partition(", ")[0]


def is_lone_text(columns: Sequence[str], rows: Sequence[Row]) -> bool:
    """Whether there is a text column and nothing to predict from it."""
    if rows and "paragraphs" in columns and isinstance(rows[0].fields.get("paragraphs"), list):
        raise UserError(
            "nested SQuAD articles are not supported", where=rows[0].source,
            hint="Write one object for each question: context, question, answer.",
        )  # fmt: skip
    try:
        roles = detect_roles(columns, rows)
    except UserError:
        return False
    if roles.label is not None or roles.pair is not None or len(roles.text) > 1:
        return False
    return not any(_is_annotated(column, rows) or _is_rival(column, roles.text[0], rows) for column in columns)


_EOU = re.compile(r"(?s:.*?)__eou__")
_FEW = 5


def refuse_other_lines(rows: Sequence[Row], *, is_text_file: bool) -> None:
    """UserError where the lines of a text do not look like prose: names both readings and the config words for each.

    is_text_file: `data.format` can say how its lines are read.
    """
    texts = [text for row in rows if isinstance(text := row.fields.get("text"), str)]
    if not texts:
        return
    where, raw_lines = rows[0].source, "or learn the raw lines with task=mlm or task=clm."
    if len(texts) >= _FEW and all(map(_EOU.match, texts)):
        hint = f"Write JSON lines of `messages`, a role and a content each; {raw_lines}"
        raise UserError("turns of a conversation joined by __eou__", where=where, hint=hint)
    question = line_question(texts)
    if question is None:
        return
    if question.hint:
        hint = f"{question.hint}; {raw_lines}"
    elif not question.words:
        hint = f"Name the file of the texts, and this one with data.label_file={shlex.quote(where)}; {raw_lines}"
    elif is_text_file:
        hint = f"{question.words} reads them as such; {raw_lines}"
    else:
        hint = f"Write the label into a field of its own; {raw_lines}"
    raise UserError(question.what, where=where, found=repr(texts[0][:80]), hint=hint)


def _is_annotated(column: str, rows: Sequence[Row]) -> bool:
    """Whether a column holds annotations of the text, in any shape."""
    return normalize_name(column) in _ANNOTATIONS and any(
        isinstance(row.fields.get(column), (list, dict)) for row in rows
    )


def _is_rival(column: str, text: str, rows: Sequence[Row]) -> bool:
    """Whether it is another column of prose of similar length, such as an answer. Titles do not count."""
    if column == text or normalize_name(column) in _HEADS or not is_prose([row.fields.get(column) for row in rows]):
        return False
    return _ABOUT * mean_length(rows, column) >= mean_length(rows, text)


_ABOUT = 4
_HEADS = {"title", "headline", "subject", "section", "chapter", "source", "url", "author", "name", "meta", "metadata"}
_ANNOTATIONS = {
    "entities", "spans", "ents", "ner", "ner_tags", "annotations", "annotation", "cats", "label", "labels", "tags",
}  # fmt: skip
