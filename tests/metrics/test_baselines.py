"""Baselines: constant answers by hand, scikit-learn's own pipeline as the oracle, and data that usually breaks them."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tunewright.metrics import baselines
from tunewright.metrics.baselines import fitted


def fit_and_score(train_texts, train_targets, texts, targets, **settings):
    return fitted(train_texts, train_targets, **settings)(texts, targets)


GOOD, BAD = ["good film", "a good play", "really good"], ["bad film", "a bad play", "really bad"]
SENTIMENT = {"labels": ["neg", "pos"], "seed": 0}


def test_majority_by_hand():
    """Training a a b: with one more of each the prior is a 3/5, b 2/5; the test rows a b b get a each time."""
    scores = fit_and_score(["x", "y", "z"], ["a", "a", "b"], ["x"] * 3, ["a", "b", "b"], labels=["a", "b"], seed=0)
    majority = scores["majority"]
    assert majority["accuracy"] == pytest.approx(1 / 3)
    assert majority["f1_macro"] == pytest.approx(0.25)
    assert majority["log_loss"] == pytest.approx(-(math.log(0.6) + 2 * math.log(0.4)) / 3)
    assert majority["rows_used"] == scores["tfidf_logreg"]["rows_used"] == 3
    assert set(scores["majority"]) == set(scores["tfidf_logreg"])


def test_multi_label_majority_answers_the_most_frequent_label_when_none_has_half():
    """Frequencies a 2/5, b 1/5, c 1/5: the answer is {a}, not the empty set, and log loss keeps the frequencies."""
    train = [("a",), ("a",), ("b",), ("c",), ()]
    scores = fit_and_score(
        ["x"] * 5, train, ["x"] * 2, [("a",), ("b",)], labels=["a", "b", "c"], multi_label=True, seed=0
    )
    assert scores["majority"]["exact_match"] == 0.5
    assert scores["majority"]["f1_micro"] == 0.5
    yes = [3 / 7, 2 / 7, 2 / 7]
    first, second = yes[0] * (1 - yes[1]) * (1 - yes[2]), (1 - yes[0]) * yes[1] * (1 - yes[2])
    assert scores["majority"]["log_loss"] == pytest.approx(-(math.log(first) + math.log(second)) / 6)


def test_multi_label_majority_answers_every_label_of_half_the_rows():
    train = [("a", "b"), ("a", "b"), ("a",), ("c",)]
    majority = fit_and_score(["x"] * 4, train, ["x"], [("a", "b")], labels=["a", "b", "c"], multi_label=True)[
        "majority"
    ]
    assert majority["exact_match"] == 1.0


def test_tfidf_learns_what_majority_cannot():
    scores = fit_and_score(GOOD + BAD, ["pos"] * 3 + ["neg"] * 3, ["good", "bad"], ["pos", "neg"], **SENTIMENT)
    assert scores["majority"]["accuracy"] == 0.5
    assert scores["tfidf_logreg"]["accuracy"] == 1.0


def test_one_letter_words_and_emoji_count():
    scores = fit_and_score(
        ["👍 5", "so 👍", "👎 1", "so 👎"], ["pos"] * 2 + ["neg"] * 2, ["👍", "1"], ["pos", "neg"], **SENTIMENT
    )
    assert scores["tfidf_logreg"]["accuracy"] == 1.0


def test_two_labels_are_scikit_learns_own_logistic_regression():
    texts, gold = GOOD + BAD, np.array([1, 1, 1, 0, 0, 0])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    model = LogisticRegression(C=10, solver="liblinear").fit(vectorizer.fit_transform(texts), gold)
    test, test_gold = ["good bad play", "film", "really"], np.array([1, 0, 1])
    expected = log_loss(test_gold, model.predict_proba(vectorizer.transform(test)))
    scores = fit_and_score(texts, gold, test, test_gold, labels=["neg", "pos"], seed=0)
    assert scores["tfidf_logreg"]["log_loss"] == pytest.approx(expected, rel=1e-4)


def test_multi_label_learns_each_label():
    texts, targets = [*GOOD, *BAD, "good bad", "empty"], [("p",)] * 3 + [("n",)] * 3 + [("n", "p"), ()]
    scores = fit_and_score(texts, targets, ["good", "bad", "good bad"], [("p",), ("n",), ("n", "p")],
                           labels=["n", "p"], multi_label=True, seed=0)  # fmt: skip
    assert scores["tfidf_logreg"]["f1_micro"] == 1.0


def test_pairs_learn_from_what_both_texts_say():
    """Same or different: neither text alone tells, their common words do."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]

    def pair(same: bool) -> tuple[str, str]:
        first = rng.choice(words, 4, replace=False)
        return " ".join(first), " ".join(first[::-1] if same else rng.choice(words, 4, replace=False))

    gold = rng.integers(2, size=300)
    pairs = [pair(bool(same)) for same in gold]
    scores = fit_and_score(pairs[:200], gold[:200], pairs[200:], gold[200:], labels=["different", "same"], seed=0)
    assert scores["tfidf_logreg"]["accuracy"] > 0.9


@pytest.mark.parametrize("texts", [["", " ", "\n"], ["!", "...", "?!"]])
def test_texts_without_words_leave_the_label_frequencies(texts: list[str]):
    learned = fit_and_score(texts, ["a", "a", "b"], ["", "word"], ["a", "b"], labels=["a", "b"])["tfidf_logreg"]
    assert learned["accuracy"] == 0.5
    assert learned["log_loss"] == pytest.approx(math.log(2), abs=0.1)


def test_one_class_in_training():
    for labels in (["a"], ["a", "b"], ["a", "b", "c"]):
        scores = fit_and_score(["x", "y z"], ["a", "a"], ["x", "q"], ["a", labels[-1]], labels=labels)
        assert (
            scores["tfidf_logreg"]["accuracy"] == scores["majority"]["accuracy"] == (1.0 if len(labels) == 1 else 0.5)
        )


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_label_that_training_lacks_costs_a_finite_loss(multi_label: bool):
    def targets(names: list[str]) -> list:
        return [(name,) for name in names] if multi_label else names

    scores = fit_and_score(GOOD + BAD, targets(["pos"] * 3 + ["neg"] * 3), ["good", "so so"], targets(["pos", "mixed"]),
                           labels=["mixed", "neg", "pos"], multi_label=multi_label)  # fmt: skip
    for name, values in scores.items():
        assert values["log_loss"] < 5, name
        assert all(math.isfinite(value) for value in values.values()), name


CHINESE = (
    ["这部电影很好看", "服务很好", "质量真好"],
    ["这部电影很难看", "服务很差", "质量真差"],
    ["天气很好", "味道太差"],
)
THAI = (["หนังดีมาก", "บริการดี", "ของดีจริง"], ["หนังแย่มาก", "บริการแย่", "ของแย่จริง"], ["อาหารดี", "อาหารแย่"])
RUSSIAN = (["хороший фильм", "очень хороший"], ["плохой фильм", "очень плохой"], ["хороший", "плохой"])


@pytest.mark.parametrize(("positive", "negative", "test"), [CHINESE, THAI, RUSSIAN], ids=["chinese", "thai", "russian"])
def test_scripts_other_than_latin(positive: list[str], negative: list[str], test: list[str]):
    targets = ["pos"] * len(positive) + ["neg"] * len(negative)
    scores = fit_and_score(positive + negative, targets, test, ["pos", "neg"], **SENTIMENT)
    assert scores["tfidf_logreg"]["accuracy"] == 1.0


def test_a_label_of_no_row_or_every_row_keeps_its_log_odds():
    """Of 4 rows none and all, one more counted for yes and for no: log(1/5) and log(5/1)."""
    yes = np.array([[False, True]] * 4)
    weights, bias = baselines._fit_labels(csr_matrix(np.ones((4, 3))), yes, exclusive=False, seed=0)
    assert not weights.any()
    assert bias == pytest.approx([-math.log(5), math.log(5)])


def test_more_rows_than_the_cap_are_a_seeded_subset(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TRAIN_ROWS", 4)
    first, second, other = (baselines.training_rows(GOOD + BAD, num_labels=2, seed=seed) for seed in (1, 1, 3))
    assert len(first) == 4 and (first == second).all() and (first != other).any()
    scores = fit_and_score(GOOD + BAD, ["pos"] * 3 + ["neg"] * 3, ["good"], ["pos"], **SENTIMENT)
    assert scores["tfidf_logreg"]["rows_used"] == 4 and scores["majority"]["rows_used"] == 6


def test_long_texts_and_many_labels_use_fewer_rows(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TRAIN_WORK", 100)
    assert len(baselines.training_rows(["x" * 10] * 50, num_labels=2, seed=0)) == 5
    assert len(baselines.training_rows(["x" * 1_000] * 50, num_labels=2, seed=0)) == 1


def test_the_same_seed_gives_the_same_scores():
    data = (GOOD + BAD, ["pos"] * 3 + ["neg"] * 3, ["good", "bad film"], ["pos", "neg"])
    assert fit_and_score(*data, **SENTIMENT) == fit_and_score(*data, **SENTIMENT)


def test_nothing_is_said_on_the_terminal(capfd, recwarn, monkeypatch):
    """One iteration does not converge, which scikit-learn warns of; the user need not hear of it."""
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", partial(LogisticRegression, max_iter=1))
    fit_and_score(GOOD + BAD, ["pos"] * 3 + ["neg"] * 3, ["good", "bad"], ["pos", "neg"], **SENTIMENT)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_no_rows_and_mixed_pairs_are_refused():
    with pytest.raises(ValueError, match="a baseline needs rows"):
        fit_and_score([], [], ["x"], ["a"], labels=["a"])
    with pytest.raises(ValueError, match="some rows have one text and others two"):
        fit_and_score(["x", ("x", "y")], ["a", "a"], ["x"], ["a"], labels=["a"])


def test_scikit_learn_is_imported_only_when_a_baseline_is_fitted():
    code = "import sys, tunewright.metrics.baselines, tunewright.evaluation.overfitting, tunewright.metrics.intervals; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
