"""Decoding to legal tags: by hand, and against trying every sequence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tunewright.annotations.tags import spans_of_tags
from tunewright.annotations.transitions import best_sequences, count_pairs, legal_transitions, transition_scores
from tunewright.errors import RowError

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def decoded(rows, tags=TAGS, scheme="IOB2"):
    paths = best_sequences([np.array(row) for row in rows], transition_scores(legal_transitions(tags, scheme)))
    return [[tags[tag] for tag in path] for path in paths]


def test_by_hand():
    alone = [[0.4, 0.1, 0.5, 0.0, 0.0]]
    assert decoded([alone]) == [["O"]]
    # I-PER 0.9 pulls its neighbour: B-PER I-PER is worth 0.3 · 0.9, O O only 0.6 · 0.1
    assert decoded([[[0.6, 0.3, 0.1, 0, 0], [0.1, 0, 0.9, 0, 0]]]) == [["B-PER", "I-PER"]]
    # another type may not go on: B-PER B-LOC 0.8 · 0.3 against B-LOC I-LOC 0.1 · 0.6
    assert decoded([[[0.1, 0.8, 0, 0.1, 0], [0.1, 0, 0, 0.3, 0.6]]]) == [["B-PER", "B-LOC"]]


def test_certain_and_empty_rows():
    assert decoded([[], [[0, 1.0, 0, 0, 0]], np.zeros((0, 5))]) == [[], ["B-PER"], []]
    assert decoded([[[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]])[0] in (["O", "O"], ["O", "B-PER"], ["B-PER", "I-PER"])


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES"])
def test_it_finds_what_trying_everything_finds(scheme):
    tags = TAGS if scheme == "IOB2" else ["O", "B-PER", "I-PER", "E-PER", "S-PER"]
    rng = np.random.default_rng(3)
    rows = [rng.dirichlet(np.full(5, 0.5), size=length) for length in rng.integers(1, 6, size=90)]
    for row, found in zip(rows, decoded(rows, tags, scheme), strict=True):
        best, score = None, -1.0
        for sequence in itertools.product(range(5), repeat=len(row)):
            product = float(np.prod([row[unit, tag] for unit, tag in enumerate(sequence)]))
            if product > score:
                try:
                    spans_of_tags([tags[tag] for tag in sequence], scheme)
                except RowError:
                    continue
                best, score = [tags[tag] for tag in sequence], product
        assert found == best


def test_pairs_are_counted_within_rows():
    rows = [np.array(row) for row in ([0, 1, 2, 2], [], [3], [0, 1], [0, -100, 2, 1])]
    counts = count_pairs(rows, 5)
    assert {(a, b): counts[a, b] for a, b in np.argwhere(counts).tolist()} == {
        (0, 1): 2,
        (1, 2): 1,
        (2, 2): 1,
        (2, 1): 1,
    }
    assert count_pairs([], 5).sum() == count_pairs([np.array([4])], 5).sum() == 0


def test_what_training_has_seen_counts_by_hand():
    """30 times O O, 10 times O B-PER, 10 times B-PER O; I-PER never. P(O) = 41/53, P(B-PER) = 11/53."""
    tags = TAGS[:3]
    scores = transition_scores(legal_transitions(tags), [(0, 0, 30), (0, 1, 10), (1, 0, 10)], 0.5)
    assert scores[0, 1] == pytest.approx(0.5 * np.log((10 / (11 / 53) + 10) / (40 + 10)))
    assert scores[1, 1] == pytest.approx(0.5 * np.log(10 / (10 + 10)))
    assert scores[2, :3] == pytest.approx([0, 0, 0])  # never seen: nothing is known
    assert np.isneginf(scores[0, 2]) and np.isneginf(scores[-1, 2])
    assert scores[-1, :2].tolist() == [0, 0] and scores[:-1, -1].tolist() == [0, 0, 0]


def test_two_entities_side_by_side_need_more_where_training_has_none():
    row = np.array([[0.1, 0.8, 0.1], [0.02, 0.5, 0.48]])
    legal = legal_transitions(TAGS[:3])
    pairs = [(0, 0, 900), (0, 1, 90), (1, 2, 60), (1, 0, 30), (2, 2, 20), (2, 0, 60)]
    assert best_sequences([row], transition_scores(legal))[0].tolist() == [1, 1]
    assert best_sequences([row], transition_scores(legal, pairs, 0.2))[0].tolist() == [1, 2]
    assert best_sequences([row], transition_scores(legal, pairs))[0].tolist() == [1, 1]


def test_with_such_scores_too_it_finds_what_trying_everything_finds():
    rng = np.random.default_rng(4)
    pairs = [(a, b, int(rng.integers(1, 40))) for a in range(5) for b in (0, 1, 3)] + [(1, 2, 30), (3, 4, 7)]
    steps = transition_scores(legal_transitions(TAGS), pairs, 0.3)
    for length in rng.integers(1, 6, size=40):
        row = rng.dirichlet(np.full(5, 0.5), size=length)

        def worth(path, row=row):
            return np.log(row[range(len(path)), path]).sum() + steps[[-1, *path], [*path, -1]].sum()

        best = max(itertools.product(range(5), repeat=int(length)), key=worth)
        assert best_sequences([row], steps)[0].tolist() == list(best)
