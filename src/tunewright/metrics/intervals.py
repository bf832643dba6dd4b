"""Scores -> 95 % bootstrap intervals: how far a score would move on another test set of the same size.

    90 of 100 rows right  ->  {"accuracy": [0.84, 0.96], ...}: do not celebrate 0.92 against 0.90.

Percentile bootstrap (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3): draw rows
with replacement, score again, take the 2.5 and 97.5 percentiles of 1,000 such scores. Every score here is a
function of sums over rows (hits per label, losses, …), so a resample is one product of draw counts
`(resamples, rows)` and row statistics `(rows, statistics)`.

Over MAX_UNITS rows, rows are first put into MAX_UNITS random groups of equal size and groups are drawn: the
variance of a sum of drawn groups estimates the same quantity (with a relative error of about sqrt(2 /
MAX_UNITS), 1.4 %, less than what 1,000 resamples leave). So time and memory stay bounded: 1,000,000 rows cost
little more than 10,000.

Array suffixes: B rows, U units (rows or groups), L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tunewright.metrics.averages import averaged
from tunewright.metrics.classification import (
    CHUNK_ROWS,
    THRESHOLD,
    check_gold_ids,
    checked_probabilities,
    row_f1,
    row_log_loss,
)
from tunewright.metrics.spans import named

NUM_RESAMPLES = 1_000
LEVEL = 0.95
MAX_UNITS = 10_000
CHUNK_DRAWS = 2_000_000
"""Draw counts held at once (16 MB of float64)."""

Intervals = dict[str, list[float]]


def single_label_intervals(
    probabilities_BL: np.ndarray,
    gold_B: np.ndarray,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Intervals:
    """`{name: [low, high]}` for accuracy, {precision, recall, f1}_{micro, macro, weighted} and log_loss.

    Arguments as for `single_label_scores`. A pure function of its arguments. Each resample is scored by the
    same rule as the whole: macro averages run over the labels that occur in it.
    """
    gold_B = np.asarray(gold_B)
    probabilities_BL = checked_probabilities(probabilities_BL, np.shape(probabilities_BL)[-1], len(gold_B))
    num_labels = probabilities_BL.shape[1]
    check_gold_ids(gold_B, num_labels)
    predicted_B = probabilities_BL.argmax(axis=1)
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(gold_B), rng)

    def per_label(of_B: np.ndarray, where_B: np.ndarray | slice = slice(None)) -> np.ndarray:
        cells = unit_of_B[where_B] * num_labels + of_B[where_B]
        return np.bincount(cells, minlength=len(sizes_U) * num_labels).reshape(len(sizes_U), num_labels)

    losses_U = np.bincount(unit_of_B, weights=row_log_loss(probabilities_BL, gold_B), minlength=len(sizes_U))
    labels_U = [per_label(gold_B, predicted_B == gold_B), per_label(predicted_B), per_label(gold_B)]

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        rows_R, loss_R, correct_RL, predicted_RL, support_RL = _split(sums, 2, num_labels)
        scores = averaged(correct_RL, predicted_RL, support_RL, only_present=True)
        return {"accuracy": correct_RL.sum(axis=1) / rows_R, **scores, "log_loss": loss_R / rows_R}

    return percentile_intervals(np.column_stack([sizes_U, losses_U, *labels_U]), score, rng, num_resamples, level)


def multi_label_intervals(
    probabilities_BL: np.ndarray,
    gold_BL: np.ndarray,
    *,
    seed: int,
    threshold: float = THRESHOLD,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Intervals:
    """`{name: [low, high]}` for every metric of `multi_label_scores`, whose arguments it takes."""
    gold_BL = np.asarray(gold_BL, dtype=bool)
    probabilities_BL = checked_probabilities(probabilities_BL, gold_BL.shape[1], len(gold_BL))
    num_labels = gold_BL.shape[1]
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(gold_BL), rng)
    predicted_BL = probabilities_BL >= threshold
    row_values = {
        "log_loss": row_log_loss(probabilities_BL, gold_BL),
        "f1_samples": row_f1(gold_BL, predicted_BL),
        "exact_match": (gold_BL == predicted_BL).all(axis=1),
    }
    statistics = [sizes_U]
    statistics += [np.bincount(unit_of_B, weights=values, minlength=len(sizes_U)) for values in row_values.values()]
    order = np.argsort(unit_of_B, kind="stable")
    statistics += [
        _unit_sums(gold_BL, predicted_BL, order, sizes_U),
        _unit_sums(predicted_BL, predicted_BL, order, sizes_U),
        _unit_sums(gold_BL, gold_BL, order, sizes_U),
    ]

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        rows_R, *values_R, correct_RL, predicted_RL, support_RL = _split(sums, 1 + len(row_values), num_labels)
        scores = averaged(correct_RL, predicted_RL, support_RL, only_present=False)
        scores |= {name: value_R / rows_R for name, value_R in zip(row_values, values_R, strict=True)}
        wrong_R = (predicted_RL + support_RL - 2 * correct_RL).sum(axis=1)
        return {**scores, "hamming_loss": wrong_R / (rows_R * num_labels)}

    return percentile_intervals(np.column_stack(statistics), score, rng, num_resamples, level)


def span_intervals(
    correct_BL: np.ndarray,
    predicted_BL: np.ndarray,
    support_BL: np.ndarray,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Intervals:
    """`{name: [low, high]}` for span_{precision, recall, f1} and their averages, from `metrics.spans.span_counts`. Rows are drawn."""
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(support_BL), rng)
    tables = []
    for table_BL in (correct_BL, predicted_BL, support_BL):
        table_UL = np.zeros((len(sizes_U), support_BL.shape[1]))
        np.add.at(table_UL, unit_of_B, table_BL)
        tables.append(table_UL)

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        return named(averaged(*_split(sums, 0, support_BL.shape[1]), only_present=True))

    return percentile_intervals(np.column_stack(tables), score, rng, num_resamples, level)


def group_rows(num_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(unit of each row, int64 `(rows,)`; rows in each unit): rows themselves, or random groups when there are many."""
    num_units = min(num_rows, MAX_UNITS)
    unit_of_B = np.arange(num_rows) if num_units == num_rows else rng.permutation(num_rows) % num_units
    return unit_of_B, np.bincount(unit_of_B, minlength=num_units)


def _unit_sums(left_BL: np.ndarray, right_BL: np.ndarray, order: np.ndarray, sizes_U: np.ndarray) -> np.ndarray:
    """int64 `(units, labels)`: how many rows of each unit hold the label on both sides. `order`: rows, unit by unit."""
    ends_U = np.cumsum(sizes_U)
    sums_UL = np.empty((len(sizes_U), left_BL.shape[1]), dtype=np.int64)
    step = max(1, CHUNK_ROWS // int(sizes_U.max()))
    for first in range(0, len(sizes_U), step):
        starts = ends_U[first : first + step] - sizes_U[first : first + step]
        rows = order[starts[0] : ends_U[first : first + step][-1]]
        both = (left_BL[rows] & right_BL[rows]).astype(np.int32)
        sums_UL[first : first + step] = np.add.reduceat(both, starts - starts[0], axis=0)
    return sums_UL


def _split(sums: np.ndarray, num_single: int, num_labels: int) -> list[np.ndarray]:
    """`num_single` columns `(resamples,)`, then the three tables `(resamples, labels)` that follow them."""
    tables = [sums[:, num_single + k * num_labels : num_single + (k + 1) * num_labels] for k in range(3)]
    return [*sums[:, :num_single].T, *tables]


def percentile_intervals(
    statistics: np.ndarray,
    score: Callable[[np.ndarray], dict[str, np.ndarray]],
    rng: np.random.Generator,
    num_resamples: int,
    level: float,
) -> Intervals:
    """Draw units with replacement, `score` the sums `(resamples, statistics)`, read off the two percentiles."""
    statistics = statistics.astype(np.float64)
    num_units, step = len(statistics), max(1, CHUNK_DRAWS // len(statistics))
    drawn: dict[str, list[np.ndarray]] = {}
    for start in range(0, num_resamples, step):
        num = min(step, num_resamples - start)
        picks = rng.integers(num_units, size=(num, num_units)) + np.arange(num)[:, None] * num_units
        counts = np.bincount(picks.ravel(), minlength=num * num_units).reshape(num, num_units)
        for name, values_R in score(counts.astype(np.float64) @ statistics).items():
            drawn.setdefault(name, []).append(values_R)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {name: np.quantile(np.concatenate(parts), tails).tolist() for name, parts in drawn.items()}


def language_intervals(
    nats_B: np.ndarray, counts_B: np.ndarray, *, seed: int, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL
) -> Intervals:
    """`{name: [low, high]}` for loss and perplexity, rows (texts, blocks) drawn with replacement. Arguments as for `language_scores`."""
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(nats_B), rng)
    sums = [np.bincount(unit_of_B, weights=column, minlength=len(sizes_U)) for column in (nats_B, counts_B)]

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        loss_R = sums[:, 0] / np.maximum(1.0, sums[:, 1])
        return {"loss": loss_R, "perplexity": np.exp(np.minimum(loss_R, 700.0))}

    return percentile_intervals(np.column_stack(sums), score, rng, num_resamples, level)


def mean_intervals(
    values: dict[str, np.ndarray], *, seed: int, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL
) -> Intervals:
    """`{name: [low, high]}` for the means of values `(rows,)`, rows drawn with replacement."""
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(next(iter(values.values()))), rng)
    sums = [np.bincount(unit_of_B, weights=column, minlength=len(sizes_U)) for column in values.values()]

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        rows_R, *values_R = sums.T
        return {name: value_R / rows_R for name, value_R in zip(values, values_R, strict=True)}

    return percentile_intervals(np.column_stack([sizes_U, *sums]), score, rng, num_resamples, level)
