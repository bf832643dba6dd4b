"""The verdict on curves drawn by hand, each rule at its edge, and the table and plot beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.evaluation.overfitting import Point, Verdict, as_good_a_baseline, curve_plot, verdict


def curve(*losses: tuple[float, float], scores: list[float] | None = None) -> list[Point]:
    """One evaluation per epoch of 1,000 samples; `is_best` follows the score, or the validation loss without one."""
    points, best = [], -math.inf
    for index, (train, validation) in enumerate(losses):
        score = scores[index] if scores else None
        merit = score if score is not None else -validation
        points.append(Point((index + 1) * 1_000, index + 1.0, train, validation, score, merit > best))
        best = max(best, merit)
    return points


def test_the_advice_names_what_limits_the_run():
    short, falling = curve((1.5, 1.2)), curve((1.5, 1.2), (1.0, 0.8), (0.7, 0.6))
    assert verdict(short, baseline_loss=2.0).advice == "Set train.epochs to 3 or more to see a trend."
    steps = {"baseline_loss": 2.0, "limited_by": "train.max_steps"}
    assert verdict(short, **steps).advice == "Raise train.max_steps, or lower evaluate.every, to see a trend."
    assert verdict(falling, **steps).advice.startswith("Raise train.max_steps; ")
    assert "data.validation_ratio" in verdict([], baseline_loss=None, validated=False).advice


def test_overfitting_quotes_the_rise_and_the_fall():
    points = curve((0.90, 0.60), (0.30, 0.412), (0.20, 0.45), (0.12, 0.49), (0.08, 0.530))
    assert verdict(points, baseline_loss=1.1) == Verdict(
        "overfitting",
        "validation loss rose from 0.412 (epoch 2) to 0.530 (epoch 5) while training loss fell from 0.300 to 0.080.",
        "Set train.epochs: 2, keep train.early_stopping on, or add data.",
        "The model kept is that of epoch 2 (validation loss 0.412), not the last.",
    )


def test_overfitting_where_the_score_went_on_rising():
    points = curve((0.9, 0.6), (0.3, 0.40), (0.1, 0.50), scores=[0.80, 0.85, 0.87])
    found = verdict(points, baseline_loss=None)
    assert found.kind == "overfitting"
    assert "the score was best at epoch 3 (0.870)" in found.reason


def test_both_losses_rising_is_not_overfitting():
    found = verdict(curve((0.7, 0.60), (0.9, 0.80), (1.2, 1.10)), baseline_loss=0.69)
    assert found.kind == "underfitting" and "training loss rose too, from 0.700 to 1.200" in found.reason
    assert "lower train.learning_rate" in found.advice


def test_memorized_to_the_floor_is_overfitting_though_training_loss_does_not_move():
    assert verdict(curve((0.01, 0.40), (0.01, 0.45), (0.01, 0.55)), baseline_loss=1.0).kind == "overfitting"


def test_still_improving():
    found = verdict(curve((1.5, 1.2), (1.0, 0.8), (0.7, 0.6)), baseline_loss=2.0)
    assert found.kind == "still improving"
    assert found.reason == "validation loss still fell from 0.800 (epoch 2) to 0.600 (epoch 3)."
    assert found.kept == ""
    assert "train.epochs (now 3)" in found.advice


def test_far_above_the_baseline_but_falling_is_still_improving():
    assert verdict(curve((9.5, 9.0), (8.5, 8.0), (7.5, 7.0)), baseline_loss=6.5).kind == "still improving"


def test_small_steps_of_many_evaluations_add_up():
    """Forty evaluations of one epoch, each 1 % lower: no single step is a trend, the last third is."""
    points = [Point(100 * n, n / 40, 2 * 0.99**n, 2 * 0.99**n) for n in range(1, 41)]
    assert verdict(points, baseline_loss=None).kind == "still improving"


def test_underfitting_never_left_the_constant_answer():
    found = verdict(curve((0.70, 0.692), (0.69, 0.690), (0.69, 0.689)), baseline_loss=0.693)
    assert found.kind == "underfitting"
    assert "has plateaued at 0.689 (epoch 3), no better than a constant answer (0.693)" in found.reason


def test_validation_below_training_is_normal():
    """Dropout and the running mean keep training loss above: 0.35 beside 0.30 is a good fit."""
    found = verdict(curve((0.90, 0.50), (0.45, 0.31), (0.35, 0.30)), baseline_loss=1.1)
    assert found.kind == "good fit"
    assert (
        found.reason
        == "validation loss has plateaued at 0.300 (epoch 3), with a training loss of 0.350 (constant answer: 1.100)."
    )


@pytest.mark.parametrize(("last", "kind"), [(0.419, "good fit"), (0.422, "overfitting")])
def test_a_rise_counts_from_a_twentieth(last: float, kind: str):
    assert verdict(curve((0.9, 0.5), (0.5, 0.40), (0.3, last)), baseline_loss=1.1).kind == kind


def test_near_zero_a_twentieth_is_a_ripple():
    assert verdict(curve((0.1, 0.02), (0.01, 0.010), (0.005, 0.014)), baseline_loss=0.7).kind == "good fit"


def test_a_large_loss_may_sway_by_a_few_percent():
    assert verdict(curve((3.0, 2.5), (2.2, 2.00), (2.0, 2.06)), baseline_loss=6.0).kind == "good fit"


def test_near_zero_three_times_is_no_gap():
    assert verdict(curve((0.1, 0.03), (0.02, 0.03), (0.005, 0.03)), baseline_loss=0.7).kind == "good fit"


@pytest.mark.parametrize(("train", "kind"), [(0.19, "overfitting"), (0.21, "good fit")])
def test_a_gap_counts_from_three_times(train: float, kind: str):
    assert verdict(curve((0.9, 0.60), (0.4, 0.60), (train, 0.60)), baseline_loss=1.1).kind == kind


@pytest.mark.parametrize("number", [0, 1, 2])
def test_too_few_evaluations(number: int):
    found = verdict(curve(*[(0.5, 0.5)] * number), baseline_loss=0.7)
    assert found.kind == "too short to tell" and f"{number} evaluation" in found.reason


def test_the_point_before_training_does_not_count():
    points = [Point(0, 0.0, math.nan, 2.0), *curve((0.5, 0.5), (0.4, 0.4))]
    assert verdict(points, baseline_loss=0.7).kind == "too short to tell"


def test_flat_without_a_baseline_cannot_be_told():
    flat = curve((0.690, 0.692), (0.690, 0.691), (0.689, 0.690))
    assert verdict(flat, baseline_loss=None).kind == "too short to tell"
    assert verdict(flat, baseline_loss=2.0).kind == "good fit"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_is_named_with_its_epoch(bad: float):
    found = verdict(curve((0.9, 0.8), (bad, 0.9), (bad, bad)), baseline_loss=None)
    assert found.kind == "underfitting" and f"training diverged: at epoch 2 training loss is {bad}" in found.reason


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=12),
    st.none() | st.floats(0.01, 10),
)
def test_every_curve_gets_a_reason_and_advice(losses: list[tuple[float, float]], baseline_loss: float | None):
    found = verdict(curve(*losses), baseline_loss=baseline_loss)
    assert found.reason.endswith(".") and ("train." in found.advice or "data" in found.advice)


def test_plot_by_hand():
    assert curve_plot(curve((0.9, 0.55), (0.55, 0.2), (0.2, 0.2)), width=40, height=3) == "\n".join(
        [
            "0.9 |t",
            "    |v     t",
            "0.2 |      v     *",
            "    +-------------",
            "     1           3 epoch",
            "     t training  v validation  * both",
        ]
    )


def test_plot_of_nothing():
    assert curve_plot([]) == curve_plot([Point(1, 1.0, math.nan, math.nan)]) == "no evaluation to plot"


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4) | st.just(math.nan)), min_size=1, max_size=90),
    st.integers(40, 120),
    st.integers(2, 20),
)
def test_plot_stays_in_its_box_and_in_ascii(losses: list[tuple[float, float]], width: int, height: int):
    lines = curve_plot(curve(*losses), width=width, height=height).splitlines()
    assert len(lines) == height + 3
    assert all(len(line) <= width and line.isascii() for line in lines)
    assert "t" in "".join(lines[:height]) or "*" in "".join(lines[:height])
    assert lines[-2].rstrip().endswith("epoch")


@pytest.mark.parametrize(
    ("metric", "higher_is_better", "own", "baseline", "sentence"),
    [
        ("accuracy", True, 0.721, {"majority": 0.5, "tfidf_logreg": 0.809}, "TF-IDF + logistic regression scores 0.809 in accuracy, this model 0.721"),
        ("accuracy", True, 0.5, {"majority": 0.5}, "Always predicting the most frequent label scores 0.500 in accuracy, this model 0.500"),
        ("accuracy", True, 0.9, {"majority": 0.5, "tfidf_logreg": 0.809}, ""),
        ("rmse", False, 2.0, {"mean": 3.0, "tfidf_ridge": 1.5}, "TF-IDF + ridge regression scores 1.500 in rmse, this model 2.000"),
        ("rmse", False, 1.0, {"mean": 3.0, "tfidf_ridge": 1.5}, ""),
        ("loss", False, 1.0, {}, ""),
    ],
)  # fmt: skip
def test_a_baseline_that_is_as_good_is_named(metric, higher_is_better, own, baseline, sentence):
    scores = {"metrics": {metric: own}, "baseline": {name: {metric: value} for name, value in baseline.items()}}
    found = as_good_a_baseline(scores, metric, higher_is_better=higher_is_better)
    assert found.startswith(sentence) and bool(found) == bool(sentence)
