"""Predicted and right numbers -> errors in their own unit, and how well they go together; and what two simple models make of the texts.

    predicted [1.0, 2.0, 4.0], right [1.0, 3.0, 5.0]     mae 0.667   rmse 0.816   r2 0.75   pearson 0.982   spearman 1.0

Of several numbers a row each score is the mean over them, and `per_target` has those of each. r2, pearson and spearman have no value
where the right numbers are all equal, and are left out.

Array suffixes: B rows, K numbers of a row, R resamples, U units (see `metrics.intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tunewright.metrics.baselines import chunks_of, learn_features, require_rows, training_rows
from tunewright.metrics.intervals import LEVEL, NUM_RESAMPLES, Intervals, group_rows, percentile_intervals
from tunewright.metrics.metric import Metric, higher, lower
from tunewright.metrics.preference import ranks

RIDGE = 1.0
"""How strongly the baseline's weights are held down; its features have length one and its targets variance one."""


def regression_scores(predicted_BK: np.ndarray, right_BK: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """`{"metrics": {name: Metric}}`, of several numbers also "per_target". Arrays `(rows, numbers)`; ValueError where they differ in shape."""
    predicted_BK, right_BK = (np.asarray(one, dtype=np.float64) for one in (predicted_BK, right_BK))
    if predicted_BK.shape != right_BK.shape or predicted_BK.shape[1] != len(names):
        raise ValueError(f"predicted {predicted_BK.shape}, right {right_BK.shape}, {len(names)} names")
    each = [_scores_of_one(*pair) for pair in zip(predicted_BK.T, right_BK.T, strict=True)]
    shared = [name for name in each[0] if all(name in scores for scores in each)]
    metrics = {
        name: Metric(np.mean([scores[name] for scores in each]), each[0][name].higher_is_better) for name in shared
    }
    return {"metrics": metrics} | ({"per_target": dict(zip(names, each, strict=True))} if len(names) > 1 else {})


def _scores_of_one(predicted_B: np.ndarray, right_B: np.ndarray) -> dict[str, Metric]:
    error_B = predicted_B - right_B
    errors = lower({"mae": np.abs(error_B).mean(), "rmse": np.sqrt((error_B**2).mean())})
    if np.ptp(right_B) == 0:
        return errors
    r2 = 1 - (error_B**2).sum() / ((right_B - right_B.mean()) ** 2).sum()
    together = {"pearson": _pearson(predicted_B, right_B), "spearman": _pearson(ranks(predicted_B), ranks(right_B))}
    return errors | higher({"r2": r2, **together})


def _pearson(one_B: np.ndarray, other_B: np.ndarray) -> float:
    """0 where one of them does not vary: it says nothing of the other."""
    if np.ptp(one_B) == 0 or np.ptp(other_B) == 0:
        return 0.0
    return float(np.corrcoef(one_B, other_B)[0, 1])


def regression_intervals(
    predicted_BK: np.ndarray,
    right_BK: np.ndarray,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Intervals:
    """`{name: [low, high]}` for the metrics of `regression_scores`, rows drawn with replacement.

    Every score is a function of sums over rows. Spearman's is Pearson's of the ranks that the rows have in the whole sample.
    """
    rng = np.random.default_rng(seed)
    unit_of_B, sizes_U = group_rows(len(right_BK), rng)
    columns = [column for pair in zip(predicted_BK.T, right_BK.T, strict=True) for column in _statistics(*pair)]
    sums = [np.bincount(unit_of_B, weights=column, minlength=len(sizes_U)) for column in columns]
    num_each = len(columns) // right_BK.shape[1]
    varies = all(np.ptp(right_B) > 0 for right_B in right_BK.T)

    def score(sums_RS: np.ndarray) -> dict[str, np.ndarray]:
        rows_R, tables = sums_RS[:, 0], np.split(sums_RS[:, 1:], sums_RS[:, 1:].shape[1] // num_each, axis=1)
        each = [_scores_of_sums(rows_R, table.T, varies) for table in tables]
        return {name: np.mean([scores[name] for scores in each], axis=0) for name in each[0]}

    return percentile_intervals(np.column_stack([sizes_U, *sums]), score, rng, num_resamples, level)


def _statistics(predicted_B: np.ndarray, right_B: np.ndarray) -> list[np.ndarray]:
    """What is summed over rows: |error|, error², and of numbers and of ranks (moved to mean 0, which keeps the digits) both, their
    squares and their product."""
    error_B = predicted_B - right_B
    found = [np.abs(error_B), error_B**2]
    for one_B, other_B in ((predicted_B, right_B), (ranks(predicted_B), ranks(right_B))):
        one_B, other_B = one_B - one_B.mean(), other_B - other_B.mean()
        found += [one_B, other_B, one_B**2, other_B**2, one_B * other_B]
    return found


def _scores_of_sums(rows_R: np.ndarray, sums: np.ndarray, varies: bool) -> dict[str, np.ndarray]:
    """A draw in which the right numbers do not vary counts as one that nothing is known of: 0."""
    absolute_R, squared_R, *rest = sums
    scores = {"mae": absolute_R / rows_R, "rmse": np.sqrt(squared_R / rows_R)}
    if not varies:
        return scores
    for name, (one_R, other_R, one2_R, other2_R, both_R) in (("pearson", rest[:5]), ("spearman", rest[5:])):
        spreads_R = (one2_R - one_R**2 / rows_R) * (other2_R - other_R**2 / rows_R)
        known_R = spreads_R > 1e-12
        scores[name] = np.where(
            known_R, (both_R - one_R * other_R / rows_R) / np.sqrt(np.where(known_R, spreads_R, 1.0)), 0.0
        )
    spread_R = rest[3] - rest[1] ** 2 / rows_R
    scores["r2"] = np.where(spread_R > 1e-12, 1 - squared_R / np.maximum(spread_R, 1e-12), 0.0)
    return scores


def simple_predictions(
    train_texts: Sequence[Any], train_right_BK: np.ndarray, *, seed: int = 0
) -> Callable[[Sequence[Any]], dict[str, tuple[np.ndarray, int]]]:
    """Learns two simple models once; the result takes texts and gives `{"mean": (predicted (rows, numbers), training rows used),
    "tfidf_ridge": …}`: the mean of training, and ridge regression on the bag of words of `metrics.baselines`. ValueError where there is
    no training row or no row to predict."""
    from sklearn.linear_model import Ridge

    require_rows(train_texts)
    mean_K, spread_K = (
        train_right_BK.mean(axis=0),
        np.where(np.ptp(train_right_BK, axis=0) > 0, train_right_BK.std(axis=0), 1.0),
    )
    rows = training_rows(train_texts, num_labels=train_right_BK.shape[1], seed=seed)
    train_BF, to_features = learn_features([train_texts[row] for row in rows])
    model = Ridge(alpha=RIDGE).fit(train_BF, (train_right_BK[rows] - mean_K) / spread_K)

    def predicted(texts: Sequence[Any]) -> dict[str, tuple[np.ndarray, int]]:
        require_rows(texts)
        learned_BK = np.concatenate(
            [model.predict(to_features(chunk)).reshape(len(chunk), -1) for chunk in chunks_of(texts)]
        )
        constant_BK = np.tile(mean_K, (len(texts), 1))
        return {"mean": (constant_BK, len(train_texts)), "tfidf_ridge": (learned_BK * spread_K + mean_K, len(rows))}

    return predicted
