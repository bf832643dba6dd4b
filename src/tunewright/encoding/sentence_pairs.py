"""Documents as lists of sentences -> pairs of segments, half of them neighbours: what next-sentence prediction learns from.

    doc 0  [s0 s1 s2 s3]   doc 1  [t0 t1]      ->   (0, s0 s1, s2 s3, follows)   (1, t0, s1 s2, does not)

After BERT's own data preparation (Devlin et al. 2019, appendix A.2): sentences are gathered up to the row's length, cut in two at random, and
the second half is kept or replaced by a segment of another document; the replaced sentences are used again in the next pair. Where a
document leaves no choice (one sentence), the next pairs make up for it, so that half of all pairs are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SHORT_SHARE = 0.1  # pairs made shorter on purpose, as in the original: predictions are often short
Ids = list[int]


@dataclass(frozen=True)
class Pair:
    """Two segments of token ids. document: the one that the first segment is of."""

    document: int
    first: Ids
    second: Ids
    follows: bool


def sentence_pairs(documents: Sequence[Sequence[Ids]], *, room: int, rng: np.random.Generator) -> list[Pair]:
    """Pairs of at most `room` tokens (a long sentence may exceed it: it is cut later). A lone document gives only neighbours."""
    pairs: list[Pair] = []
    debt = 0
    others = len([sentences for sentences in documents if sentences]) > 1
    for number, sentences in enumerate(documents):
        start = 0
        while start < len(sentences):
            target = int(rng.integers(2, room + 1)) if rng.random() < _SHORT_SHARE else room
            stop = _gather(sentences, start, target)
            alone = stop - start == 1
            if alone and not others:
                break
            exchange = others and (alone or (debt <= 0 and rng.random() < 0.5))
            debt += int(alone) - int(not exchange and debt > 0)
            middle = stop if alone else start + 1 + int(rng.integers(stop - start - 1))
            first = _joined(sentences[start:middle])
            if exchange:
                second = _other_segment(documents, number, room - len(first), rng)
                stop = middle
            else:
                second = _joined(sentences[middle:stop])
            pairs.append(Pair(number, first, second, not exchange))
            start = stop
    return pairs


def _gather(sentences: Sequence[Ids], start: int, target: int) -> int:
    """Where a run of sentences of about `target` tokens ends; two sentences at least where there are two."""
    size, stop = 0, start
    while stop < len(sentences) and (stop < start + 2 or size + len(sentences[stop]) <= target):
        size += len(sentences[stop])
        stop += 1
    return stop


def _other_segment(documents: Sequence[Sequence[Ids]], apart_from: int, room: int, rng: np.random.Generator) -> Ids:
    """A run of sentences of another document."""
    other = apart_from
    while other == apart_from or not documents[other]:
        other = int(rng.integers(len(documents)))
    sentences = documents[other]
    start = int(rng.integers(len(sentences)))
    stop = start + 1
    size = len(sentences[start])
    while stop < len(sentences) and size + len(sentences[stop]) <= room:
        size += len(sentences[stop])
        stop += 1
    return _joined(sentences[start:stop])


def _joined(sentences: Sequence[Ids]) -> Ids:
    return [token for sentence in sentences for token in sentence]
