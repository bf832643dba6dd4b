"""Scores of labels for each unit -> the best sequence of labels that a scheme allows.

    O 0.4  B-PER 0.1  I-PER 0.5  alone would be I-PER, which nothing may begin with: the best legal sequence is O

Viterbi 1967 over log probabilities, many rows at once. What training has seen of neighbouring labels may count besides.
Array suffixes: N rows, U units, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tunewright.annotations.tags import may_follow, split_tag

_NEVER = -np.inf
_SMALLEST = 1e-300
_PRIOR = 10.0
"""Smoothing: this many pseudo-counts, distributed as the labels are, are added to the pairs counted after each label."""

Pair = tuple[int, int, int]
"""(a label, the one after it, how often)"""


def legal_transitions(labels: Sequence[str], scheme: str = "IOB2") -> np.ndarray:
    """bool `(labels + 1, labels + 1)`: whether the column may follow the row. The last row is the start, the last column the end."""
    split = [split_tag(label, scheme) for label in labels] + [("O", "")]
    return np.array(
        [[may_follow(scheme, *(a[0], b[0]), same_type=a[1] == b[1]) for b in split] for a in split], dtype=bool
    )


def count_pairs(rows: Iterable[np.ndarray], num_labels: int) -> np.ndarray:
    """How often each label is followed by each label, int64 `(labels, labels)`, in rows of label numbers `(units,)`.

    A unit below 0 has no label: it forms no pair with its neighbours.
    """
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return np.zeros((num_labels, num_labels), dtype=np.int64)
    before, after = (np.concatenate([row[part] for row in rows]).astype(np.int64) for part in (np.s_[:-1], np.s_[1:]))
    known = (before >= 0) & (after >= 0)
    counts = np.bincount(before[known] * num_labels + after[known], minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels)


def transition_scores(legal: np.ndarray, pairs: Sequence[Pair] = (), weight: float = 0.0) -> np.ndarray:
    """What a step from the row's label to the column's adds to a sequence, in nats, float64 as `legal`: -inf where illegal,
    else weight · log P(b|a)/P(b), and 0 at both ends.

    The division leaves to the model what it says of a label alone, as in scaled likelihoods (Bourlard and Morgan 1994); the
    model has read the neighbours too, hence a weight below 1. P(b|a) is smoothed towards P(b): a label that training has
    hardly seen changes nothing.
    """
    scores = np.where(legal, 0.0, _NEVER)
    if not pairs or not weight:
        return scores
    num_labels = len(legal) - 1
    counts_KK = np.zeros((num_labels, num_labels))
    for a, b, count in pairs:
        counts_KK[a, b] = count
    share_K = (counts_KK.sum(axis=0) + 1) / (counts_KK.sum() + num_labels)
    lift_KK = (counts_KK / share_K + _PRIOR) / (counts_KK.sum(axis=1, keepdims=True) + _PRIOR)
    scores[:-1, :-1] += weight * np.log(lift_KK)
    return scores


def best_sequences(probabilities: Sequence[np.ndarray], transitions: np.ndarray) -> list[np.ndarray]:
    """The best labels of each row, int64 `(units,)`: the largest sum of log probabilities and transitions.

    probabilities: float `(units, labels)` each. transitions: `transition_scores`. Ties go to the first label. Rows of similar length are decoded together.
    """
    order = sorted(range(len(probabilities)), key=lambda row: -len(probabilities[row]))
    found: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(probabilities)
    for start in range(0, len(order), 64):
        rows = [row for row in order[start : start + 64] if len(probabilities[row])]
        for row, path in zip(rows, _viterbi([probabilities[row] for row in rows], transitions), strict=True):
            found[row] = path
    return found


def _viterbi(rows: Sequence[np.ndarray], cost_KK: np.ndarray) -> list[np.ndarray]:
    """Viterbi decoding of rows sorted by decreasing length: step u covers the rows that have a unit u."""
    if not rows:
        return []
    num_labels = cost_KK.shape[0] - 1
    lengths_N = np.array([len(row) for row in rows])
    logs_NUK = np.full((len(rows), int(lengths_N[0]), num_labels), 0.0)
    for number, row in enumerate(rows):
        logs_NUK[number, : len(row)] = np.log(np.maximum(row.astype(np.float64), _SMALLEST))
    best_NK = logs_NUK[:, 0] + cost_KK[-1, :-1]
    came_from_NUK = np.zeros(logs_NUK.shape, dtype=np.int16)
    for unit in range(1, logs_NUK.shape[1]):
        running = int(np.searchsorted(-lengths_N, -unit, side="left"))
        sums_NKK = best_NK[:running, :, None] + cost_KK[:-1, :-1]
        came_from_NUK[:running, unit] = sums_NKK.argmax(axis=1)
        best_NK[:running] = sums_NKK.max(axis=1) + logs_NUK[:running, unit]
    ends_N = (best_NK + cost_KK[:-1, -1]).argmax(axis=1)
    return [_path(came_from_NUK[number, :length], int(ends_N[number])) for number, length in enumerate(lengths_N)]


def _path(came_from_UK: np.ndarray, end: int) -> np.ndarray:
    """From the last label back to the first."""
    labels_U = np.empty(len(came_from_UK), dtype=np.int64)
    for unit in range(len(came_from_UK) - 1, -1, -1):
        labels_U[unit] = end
        end = int(came_from_UK[unit, end])
    return labels_U
