"""Probabilities + gold labels -> accuracy, F1 and their kin, per class and averaged. Called by evaluate and baseline.

    labels ["ham", "spam"], probabilities [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], gold [0, 1, 1]
    ->  accuracy 0.667, per_class["spam"] precision 1.0, recall 0.5, F1 0.667, confusion [[1, 0], [1, 1]]

Array suffixes: B rows, L labels. Every score equals scikit-learn's (zero_division=0); a test holds that.
Macro averages of single-label scores run over the labels that occur in gold or in a prediction
(scikit-learn's default), those of multi-label scores over every label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tunewright.metrics.averages import averaged, precision_recall_f1, ratio
from tunewright.metrics.metric import higher, lower

THRESHOLD = 0.5
"""A multi-label prediction holds every label with at least this probability."""
CALIBRATION_BINS = 15
"""Guo et al. 2017 use 15 bins throughout, so the number compares with published ones."""
ROUNDING = 1e-3
"""How far outside [0, 1] a probability may lie: half-precision softmax rounds, logits miss by far more."""
CHUNK_ROWS = 65_536
"""Rows whose logarithms are held at once: 75 MiB of float64 at 150 labels."""


def single_label_scores(probabilities_BL: np.ndarray, gold_B: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Scores of a classifier that gives each row one label: the most probable, the first of equals.

    probabilities_BL: float `(rows, labels)`; gold_B: int `(rows,)`, positions in `labels`.
    Gives `{"metrics": {name: Metric}, "per_class": {label: {precision, recall, f1, support}},
    "confusion": {"labels": [...], "matrix": [[int]]}}`, matrix rows gold, columns predicted.
    metrics: accuracy, {precision, recall, f1}_{micro, macro, weighted}, log_loss, calibration_error; for two
    labels also roc_auc and average_precision of the second label, left out where gold holds one class only
    (they have no value there). Raises ValueError for a shape that does not fit, a probability that is NaN or
    outside [0, 1], a gold id out of range.
    """
    gold_B = np.asarray(gold_B)
    probabilities_BL = checked_probabilities(probabilities_BL, len(labels), len(gold_B))
    check_gold_ids(gold_B, len(labels))
    predicted_B = probabilities_BL.argmax(axis=1)
    matrix = confusion_matrix(gold_B, predicted_B, len(labels))
    correct_L, predicted_L, support_L = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    averages = averaged(correct_L, predicted_L, support_L, only_present=True)
    metrics = higher({"accuracy": correct_L.sum() / len(gold_B), **averages})
    error = calibration_error(probabilities_BL.max(axis=1), predicted_B == gold_B)
    metrics |= lower({"log_loss": row_log_loss(probabilities_BL, gold_B).mean(), "calibration_error": error})
    if len(labels) == 2 and 0 < support_L[1] < len(gold_B):
        roc_auc, average_precision = ranking_scores(probabilities_BL[:, 1], gold_B == 1)
        metrics |= higher({"roc_auc": roc_auc, "average_precision": average_precision})
    return {
        "metrics": metrics,
        "per_class": _per_class(labels, correct_L, predicted_L, support_L),
        "confusion": {"labels": list(labels), "matrix": matrix.tolist()},
    }


def multi_label_scores(
    probabilities_BL: np.ndarray,
    gold_BL: np.ndarray,
    labels: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    predicted_BL: np.ndarray | None = None,
) -> dict[str, Any]:
    """Scores of a classifier that gives each row any number of labels: those with probability >= `threshold`.

    probabilities_BL: float `(rows, labels)`, each label on its own; gold_BL: bool `(rows, labels)`, a row may
    be empty. predicted_BL: bool `(rows, labels)`, where the choice of labels is not the threshold's. Same
    dict as `single_label_scores`; matrix is `[[[tn, fp], [fn, tp]]]`, one table per label.
    metrics: exact_match (the whole set is right), {precision, recall, f1}_{micro, macro, weighted},
    f1_samples (mean F1 over rows; 0 for a row with no label in gold and none predicted, as in scikit-learn),
    hamming_loss (share of wrong yes/no answers), log_loss (mean binary cross-entropy over rows and labels).
    """
    gold_BL = np.asarray(gold_BL, dtype=bool)
    probabilities_BL = checked_probabilities(probabilities_BL, len(labels), len(gold_BL))
    if gold_BL.shape != probabilities_BL.shape:
        raise ValueError(f"gold has shape {gold_BL.shape}, probabilities {probabilities_BL.shape}")
    if predicted_BL is None:
        predicted_BL = probabilities_BL >= threshold
    hits_BL = gold_BL & predicted_BL
    correct_L, predicted_L, support_L = (each.sum(axis=0) for each in (hits_BL, predicted_BL, gold_BL))
    averages = averaged(correct_L, predicted_L, support_L, only_present=False)
    exact, f1 = (gold_BL == predicted_BL).all(axis=1).mean(), row_f1(gold_BL, predicted_BL).mean()
    metrics = higher({"exact_match": exact, **averages, "f1_samples": f1})
    losses = {
        "hamming_loss": (gold_BL != predicted_BL).mean(),
        "log_loss": row_log_loss(probabilities_BL, gold_BL).mean(),
    }
    metrics |= lower(losses)
    missed_L, false_L = support_L - correct_L, predicted_L - correct_L
    tables = np.stack([len(gold_BL) - correct_L - missed_L - false_L, false_L, missed_L, correct_L], axis=1)
    return {
        "metrics": metrics,
        "per_class": _per_class(labels, correct_L, predicted_L, support_L),
        "confusion": {"labels": list(labels), "matrix": tables.reshape(-1, 2, 2).tolist()},
    }


def gold_array(targets: Iterable[Any] | np.ndarray, labels: Sequence[str], *, multi_label: bool) -> np.ndarray:
    """Targets as the scores take them: int64 `(rows,)` or, multi-label, bool `(rows, labels)`.

    targets: an int or bool array of that shape already, or what `Example.target` holds: label names, or
    tuples of them. Raises ValueError naming the row for a label that is not in `labels`.
    """
    if isinstance(targets, np.ndarray) and targets.dtype.kind in "iub":
        return targets.astype(bool if multi_label else np.int64)
    rows = [tuple(target) if multi_label else (target,) for target in targets]
    ids = {label: position for position, label in enumerate(labels)}
    unknown = next(((row, name) for row, names in enumerate(rows) for name in names if name not in ids), None)
    if unknown:
        raise ValueError(f"row {unknown[0]}: label {unknown[1]!r} is not one of the {len(labels)} labels")
    if not multi_label:
        return np.array([ids[name] for (name,) in rows], dtype=np.int64)
    gold_BL = np.zeros((len(rows), len(labels)), dtype=bool)
    for row, names in enumerate(rows):
        gold_BL[row, [ids[name] for name in names]] = True
    return gold_BL


def confusion_matrix(gold_B: np.ndarray, predicted_B: np.ndarray, num_labels: int) -> np.ndarray:
    """int64 `(labels, labels)`: row = gold, column = predicted."""
    cells_B = np.asarray(gold_B).astype(np.int64) * num_labels + predicted_B
    return np.bincount(cells_B, minlength=num_labels**2).reshape(num_labels, num_labels)


def row_log_loss(probabilities_BL: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """float64 `(rows,)`, natural logarithm: -log p(gold); for bool gold `(rows, labels)` the mean binary cross-entropy.

    Probabilities are clipped to [eps, 1 - eps] with eps of their own float type (2.2e-16, or 1.2e-7 for
    float32), so a row that is wrong with certainty costs 36.0 (15.9) and not infinity. scikit-learn clips the
    same way.
    """
    eps = np.finfo(probabilities_BL.dtype).eps
    if gold.ndim == 1:
        gold_probability_B = probabilities_BL[np.arange(len(gold)), gold]
        return -np.log(np.clip(gold_probability_B, eps, 1 - eps).astype(np.float64))
    losses_B = np.empty(len(gold))
    for start in range(0, len(gold), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        clipped = np.clip(probabilities_BL[rows], eps, 1 - eps).astype(np.float64)
        losses_B[rows] = -np.log(np.where(gold[rows], clipped, 1 - clipped)).mean(axis=1)
    return losses_B


def row_f1(gold_BL: np.ndarray, predicted_BL: np.ndarray) -> np.ndarray:
    """float64 `(rows,)`: F1 of each row's label set, 0 where both sets are empty."""
    return ratio(2 * (gold_BL & predicted_BL).sum(axis=1), gold_BL.sum(axis=1) + predicted_BL.sum(axis=1))


def calibration_error(confidence_B: np.ndarray, correct_B: np.ndarray, num_bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: the mean over rows of |accuracy - confidence| of the row's confidence bin.

    Equal-width bins (0, 1/15], …, (14/15, 1] over the probability of the predicted label
    (Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", section 2, equation 3).
    """
    confidence_B = np.asarray(confidence_B, dtype=np.float64)
    bins_B = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence_B, side="left")
    accuracy = np.bincount(bins_B, weights=correct_B, minlength=num_bins)
    confidence = np.bincount(bins_B, weights=confidence_B, minlength=num_bins)
    return float(np.abs(accuracy - confidence).sum() / len(confidence_B))


def ranking_scores(scores_B: np.ndarray, positive_B: np.ndarray) -> tuple[float, float]:
    """(area under the ROC curve, average precision) of scores `(rows,)` for bool `positive_B`; both classes must occur.

    Equal scores are one threshold. ROC area by trapezoids (Fawcett 2006, section 7); average precision is
    sum (R_n - R_{n-1}) P_n over thresholds, without interpolation.
    """
    order = np.argsort(-np.asarray(scores_B, dtype=np.float64), kind="stable")
    ranked, positive_B = np.asarray(scores_B)[order], np.asarray(positive_B, dtype=bool)[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(positive_B)[last_of_ties]
    false_alarms = last_of_ties + 1 - hits
    recall, fall_out = np.append(0, hits / hits[-1]), np.append(0, false_alarms / false_alarms[-1])
    roc_auc = np.sum(np.diff(fall_out) * (recall[1:] + recall[:-1]) / 2)
    return float(roc_auc), float(np.sum(np.diff(recall) * hits / (last_of_ties + 1)))


def checked_probabilities(probabilities_BL: np.ndarray, num_labels: int, num_rows: int) -> np.ndarray:
    """The probabilities as a float array `(rows, labels)`; ValueError names the first row that holds no probability."""
    array = np.asarray(probabilities_BL)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if num_rows == 0:
        raise ValueError("no rows to score")
    if array.shape != (num_rows, num_labels):
        raise ValueError(f"probabilities have shape {array.shape}, expected {(num_rows, num_labels)} (rows, labels)")
    if not (array.min() >= -ROUNDING and array.max() <= 1 + ROUNDING):  # NaN fails both
        row = int(np.argmin(((array >= -ROUNDING) & (array <= 1 + ROUNDING)).all(axis=1)))
        raise ValueError(f"row {row}: not a probability: {array[row].tolist()[:8]}")
    return array


def check_gold_ids(gold_B: np.ndarray, num_labels: int) -> None:
    if gold_B.ndim != 1 or gold_B.dtype.kind not in "iu":
        raise ValueError(f"gold must be int (rows,), found {gold_B.dtype} {gold_B.shape}")
    outside = (gold_B < 0) | (gold_B >= num_labels)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"row {row}: gold label id {gold_B[row]} is outside 0..{num_labels - 1}")


def _per_class(
    labels: Sequence[str], correct_L: np.ndarray, predicted_L: np.ndarray, support_L: np.ndarray
) -> dict[str, dict[str, float]]:
    columns = zip(labels, *precision_recall_f1(correct_L, predicted_L, support_L), support_L, strict=True)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for label, precision, recall, f1, support in columns
    }
