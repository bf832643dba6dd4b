"""Counts -> precision, recall, F1 and their averages. Shared by the label, span and interval scores.

    2 right of 4 predicted, 5 in gold:  precision 0.5, recall 0.4, F1 2*2 / (4+5) = 0.444

Array suffixes: L labels; `...` any leading dimensions (none for one score, resamples for a bootstrap).
"""

from __future__ import annotations

import numpy as np


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """float64 `numerator / denominator`, 0.0 where the denominator is 0 (scikit-learn's `zero_division=0`)."""
    numerator, denominator = (np.asarray(each, dtype=np.float64) for each in (numerator, denominator))
    zeros = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=zeros, where=denominator != 0)


def precision_recall_f1(
    correct: np.ndarray, predicted: np.ndarray, support: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elementwise precision, recall and F1, float64, of the counts' own shape.

    correct: true positives; predicted: all that were predicted; support: all that stand in gold. F1 = 2
    correct / (predicted + support), the harmonic mean (van Rijsbergen 1979, chapter 7), 0 where nothing is
    predicted and nothing is in gold.
    """
    f1 = ratio(2 * np.asarray(correct), np.asarray(predicted) + np.asarray(support))
    return ratio(correct, predicted), ratio(correct, support), f1


def averaged(
    correct_L: np.ndarray, predicted_L: np.ndarray, support_L: np.ndarray, *, only_present: bool
) -> dict[str, np.ndarray]:
    """`precision_micro`, `recall_micro`, `f1_micro`, `precision_macro`, … from counts `(..., labels)`; each `(...)`.

    micro: from the summed counts. macro: the plain mean over labels. weighted: the mean weighted by support.
    only_present: macro leaves out labels that occur neither in gold nor in a prediction (what scikit-learn
    does for single-label targets; for a multi-label matrix it counts every column).
    """
    per_label = precision_recall_f1(correct_L, predicted_L, support_L)
    micro = precision_recall_f1(correct_L.sum(-1), predicted_L.sum(-1), support_L.sum(-1))
    counted_L = (predicted_L + support_L > 0) if only_present else np.ones_like(support_L, dtype=bool)
    scores: dict[str, np.ndarray] = {}
    for name, values_L, over_all in zip(("precision", "recall", "f1"), per_label, micro, strict=True):
        scores[f"{name}_micro"] = over_all
        scores[f"{name}_macro"] = ratio((values_L * counted_L).sum(-1), counted_L.sum(-1))
        scores[f"{name}_weighted"] = ratio((values_L * support_L).sum(-1), support_L.sum(-1))
    return scores
