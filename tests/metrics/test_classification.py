"""Label scores: literals worked by hand, scikit-learn as the oracle for everything it can compute."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.metrics.averages import precision_recall_f1, ratio
from tunewright.metrics.classification import (
    calibration_error,
    gold_array,
    multi_label_scores,
    ranking_scores,
    row_log_loss,
    single_label_scores,
)

NAMES = [f"label-{number}" for number in range(6)]


def probabilities(rng: np.random.Generator, rows: int, labels: int, *, exclusive: bool) -> np.ndarray:
    """Random probabilities with many ties (two decimals), some of them 0 and 1."""
    values = rng.random((rows, labels)).round(1)
    if not exclusive:
        return values
    values[:, 0] += values.sum(axis=1) == 0
    return values / values.sum(axis=1, keepdims=True)


def test_three_rows_by_hand():
    scores = single_label_scores(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), ["ham", "spam"])
    assert scores["confusion"] == {"labels": ["ham", "spam"], "matrix": [[1, 0], [1, 1]]}
    assert scores["per_class"]["ham"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert scores["per_class"]["spam"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert scores["metrics"] == pytest.approx(
        {
            "accuracy": 2 / 3,
            "precision_micro": 2 / 3,
            "recall_micro": 2 / 3,
            "f1_micro": 2 / 3,
            "precision_macro": 0.75,
            "recall_macro": 0.75,
            "f1_macro": 2 / 3,
            "precision_weighted": (0.5 + 2) / 3,
            "recall_weighted": 2 / 3,
            "f1_weighted": 2 / 3,
            "log_loss": -(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3,
            "calibration_error": (0.1 + 0.2 + 0.6) / 3,
            "roc_auc": 1.0,
            "average_precision": 1.0,
        }
    )


def test_macro_leaves_out_labels_that_occur_nowhere():
    """Gold a a b, predicted a a a: a has F1 4/5, b 0; c occurs nowhere and does not count."""
    one_hot = np.eye(3)[[0, 0, 0]]
    scores = single_label_scores(one_hot, np.array([0, 0, 1]), ["a", "b", "c"])
    assert scores["metrics"]["f1_macro"] == pytest.approx(0.4)
    assert scores["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


@settings(max_examples=60)
@given(rows=st.integers(1, 30), labels=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_single_label_equals_scikit_learn(rows: int, labels: int, seed: int):
    rng = np.random.default_rng(seed)
    chances = probabilities(rng, rows, labels, exclusive=True)
    gold, predicted = rng.integers(labels, size=rows), chances.argmax(axis=1)
    scores = single_label_scores(chances, gold, NAMES[:labels])
    expected = {"accuracy": oracle.accuracy_score(gold, predicted)}
    for average in ("micro", "macro", "weighted"):
        of = oracle.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        expected |= dict(zip([f"{name}_{average}" for name in ("precision", "recall", "f1")], of[:3], strict=True))
    expected["log_loss"] = oracle.log_loss(gold, chances, labels=range(labels))
    if labels == 2 and len(set(gold)) == 2:
        expected["roc_auc"] = oracle.roc_auc_score(gold, chances[:, 1])
        expected["average_precision"] = oracle.average_precision_score(gold, chances[:, 1])
    assert {name: scores["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(scores["metrics"]) == {*expected, "calibration_error"}
    assert scores["confusion"]["matrix"] == oracle.confusion_matrix(gold, predicted, labels=range(labels)).tolist()
    each = oracle.precision_recall_fscore_support(gold, predicted, labels=range(labels), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), each, strict=True):
        assert [row[name] for row in scores["per_class"].values()] == pytest.approx(values.tolist()), name


def test_multi_label_by_hand():
    """Row 1 right, row 2 half right, row 3 empty and predicted empty."""
    chances = np.array([[0.9, 0.5, 0.1], [0.2, 0.8, 0.4], [0.1, 0.1, 0.1]])
    gold = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)
    scores = multi_label_scores(chances, gold, ["a", "b", "c"])
    right = [0.9, 0.5, 0.9, 0.8, 0.8, 0.4, 0.9, 0.9, 0.9]
    assert scores["metrics"] == pytest.approx(
        {
            "exact_match": 2 / 3,
            "precision_micro": 1.0,
            "recall_micro": 3 / 4,
            "f1_micro": 6 / 7,
            "precision_macro": 2 / 3,
            "recall_macro": 2 / 3,
            "f1_macro": 2 / 3,
            "precision_weighted": 3 / 4,
            "recall_weighted": 3 / 4,
            "f1_weighted": 3 / 4,
            "f1_samples": (1 + 2 / 3 + 0) / 3,
            "hamming_loss": 1 / 9,
            "log_loss": -sum(map(math.log, right)) / 9,
        }
    )
    assert scores["confusion"]["matrix"] == [[[2, 0], [0, 1]], [[1, 0], [0, 2]], [[2, 0], [1, 0]]]


@settings(max_examples=60)
@given(
    rows=st.integers(1, 30),
    labels=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    threshold=st.sampled_from([0.3, 0.5]),
)
def test_multi_label_equals_scikit_learn(rows: int, labels: int, seed: int, threshold: float):
    rng = np.random.default_rng(seed)
    chances = probabilities(rng, rows, labels, exclusive=False)
    gold = rng.random((rows, labels)) < rng.random()
    predicted = chances >= threshold
    scores = multi_label_scores(chances, gold, NAMES[:labels], threshold=threshold)
    expected = {
        "exact_match": oracle.accuracy_score(gold, predicted),
        "hamming_loss": oracle.hamming_loss(gold, predicted),
        "f1_samples": oracle.f1_score(gold, predicted, average="samples", zero_division=0),
        "log_loss": np.mean([oracle.log_loss(gold[:, k], chances[:, k], labels=[False, True]) for k in range(labels)]),
    }
    for average in ("micro", "macro", "weighted"):
        of = oracle.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        expected |= dict(zip([f"{name}_{average}" for name in ("precision", "recall", "f1")], of[:3], strict=True))
    assert scores["metrics"] == pytest.approx(expected, abs=1e-12)
    tables = oracle.multilabel_confusion_matrix(gold, predicted)
    assert scores["confusion"]["matrix"] == tables.tolist()


def test_calibration_error_by_hand():
    """Bin (0.6, 0.667]: two rows at 0.65, one right, |0.5 - 0.65|; bin (0.933, 1]: two rows at 1.0, both right, 0."""
    error = calibration_error(np.array([0.65, 1.0, 0.65, 1.0]), np.array([True, True, False, True]))
    assert error == pytest.approx(0.15 / 2)


def test_a_confidence_on_the_edge_belongs_to_the_bin_below():
    """0.2 = 3/15 lies with 0.15 in (2/15, 3/15]: |1/2 - 0.175|."""
    assert calibration_error(np.array([0.15, 3 / 15]), np.array([True, False])) == pytest.approx(0.325)


@settings(max_examples=40)
@given(rows=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_calibration_error_equals_the_formula(rows: int, seed: int):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(rows), rng.random(rows) < 0.6
    expected = 0.0
    for low in range(15):
        held = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if held.any():
            expected += held.sum() / rows * abs(correct[held].mean() - confidence[held].mean())
    assert calibration_error(confidence, correct) == pytest.approx(expected)


@settings(max_examples=60)
@given(rows=st.integers(2, 40), seed=st.integers(0, 10_000))
def test_ranking_scores_equal_scikit_learn_with_ties(rows: int, seed: int):
    rng = np.random.default_rng(seed)
    scores, positive = rng.random(rows).round(1).astype(np.float32), rng.random(rows) < 0.4
    positive[:2] = [True, False]
    expected = oracle.roc_auc_score(positive, scores), oracle.average_precision_score(positive, scores)
    assert ranking_scores(scores, positive) == pytest.approx(expected)


@pytest.mark.parametrize(("dtype", "worst"), [(np.float64, 36.0437), (np.float32, 15.9424)])
def test_log_loss_is_clipped_at_the_epsilon_of_its_type(dtype: type, worst: float):
    chances = np.array([[1.0, 0.0]], dtype=dtype)
    assert row_log_loss(chances, np.array([1]))[0] == pytest.approx(worst, abs=1e-3)
    assert row_log_loss(chances, np.array([[False, True]]))[0] == pytest.approx(worst, abs=1e-3)
    assert 0 < row_log_loss(chances, np.array([0]))[0] < 1e-6


def test_one_row_and_one_class():
    one_row = single_label_scores(np.array([[0.3, 0.7]]), np.array([1]), ["a", "b"])["metrics"]
    assert one_row["accuracy"] == one_row["f1_macro"] == 1.0
    assert "roc_auc" not in one_row, "has no value where gold holds one class"
    all_wrong = single_label_scores(np.array([[0.3, 0.7]] * 4), np.zeros(4, int), ["a", "b"])["metrics"]
    assert all_wrong["accuracy"] == all_wrong["f1_macro"] == all_wrong["precision_weighted"] == 0.0
    empty = multi_label_scores(np.full((1, 2), 0.1), np.zeros((1, 2), bool), ["a", "b"])["metrics"]
    assert empty["exact_match"] == 1.0 and empty["f1_micro"] == empty["f1_samples"] == empty["f1_weighted"] == 0.0


def test_no_score_warns_or_is_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for gold in ([0, 0], [1, 1], [0, 1]):
            scores = single_label_scores(np.array([[0.0, 1.0]] * 2, dtype=np.float16), np.array(gold), ["a", "b"])
            assert all(math.isfinite(value) for value in scores["metrics"].values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 7.3, -0.2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_no_probability_is_named_by_row(bad: float, multi_label: bool):
    chances = np.full((4, 2), 0.5)
    chances[2, 1] = bad
    with pytest.raises(ValueError, match=r"^row 2: not a probability"):
        if multi_label:
            multi_label_scores(chances, np.zeros((4, 2), bool), ["a", "b"])
        else:
            single_label_scores(chances, np.zeros(4, int), ["a", "b"])


def test_what_does_not_fit_is_refused():
    half = np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="no rows to score"):
        single_label_scores(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(2, 3\)"):
        single_label_scores(half, np.array([0, 1]), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"row 1: gold label id 2 is outside 0\.\.1"):
        single_label_scores(half, np.array([0, 2]), ["a", "b"])
    with pytest.raises(ValueError, match="gold must be int"):
        single_label_scores(half, np.array([0.0, 1.0]), ["a", "b"])
    with pytest.raises(ValueError, match="gold has shape"):
        multi_label_scores(half, np.zeros((2, 3), bool), ["a", "b"])


def test_gold_array_reads_names_and_ids():
    assert gold_array(["b", "a"], ["a", "b"], multi_label=False).tolist() == [1, 0]
    assert gold_array(np.array([1, 0], np.int32), ["a", "b"], multi_label=False).tolist() == [1, 0]
    sets = gold_array([("b", "a"), ()], ["a", "b", "c"], multi_label=True)
    assert sets.dtype == bool and sets.tolist() == [[True, True, False], [False, False, False]]
    with pytest.raises(ValueError, match="row 1: label 'x' is not one of the 2 labels"):
        gold_array(["b", "x"], ["a", "b"], multi_label=False)


def test_counts_by_hand():
    assert [float(value) for value in precision_recall_f1(2, 4, 5)] == pytest.approx([0.5, 0.4, 4 / 9])
    assert ratio(np.array([1, 0]), np.array([0, 0])).tolist() == [0.0, 0.0]
