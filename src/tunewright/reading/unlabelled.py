"""Columns and a few rows -> the column to read where nothing but text is learned from, labels or not.

text_roles(("review", "sentiment"), rows, source="reviews.csv")     (("review",), "text 'review' by its name")
is_lone_text(("text",), rows)                                       True
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunewright.errors import UserError
from tunewright.reading.detect import detect_roles, detect_text, find_column, is_prose, mean_length
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
    _refuse_marked(columns, rows)
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


_TABLE = "Write a table: label<tab>text on each line, with the suffix .tsv."
_MARKED = {
    "lines that begin with __label__, as fastText writes them": (r"__label__\S+", _TABLE),
    "parse trees with a number at every node, as in the Stanford Sentiment Treebank": (r"\([0-9] (?=\()", _TABLE),
    "questions behind their type (DESC:manner), as in TREC": (r"(ABBR|DESC|ENTY|HUM|LOC|NUM):[a-z]+ ", _TABLE),
    "sentences that end in @ and a judgement": (r"(?s:.*)@(positive|negative|neutral)\s*\Z", _TABLE),
    "turns of a conversation joined by __eou__": (
        r"(?s:.*?)__eou__",
        "Write JSON lines of `messages`, a role and a content each.",
    ),
}
"""What stands in every line of a file of texts -> how to write it so that it is read."""
_FEW = 5


def _refuse_marked(columns: Sequence[str], rows: Sequence[Row]) -> None:
    texts = [row.fields.get("text") for row in rows]
    if list(columns) != ["text"] or len(texts) < _FEW:
        return
    for what, (mark, mend) in _MARKED.items():
        if all(isinstance(text, str) and re.match(mark, text) for text in texts):
            raise UserError(
                what, where=rows[0].source, mend=f"{mend} Or name the task that learns the lines as they stand."
            )


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
