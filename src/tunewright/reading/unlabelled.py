"""Columns and a few rows -> the column to read where nothing but text is learned from, labels or not.

text_roles(("review", "sentiment"), rows, source="reviews.csv")     (("review",), "text 'review' by its name")
is_lone_text(("text",), rows)                                       True
"""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.errors import UserError
from tunewright.reading.detect import detect_roles, detect_text, find_column
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
    texts = [row.fields.get("text") for row in rows]
    if texts and all(isinstance(text, str) and text.startswith("__label__") for text in texts):
        raise UserError(
            "lines that begin with __label__, as fastText writes them", where=rows[0].source,
            mend="Write a table: label<tab>text on each line, with the suffix .tsv.",
        )  # fmt: skip
    if rows and "paragraphs" in columns and isinstance(rows[0].fields.get("paragraphs"), list):
        raise UserError(
            "articles with paragraphs of questions, as SQuAD nests them", where=rows[0].source,
            mend="Write one object for each question: context, question, answer.",
        )  # fmt: skip
    try:
        roles = detect_roles(columns, rows)
    except UserError:
        return False
    lone = roles.label is None and roles.pair is None and len(roles.text) == 1
    return lone and not any(_is_annotated(column, rows) for column in columns)


def _is_annotated(column: str, rows: Sequence[Row]) -> bool:
    """Does a column hold what was said about the text, in whatever shape? Then it is not for its words alone."""
    return plain(column) in _ANNOTATIONS and any(isinstance(row.fields.get(column), (list, dict)) for row in rows)


_ANNOTATIONS = {
    "entities", "spans", "ents", "ner", "ner_tags", "annotations", "annotation", "cats", "label", "labels", "tags",
}  # fmt: skip
