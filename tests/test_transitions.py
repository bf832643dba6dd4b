"""Decoding to legal tags: by hand, and against trying every sequence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tunewright.errors import RowError
from tunewright.text.tags import spans_of_tags
from tunewright.text.transitions import best_sequences, legal_transitions

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def decoded(rows, tags=TAGS, scheme="IOB2"):
    paths = best_sequences([np.array(row) for row in rows], legal_transitions(tags, scheme))
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
