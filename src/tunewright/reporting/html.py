"""Small HTML for notebooks: tables, and texts with their entities coloured. Everything is escaped; no script, no style sheet.

table(["row", "label"], [["train[17]", "good"]], title="test")      '<table>…'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_COLOURS = ("#cfe8fc", "#fde2c8", "#d8f2d0", "#f6d3e4", "#e5dcf7", "#fbf3c0", "#d0efec", "#e8e2d8")
_CELL = "text-align:left;vertical-align:top;padding:2px 10px 2px 0"
_LONGEST = 300


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> str:
    """A table of cells. `Markup` is inserted unescaped; numbers have four decimals."""
    top = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{_cell(value)}</td>' for value in row) + "</tr>" for row in rows
    )
    caption = (
        f'<caption style="text-align:left;font-weight:bold;white-space:nowrap">{escape(title)}</caption>'
        if title
        else ""
    )
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


class Markup(str):
    """HTML that was generated here."""


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        return f"{value:.4f}"
    return escape(shortened("" if value is None else str(value)))


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def with_entities(text: str, entities: Iterable[tuple[int, int, str]]) -> Markup:
    """A text with coloured spans `(start, end, label)`, given in order: one colour per label."""
    parts, at = list[str](), 0
    for start, end, label in entities:
        colour = _COLOURS[sum(label.encode()) % len(_COLOURS)]
        mark = f'<mark style="background:{colour};color:#000">{escape(text[start:end])} <small><b>{escape(label)}</b></small></mark>'
        parts += [escape(text[at:start]), mark]
        at = max(at, end)
    return Markup("".join([*parts, escape(text[at:])]))


def with_tokens(tokens: Iterable[str]) -> Markup:
    """Tokens, each in its own frame."""
    return Markup(
        " ".join(f'<code style="border:1px solid #bbb;padding:0 2px">{escape(token)}</code>' for token in tokens)
    )
