"""Bootstrap intervals: against the binomial law, against resampling rows one by one, in groups, twice the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from tunewright.metrics import intervals as module
from tunewright.metrics.classification import multi_label_scores, single_label_scores
from tunewright.metrics.intervals import multi_label_intervals, single_label_intervals


def right_or_wrong(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, gold) of a two-label model that is right exactly where `right` says."""
    gold = np.arange(len(right)) % 2
    predicted = np.where(right, gold, 1 - gold)
    return np.where(np.arange(2) == predicted[:, None], 0.9, 0.1), gold


def example(rows: int, labels: int, *, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    if multi_label:
        chances = rng.random((rows, labels))
        return chances, rng.random((rows, labels)) < chances * 0.7
    chances = rng.random((rows, labels)) ** 6
    chances /= chances.sum(axis=1, keepdims=True)
    return chances, np.where(rng.random(rows) < 0.7, chances.argmax(axis=1), rng.integers(labels, size=rows))


def test_accuracy_has_the_percentiles_of_the_binomial():
    """Drawing 1,000 rows of which 90 % are right is Binomial(1000, 0.9), with percentiles 881 and 918."""
    assert binom.ppf([0.025, 0.975], 1_000, 0.9).tolist() == [881, 918]
    interval = single_label_intervals(*right_or_wrong(np.arange(1_000) >= 100), seed=0, num_resamples=4_000)
    assert interval["accuracy"] == pytest.approx([0.881, 0.918], abs=0.002)
    assert interval["f1_micro"] == interval["accuracy"]


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng, held = np.random.default_rng(11), 0
    for trial in range(300):
        interval = single_label_intervals(*right_or_wrong(rng.random(200) < 0.8), seed=trial, num_resamples=300)
        low, high = interval["accuracy"]
        held += low <= 0.8 <= high
    assert 0.90 <= held / 300 <= 0.98


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_agrees_with_resampling_rows_one_by_one(multi_label: bool):
    """With a label that never occurs: multi-label macro counts it, single-label macro does not, in each resample."""
    chances, gold = example(300, 5, multi_label=multi_label)
    chances = np.column_stack([chances, np.zeros(300)])
    gold = np.column_stack([gold, np.zeros(300, bool)]) if multi_label else gold
    predicted = chances >= 0.5 if multi_label else chances.argmax(axis=1)
    rng, naive = np.random.default_rng(1), []
    for _ in range(600):
        rows = rng.integers(300, size=300)
        naive.append(f1_score(gold[rows], predicted[rows], average="macro", zero_division=0))
    intervals = multi_label_intervals if multi_label else single_label_intervals
    found = intervals(chances, gold, seed=2, num_resamples=2_000)["f1_macro"]
    assert found == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.01)


@pytest.mark.parametrize("multi_label", [False, True])
def test_every_interval_holds_its_score(multi_label: bool):
    chances, gold = example(2_000, 6, multi_label=multi_label)
    names = list("abcdef")
    if multi_label:
        scores = multi_label_scores(chances, gold, names)["metrics"]
        intervals = multi_label_intervals(chances, gold, seed=3)
        assert set(intervals) == set(scores)
    else:
        scores = single_label_scores(chances, gold, names)["metrics"]
        intervals = single_label_intervals(chances, gold, seed=3)
        assert set(scores) - set(intervals) == {"calibration_error"}
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high, name
        assert high - low < 0.3 * scores[name], name


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_pure_function_of_the_seed(multi_label: bool):
    chances, gold = example(500, 4, multi_label=multi_label)
    intervals = multi_label_intervals if multi_label else single_label_intervals
    assert intervals(chances, gold, seed=7) == intervals(chances, gold, seed=7)
    assert intervals(chances, gold, seed=7) != intervals(chances, gold, seed=8)


def test_log_loss_has_the_width_of_the_normal_law():
    chances, gold = example(4_000, 5, multi_label=False)
    losses = -np.log(chances[np.arange(4_000), gold])
    low, high = single_label_intervals(chances, gold, seed=4, num_resamples=4_000)["log_loss"]
    assert (high - low) == pytest.approx(2 * 1.96 * losses.std() / np.sqrt(4_000), rel=0.06)


@pytest.mark.parametrize("multi_label", [False, True])
def test_groups_of_rows_give_the_same_width_even_in_a_sorted_file(monkeypatch, multi_label: bool):
    chances, gold = example(6_000, 3, multi_label=multi_label)
    order = np.argsort(gold[:, 0] if multi_label else gold, kind="stable")
    chances, gold = chances[order], gold[order]
    intervals = multi_label_intervals if multi_label else single_label_intervals

    names = ("f1_macro", "log_loss", "f1_samples" if multi_label else "accuracy")

    def mean_widths() -> list[float]:
        found = [intervals(chances, gold, seed=seed, num_resamples=500) for seed in range(20)]
        return [float(np.mean([each[name][1] - each[name][0] for each in found])) for name in names]

    by_row = mean_widths()
    monkeypatch.setattr(module, "MAX_UNITS", 1_100)  # groups of 5 and 6 rows
    monkeypatch.setattr(module, "CHUNK_ROWS", 512)
    assert mean_widths() == pytest.approx(by_row, rel=0.05)


def test_one_row_gives_a_point():
    interval = single_label_intervals(np.array([[0.2, 0.8]]), np.array([1]), seed=0)
    assert interval["accuracy"] == interval["f1_macro"] == [1.0, 1.0]


def test_a_nan_is_named_by_row():
    with pytest.raises(ValueError, match="row 1: not a probability"):
        single_label_intervals(np.array([[0.2, 0.8], [np.nan, 0.1]]), np.array([1, 1]), seed=0)
