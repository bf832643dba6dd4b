"""Log-probabilities of chosen and rejected answers -> pair accuracy, margin, rewards, how far the model moved, lengths.

    rewards chosen [1.0, -0.5], rejected [0.2, 0.1]     pair_accuracy 0.5    margin 0.1

A reward is what the loss compares: β times the log-ratio to the start model, or β times a mean log-probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.metrics.intervals import Intervals, mean_intervals
from tunewright.metrics.metric import Metric

_HIGHER_IS_BETTER = {
    "pair_accuracy": True,
    "margin": True,
    "reward_chosen": True,
    "reward_rejected": False,
    "kl": False,
}
_MIN_CORRELATION = 0.5
"""Rank correlation from which longer answers are said to win because they are longer."""


def pair_scores(
    rewards_R2: np.ndarray, lengths_R2: np.ndarray, *, ratios_R2: np.ndarray | None = None
) -> dict[str, Metric]:
    """rewards: of chosen and rejected. lengths: tokens of both answers. ratios: log π - log π_ref, summed over each answer."""
    margins_R = rewards_R2[:, 0] - rewards_R2[:, 1]
    values = {
        "pair_accuracy": (margins_R > 0).mean(),
        "margin": margins_R.mean(),
        "reward_chosen": rewards_R2[:, 0].mean(),
        "reward_rejected": rewards_R2[:, 1].mean(),
        "length_chosen": lengths_R2[:, 0].mean(),
        "length_rejected": lengths_R2[:, 1].mean(),
        "length_correlation": rank_correlation(margins_R, lengths_R2[:, 0] - lengths_R2[:, 1]),
    }
    return _directed(values if ratios_R2 is None else {**values, "kl": kl_estimate(ratios_R2, lengths_R2)})


def _directed(values: Mapping[str, float]) -> dict[str, Metric]:
    """Lengths are neither better nor worse."""
    return {name: Metric(value, _HIGHER_IS_BETTER.get(name)) for name, value in values.items()}


def judged_scores(
    rewards_R: np.ndarray, lengths_R: np.ndarray, good_R: np.ndarray, *, ratios_R: np.ndarray | None = None
) -> dict[str, Metric]:
    """The same for single answers: pair_accuracy is over all pairs of a good and a bad one (the area under the ROC curve).

    What needs a kind of answer that is not there has no value, and no entry.
    """
    scores: dict[str, float] = {}
    if good_R.any() and not good_R.all():
        margin = float(rewards_R[good_R].mean() - rewards_R[~good_R].mean())
        scores = {"pair_accuracy": area_under_curve(rewards_R, good_R), "margin": margin}
    for kind, of_kind in (("chosen", good_R), ("rejected", ~good_R)):
        if of_kind.any():
            scores[f"reward_{kind}"] = float(rewards_R[of_kind].mean())
            scores[f"length_{kind}"] = float(lengths_R[of_kind].mean())
    scores["length_correlation"] = rank_correlation(rewards_R, lengths_R)
    return _directed(scores if ratios_R is None else {**scores, "kl": kl_estimate(ratios_R, lengths_R)})


def kl_estimate(ratios: np.ndarray, lengths: np.ndarray) -> float:
    """Nats per token: ½·r² of each answer's mean log-ratio r, answers weighted by their tokens; 0 only for equal models.

    Schulman 2020, "Approximating KL divergence" (k2), on the answers of the data. They are not the model's own, and bad ones become
    very improbable: the unbiased estimators would be all variance there.
    """
    lengths = np.maximum(1.0, lengths)
    return float((ratios**2 / lengths).sum() / 2 / lengths.sum())


def pair_intervals(rewards_R2: np.ndarray, *, seed: int) -> Intervals:
    margins_R = rewards_R2[:, 0] - rewards_R2[:, 1]
    return mean_intervals({"pair_accuracy": (margins_R > 0).astype(float), "margin": margins_R}, seed=seed)


def judged_intervals(rewards_R: np.ndarray, good_R: np.ndarray, *, seed: int, num_resamples: int = 1_000) -> Intervals:
    """The same for single answers, rows drawn with replacement."""
    if not good_R.any() or good_R.all():
        return {}
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(rewards_R), size=len(rewards_R)) for _ in range(num_resamples))
    areas = [area_under_curve(rewards_R[rows], good_R[rows]) for rows in drawn if len(set(good_R[rows])) == 2]
    return {"pair_accuracy": np.quantile(areas, [0.025, 0.975]).tolist()} if areas else {}


def length_warning(scores: Mapping[str, float]) -> str | None:
    """Said where what is rewarded goes with length."""
    correlation = scores["length_correlation"]
    if "length_chosen" not in scores or "length_rejected" not in scores:
        return None
    if abs(correlation) < _MIN_CORRELATION or scores["length_chosen"] == scores["length_rejected"]:
        return None
    kind = "longer" if correlation > 0 else "shorter"
    return (
        f"{kind} answers are rewarded (rank correlation of margin and length {correlation:.2f}; chosen answers have "
        f"{scores['length_chosen']:.0f} tokens, rejected ones {scores['length_rejected']:.0f}): the model may learn length instead of quality"
    )


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's, ties at their mean rank; 0 where one of them does not vary."""
    first, second = ranks(left), ranks(right)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def area_under_curve(scores: np.ndarray, good: np.ndarray) -> float:
    """Share of (good, bad) pairs that the scores order rightly, ties count half; 0.5 where there is only one kind."""
    num_good, num_bad = int(good.sum()), int((~good).sum())
    if not num_good or not num_bad:
        return 0.5
    above = ranks(scores)[good].sum() - num_good * (num_good - 1) / 2
    return float(above / (num_good * num_bad))


def ranks(values: np.ndarray) -> np.ndarray:
    """0-based, ties at their mean. [5 1 5] -> [1.5 0 1.5]"""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[place]


def longer_wins(lengths_R2: np.ndarray) -> dict[str, Any]:
    """A baseline: the longer answer is the better one, ties count half."""
    return {
        "pair_accuracy": float(
            np.where(lengths_R2[:, 0] == lengths_R2[:, 1], 0.5, lengths_R2[:, 0] > lengths_R2[:, 1]).mean()
        )
    }
