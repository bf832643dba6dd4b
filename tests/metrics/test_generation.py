"""Scores of written answers, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.metrics.generation import answer_scores, generation_scores, longest_common, words


@pytest.mark.parametrize(
    ("written", "right", "exact", "token_f1", "rouge_l"),
    [
        ("The cat sat.", "The cat sat.", 1, 1, 1),
        (" The cat sat.\n", "The cat sat.", 1, 1, 1),
        ("the cat sat", "The cat sat.", 0, 1, 1),
        ("the cat", "the cat sat down", 0, 2 * 2 / 6, 2 * 2 / 6),
        ("sat cat the", "the cat sat", 0, 1, 2 * 1 / 6),  # the same words, only one of them in order
        ("a a b", "a b b", 0, 2 * 2 / 6, 2 * 2 / 6),
        ("", "", 1, 1, 1),
        ("", "yes", 0, 0, 0),
        ("...", "...", 1, 1, 1),
        ("東京都", "東京", 0, 2 * 2 / 5, 2 * 2 / 5),
    ],
)
def test_scores_of_one_answer(written, right, exact, token_f1, rouge_l):
    found = answer_scores(written, right)
    assert (found.exact, found.token_f1, found.rouge_l) == pytest.approx((exact, token_f1, rouge_l))


def test_means_over_answers():
    assert generation_scores(["a", "b"], ["a", "c"]) == {"exact_match": 0.5, "token_f1": 0.5, "rouge_l": 0.5}
    assert generation_scores([], []) == {}


def test_words():
    assert words("It's 3,5 km — né? 日本") == ["it", "s", "3", "5", "km", "né", "日", "本"]


def plain_longest_common(first: str, second: str) -> int:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_longest_common_is_that_of_the_plain_table(first, second):
    assert longest_common(first, second) == plain_longest_common(first, second)
