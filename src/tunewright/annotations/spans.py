"""Character spans of a text: checked, freed of overlaps, aligned to the units of a tokenizer and read back.

    text "in Ulm.", spans [Span(3, 6, "LOC")], units in · Ulm · .      ->  Span(1, 2, "LOC") over units  ->  Span(3, 6, "LOC")

A unit gets one label: a word, or a token where every token is labelled. Offsets count characters as Python does.
Array suffixes: U units.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tunewright.errors import RowError

JOINER = " "
"""Between the words of a row that has words and no text."""


class Span(NamedTuple):
    """`[start, end)` of a text or of a row of units, and its label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Laid:
    """Spans aligned to units. spans: over units. lost: dropped spans, which got no unit. moved: spans that grew to whole units."""

    spans: tuple[Span, ...]
    moved: tuple[Span, ...] = ()
    lost: tuple[Span, ...] = ()


def join_words(words: Sequence[str]) -> tuple[str, np.ndarray]:
    """The words with one space between them, and int32 `(words, 2)`: start and end of each."""
    lengths = np.fromiter(map(len, words), np.int32, len(words))
    starts = np.cumsum(lengths + len(JOINER)) - lengths - len(JOINER)
    return JOINER.join(words), np.stack([starts, starts + lengths], axis=1).astype(np.int32)


def characters_of(spans: Iterable[Span], starts_U: np.ndarray, ends_U: np.ndarray) -> list[Span]:
    """Spans of units -> spans of characters."""
    return [Span(int(starts_U[span.start]), int(ends_U[span.end - 1]), span.label) for span in spans]


def checked(spans: Iterable[Span], text: str) -> tuple[list[Span], int]:
    """(spans sorted, without duplicates and without white space at their ends; how many were changed by that).

    RowError for a span outside the text, without a character, or of white space alone.
    """
    found, changed = set(), 0
    for span in spans:
        name = f"the span {span.start}:{span.end} {span.label!r}"
        if not 0 <= span.start <= span.end <= len(text):
            raise RowError(f"{name} lies outside the text of {len(text)} characters")
        inner = text[span.start : span.end]
        if not inner.strip():
            raise RowError(f"{name} holds no character" if not inner else f"{name} holds white space only")
        start = span.start + len(inner) - len(inner.lstrip())
        trimmed = Span(start, start + len(inner.strip()), span.label)
        changed += trimmed != span or trimmed in found
        found.add(trimmed)
    return sorted(found), changed


def without_overlaps(spans: Sequence[Span], how: str) -> tuple[list[Span], list[Span]]:
    """(kept, dropped), both sorted. how: `refuse` raises RowError, `longest` keeps the longest, of equals the first."""
    ordered = sorted(spans)
    clash = next(((a, b) for a, b in itertools.pairwise(ordered) if b.start < a.end), None)
    if clash is None:
        return ordered, []
    if how == "refuse":
        (a, b) = clash
        raise RowError(
            f"the spans {a.start}:{a.end} {a.label!r} and {b.start}:{b.end} {b.label!r} overlap;"
            " set task.overlaps=longest to keep the longer one"
        )
    kept: list[Span] = []
    for span in sorted(ordered, key=lambda span: (span.start - span.end, span)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept), sorted(set(ordered) - set(kept))


def lay_on_units(spans: Sequence[Span], starts_U: np.ndarray, ends_U: np.ndarray, *, how: str = "expand") -> Laid:
    """Character spans, sorted and without overlaps -> spans of units. `how`: what happens to a span that covers part of a unit.

    expand: it takes the whole unit; where two want the same unit the longer span gets it and the other is lost.
    strict: it is lost.
    """
    firsts = np.searchsorted(ends_U, [span.start for span in spans], side="right")
    lasts = np.searchsorted(starts_U, [span.end for span in spans], side="left")
    laid: list[tuple[Span, Span]] = []
    moved, lost = [], []
    for span, first, last in zip(spans, firsts.tolist(), lasts.tolist(), strict=True):
        exact = first < last and starts_U[first] == span.start and ends_U[last - 1] == span.end
        if first >= last or (how == "strict" and not exact):
            lost.append(span)
            continue
        if laid and laid[-1][1].end > first:
            before = laid[-1][0]
            if before.end - before.start >= span.end - span.start:
                lost.append(span)
                continue
            lost.append(laid.pop()[0])
        laid.append((span, Span(first, last, span.label)))
    for span, over in laid:
        if starts_U[over.start] != span.start or ends_U[over.end - 1] != span.end:
            moved.append(span)
    return Laid(tuple(over for _, over in laid), tuple(moved), tuple(lost))


def stored_offsets(text: str, spans: Sequence[Span], stored: Sequence[str | None]) -> tuple[list[Span], bool]:
    """Offsets as stored in the file -> (spans in characters, whether the file counted UTF-16 units).

    stored: the text that the file has for each span, None without one. Offsets are characters where these texts match, else
    UTF-16 units (as JavaScript counts). RowError where neither matches.
    """
    wrong = next((pair for pair in zip(spans, stored, strict=True) if not _holds(text, *pair)), None)
    if wrong is None:
        return list(spans), False
    if not text.isascii():
        places = _utf16_places(text)
        recounted = [_recounted(span, places) for span in spans]
        if all(span and _holds(text, span, held) for span, held in zip(recounted, stored, strict=True)):
            return [span for span in recounted if span], True
    span, held = wrong
    raise RowError(
        f"the span {span.start}:{span.end} {span.label!r} should hold {held!r:.60} but the text has"
        f" {text[max(span.start, 0) : max(span.end, 0)]!r:.60} there"
    )


def _holds(text: str, span: Span, held: str | None) -> bool:
    if held is None:
        return True
    found = text[max(span.start, 0) : max(span.end, 0)]
    return found == held or found == held.replace("\\n", "\n")  # Label Studio escapes line breaks in it


def _utf16_places(text: str) -> dict[int, int]:
    """UTF-16 offset -> character offset, for every place between two characters."""
    wide = np.fromiter((1 + (character > "\uffff") for character in text), np.int64, len(text))
    return {int(place): number for number, place in enumerate(np.concatenate([[0], np.cumsum(wide)]))}


def _recounted(span: Span, places: dict[int, int]) -> Span | None:
    if span.start not in places or span.end not in places:
        return None  # within a surrogate pair, or outside
    return Span(places[span.start], places[span.end], span.label)
