"""Columns and a few rows -> the column to read where nothing but text is learned from, labels or not.

text_roles(("review", "sentiment"), rows, source="reviews.csv")     (("review",), "text 'review' by its name")
is_lone_text(("text",), rows)                                       True
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tunewright.errors import UserError
from tunewright.reading.detect import detect_roles, detect_text, find_column, is_prose
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
    marked = next((what for what, marks in _MARKED.items() if _all_marked(texts, *marks)), None)
    if marked is not None:
        raise UserError(
            marked, where=rows[0].source,
            mend="Write a table: label<tab>text on each line, with the suffix .tsv. Or name the task that learns the lines as they stand.",
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
    if roles.label is not None or roles.pair is not None or len(roles.text) > 1:
        return False
    return not any(_is_annotated(column, rows) or _is_rival(column, roles.text[0], rows) for column in columns)


_MARKED = {
    "lines that begin with __label__, as fastText writes them": (r"__label__\S+", 1_000),
    "parse trees with a number at every node, as in the Stanford Sentiment Treebank": (r"\([0-9] (?=\()", 10),
    "lines that begin with a label and its subtype (DESC:manner)": (r"[A-Z]{2,8}:[a-z]+ ", 100),
    "lines that end in @ and a label": (r"(?s:.*)@(?=[A-Za-z]+\s*\Z)", None),
    "turns of a conversation joined by __eou__": (r"(?s:.*?)__eou__", None),
}
"""What stands in every line, and how many different ones there may be: what a whole file so made is."""
_FEW = 5


def _all_marked(texts: Sequence[Any], mark: str, most: int | None) -> bool:
    found = [re.match(mark, text) if isinstance(text, str) else None for text in texts]
    if len(texts) < _FEW or None in found:
        return False
    return most is None or len({one[0] for one in found if one}) <= most


def _is_annotated(column: str, rows: Sequence[Row]) -> bool:
    """Does a column hold what was said about the text, in whatever shape? Then it is not for its words alone."""
    return plain(column) in _ANNOTATIONS and any(isinstance(row.fields.get(column), (list, dict)) for row in rows)


def _is_rival(column: str, text: str, rows: Sequence[Row]) -> bool:
    """Is it another column of prose, such as an answer? Titles stand beside a text and are less than it."""
    return column != text and plain(column) not in _HEADS and is_prose([row.fields.get(column) for row in rows])


_HEADS = {"title", "headline", "subject", "section", "chapter", "source", "url", "author", "name", "meta", "metadata"}
_ANNOTATIONS = {
    "entities", "spans", "ents", "ner", "ner_tags", "annotations", "annotation", "cats", "label", "labels", "tags",
}  # fmt: skip
