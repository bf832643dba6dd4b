"""Columns and a few rows -> the column to read where nothing but text is learned from, labels or not.

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
from tunewright.reading.names import plain
from tunewright.records import Row


def text_roles(
    columns: Sequence[str], rows: Sequence[Row], *, source: str, text: Sequence[str] = ()
) -> tuple[tuple[str, ...], str]:
    """(columns that hold the text, how they were found). UserError where they cannot be told."""
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
    """Is there a text and nothing that could be learned about it?"""
    if rows and "paragraphs" in columns and isinstance(rows[0].fields.get("paragraphs"), list):
        raise UserError(
            "articles with paragraphs of questions, as SQuAD nests them", where=rows[0].source,
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
    """UserError where the lines of a text look like something else than prose: both readings, and the words for each.

    is_text_file: `data.format` can say how its lines are read.
    """
    texts = [text for row in rows if isinstance(text := row.fields.get("text"), str)]
    if not texts:
        return
    where, as_they_stand = rows[0].source, "task=mlm (or clm) learns the lines as they are."
    if len(texts) >= _FEW and all(map(_EOU.match, texts)):
        hint = f"Write JSON lines of `messages`, a role and a content each; {as_they_stand}"
        raise UserError("turns of a conversation joined by __eou__", where=where, hint=hint)
    question = line_question(texts)
    if question is None:
        return
    if question.hint:
        hint = f"{question.hint}; {as_they_stand}"
    elif not question.words:
        hint = f"Name the file of the texts, and this one with data.label_file={shlex.quote(where)}; {as_they_stand}"
    elif is_text_file:
        hint = f"{question.words} reads them so; {as_they_stand}"
    else:
        hint = f"Write the label into a field of its own; {as_they_stand}"
    raise UserError(question.what, where=where, found=repr(texts[0][:80]), hint=hint)


def _is_annotated(column: str, rows: Sequence[Row]) -> bool:
    """Does a column hold what was said about the text, in whatever shape? Then it is not for its words alone."""
    return plain(column) in _ANNOTATIONS and any(isinstance(row.fields.get(column), (list, dict)) for row in rows)


def _is_rival(column: str, text: str, rows: Sequence[Row]) -> bool:
    """Is it another column of prose about as long, such as an answer? Titles stand beside a text and are less than it."""
    if column == text or plain(column) in _HEADS or not is_prose([row.fields.get(column) for row in rows]):
        return False
    return _ABOUT * mean_length(rows, column) >= mean_length(rows, text)


_ABOUT = 4
_HEADS = {"title", "headline", "subject", "section", "chapter", "source", "url", "author", "name", "meta", "metadata"}
_ANNOTATIONS = {
    "entities", "spans", "ents", "ner", "ner_tags", "annotations", "annotation", "cats", "label", "labels", "tags",
}  # fmt: skip
