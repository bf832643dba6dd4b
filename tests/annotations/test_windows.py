"""Windows over long texts: every token in one, with context, and what they say put together in order."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunewright.annotations.windows import Window, windows_of


def test_a_text_that_fits_is_one_window():
    assert windows_of(6, 6, 2, np.arange(6)) == [Window(0, 6, 0, 6)]
    assert windows_of(0, 6, 2, np.arange(0)) == [Window(0, 0, 0, 0)]


def test_by_hand():
    assert windows_of(10, 6, 4, np.arange(10)) == [
        Window(0, 6, 0, 4), Window(2, 8, 4, 6), Window(4, 10, 6, 10),
    ]  # fmt: skip
    assert windows_of(10, 6, 0, np.arange(10)) == [Window(0, 6, 0, 6), Window(6, 10, 6, 10)]


def test_edges_stand_before_words():
    cuts = np.array([0, 3, 4, 7, 8])  # words of 3, 1, 3, 1, 2 tokens
    assert windows_of(10, 6, 2, cuts) == [Window(0, 4, 0, 3), Window(2, 8, 3, 4), Window(4, 10, 4, 10)]


def test_a_word_longer_than_the_room_is_cut_within():
    assert windows_of(9, 4, 0, np.array([0])) == [Window(0, 4, 0, 4), Window(4, 8, 4, 8), Window(8, 9, 8, 9)]


@st.composite
def cases(draw):
    lengths = draw(st.lists(st.integers(1, 9), max_size=40))
    room = draw(st.integers(1, 20))
    return (
        sum(lengths),
        room,
        draw(st.integers(0, room - 1)),
        np.cumsum([0, *lengths[:-1]]) if lengths else np.arange(0),
    )


@given(cases())
def test_every_token_belongs_to_one_window_that_holds_it(case):
    num_tokens, room, overlap, cuts = case
    windows = windows_of(num_tokens, room, overlap, cuts)
    assert [one.first for one in windows] + [num_tokens] == [0] + [one.last for one in windows]
    for one in windows:
        assert 0 <= one.start <= one.first <= one.last <= one.end <= num_tokens
        assert one.end - one.start <= room
    for before, after in itertools.pairwise(windows):
        assert before.start < after.start <= before.end < after.end
        assert before.end - after.start >= overlap or after.start == before.start + 1
    own = [np.arange(one.start, one.end)[one.first - one.start : one.last - one.start] for one in windows]
    assert [token for tokens in own for token in tokens] == list(range(num_tokens))


@given(st.integers(1, 400), st.integers(8, 40))
def test_a_token_far_from_the_ends_has_context_on_both_sides(num_tokens, room):
    overlap = room // 4
    for one in windows_of(num_tokens, room, overlap, np.arange(num_tokens)):
        assert one.start == 0 or one.first - one.start >= overlap // 2
        assert one.end == num_tokens or one.end - one.last >= overlap // 2
