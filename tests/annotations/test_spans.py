"""Character spans: checked, freed of overlaps, recounted from UTF-16, laid on units and read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.annotations.spans import (
    Span,
    characters_of,
    checked,
    join_words,
    lay_on_units,
    stored_offsets,
    without_overlaps,
)
from tunewright.errors import RowError

TEXT = "The unhappy Ann-Marie"
STARTS, ENDS = np.array([0, 4, 12, 15, 16]), np.array([3, 11, 15, 16, 21])  # The unhappy Ann - Marie


def test_words_stand_in_their_text():
    text, places = join_words(["Ulm", "", "ist", "\U0001f600"])
    assert text == "Ulm  ist \U0001f600"
    assert places.tolist() == [[0, 3], [4, 4], [5, 8], [9, 10]]


def test_spans_are_sorted_once_and_trimmed():
    spans = [Span(12, 21, "PER"), Span(3, 11, "X"), Span(12, 21, "PER")]
    assert checked(spans, TEXT) == ([Span(4, 11, "X"), Span(12, 21, "PER")], 2)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (Span(0, 22, "X"), "the span 0:22 'X' lies outside the text of 21 characters"),
        (Span(-1, 2, "X"), "the span -1:2 'X' lies outside the text of 21 characters"),
        (Span(5, 4, "X"), "the span 5:4 'X' lies outside the text of 21 characters"),
        (Span(4, 4, "X"), "the span 4:4 'X' holds no character"),
        (Span(3, 4, "X"), "the span 3:4 'X' holds white space only"),
    ],
)
def test_spans_that_cannot_be_are_refused(span, reason):
    with pytest.raises(RowError) as caught:
        checked([span], TEXT)
    assert caught.value.reason == reason


def test_overlaps_are_refused_or_the_longest_kept():
    nested = [Span(12, 21, "PER"), Span(12, 15, "GIVEN"), Span(16, 21, "GIVEN"), Span(0, 3, "X")]
    with pytest.raises(RowError, match=r"12:15 'GIVEN' and 12:21 'PER' overlap; set task\.overlaps=longest"):
        without_overlaps(nested, "refuse")
    kept, dropped = without_overlaps(nested, "longest")
    assert kept == [Span(0, 3, "X"), Span(12, 21, "PER")]
    assert dropped == [Span(12, 15, "GIVEN"), Span(16, 21, "GIVEN")]
    assert without_overlaps([Span(0, 3, "X"), Span(3, 5, "X")], "refuse")[1] == []


def test_a_span_that_fits_its_units_is_exact():
    laid = lay_on_units([Span(4, 11, "A"), Span(12, 21, "B")], STARTS, ENDS)
    assert laid.spans == (Span(1, 2, "A"), Span(2, 5, "B"))
    assert (laid.moved, laid.lost) == ((), ())
    assert characters_of(laid.spans, STARTS, ENDS) == [Span(4, 11, "A"), Span(12, 21, "B")]


def test_a_span_that_cuts_a_unit_grows_or_is_lost():
    happy = Span(6, 11, "MOOD")
    grown = lay_on_units([happy], STARTS, ENDS, how="expand")
    assert (grown.spans, grown.moved, grown.lost) == ((Span(1, 2, "MOOD"),), (happy,), ())
    strict = lay_on_units([happy], STARTS, ENDS, how="strict")
    assert (strict.spans, strict.moved, strict.lost) == ((), (), (happy,))


def test_of_two_in_one_unit_the_longer_gets_it():
    short, long, other = Span(4, 6, "A"), Span(6, 11, "B"), Span(12, 15, "C")
    laid = lay_on_units([short, long, other], STARTS, ENDS)
    assert laid.spans == (Span(1, 2, "B"), Span(2, 3, "C"))
    assert (laid.moved, laid.lost) == ((long,), (short,))


def test_a_span_without_units_is_lost():
    assert lay_on_units([Span(3, 4, "A")], STARTS, ENDS).lost == (Span(3, 4, "A"),)
    assert lay_on_units([Span(0, 3, "A")], STARTS[:0], ENDS[:0]).lost == (Span(0, 3, "A"),)


def test_utf16_offsets_are_told_by_the_stored_text():
    text = "\U0001f600 Ulm \U0001f600 Rio"  # in UTF-16 the faces take two places each
    ours = [Span(2, 5, "LOC"), Span(8, 11, "LOC")]
    theirs = [Span(3, 6, "LOC"), Span(10, 13, "LOC")]
    assert stored_offsets(text, ours, ["Ulm", "Rio"]) == (ours, False)
    assert stored_offsets(text, theirs, ["Ulm", None]) == (ours, True)
    assert stored_offsets(text, theirs, [None, None]) == (theirs, False)
    with pytest.raises(RowError, match=r"3:6 'LOC' should hold 'Bonn' but the text has 'lm '"):
        stored_offsets(text, theirs[:1], ["Bonn"])
    assert stored_offsets("a\nb", [Span(0, 3, "X")], ["a\\nb"]) == ([Span(0, 3, "X")], False)


@given(st.text(min_size=1, max_size=20), st.data())
def test_utf16_offsets_survive(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    span = Span(start, data.draw(st.integers(start + 1, len(text))), "X")
    wide = [len(text[:place].encode("utf-16-le", "surrogatepass")) // 2 for place in span[:2]]
    found, recounted = stored_offsets(text, [Span(*wide, "X")], [text[slice(*span[:2])]])
    assert text[slice(*found[0][:2])] == text[slice(*span[:2])]
    assert recounted or wide == list(found[0][:2])
