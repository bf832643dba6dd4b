"""Span scores: by hand, equal to seqeval in both modes, partial matches, confusions, intervals."""

from __future__ import annotations

import random
import warnings
from functools import partial

import numpy as np
import pytest

from tunewright.annotations.spans import Span
from tunewright.metrics.intervals import span_intervals
from tunewright.metrics.spans import paired, span_counts, span_scores
from tunewright.metrics.tags import lenient_spans, strict_spans

GOLD = [[Span(0, 2, "PER"), Span(5, 6, "LOC")], [Span(0, 1, "ORG")], []]
PREDICTED = [[Span(0, 2, "PER"), Span(5, 7, "LOC")], [Span(0, 1, "LOC")], [Span(3, 4, "PER")]]


def test_by_hand():
    """1 right of 4 predicted and 3 in gold. Types: PER 1/2 and 1/1, LOC 0/2 and 0/1, ORG 0/0 and 0/1."""
    scores = span_scores(GOLD, PREDICTED)
    metrics = scores["metrics"]
    assert metrics["span_precision"] == 1 / 4
    assert metrics["span_recall"] == 1 / 3
    assert metrics["span_f1"] == pytest.approx(2 / 7)
    assert metrics["span_f1_macro"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert metrics["span_f1_weighted"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert metrics["boundary_f1"] == pytest.approx(2 * 2 / 7)  # PER, and the ORG taken for a LOC
    assert metrics["type_f1"] == pytest.approx(2 * 2 / 7)  # PER, and the LOC that is too long
    assert metrics["partial_f1"] == pytest.approx(2 * 2.5 / 7)
    assert scores["per_class"]["PER"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert scores["confusion"] == {
        "labels": ["LOC", "ORG", "PER", "O"],
        "matrix": [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]],
    }
    assert scores["confusions"] == [
        {"gold": "LOC", "predicted": "LOC", "boundaries": "other", "count": 1},
        {"gold": "ORG", "predicted": "LOC", "boundaries": "same", "count": 1},
        {"gold": None, "predicted": "PER", "boundaries": None, "count": 1},
    ]


def test_nothing_anywhere_scores_zero():
    assert set(span_scores([[]], [[]])["metrics"].values()) == {0.0}
    assert span_scores([[]], [[]], ["PER"])["per_class"]["PER"]["support"] == 0
    with pytest.raises(ValueError, match="2 rows of gold spans, 1 of predicted"):
        span_scores([[], []], [[]])


def test_each_span_has_at_most_one_partner():
    gold, predicted = [Span(0, 10, "A")], [Span(0, 3, "A"), Span(3, 10, "A")]
    assert paired(gold, predicted) == [(gold[0], predicted[1]), (None, predicted[0])]  # the one that overlaps more
    same, other = Span(2, 4, "B"), Span(2, 4, "A")
    assert paired([other], [same, other]) == [(other, other), (None, same)]


def test_lenient_and_strict_reading():
    tags = ["I-PER", "I-LOC", "O", "B-LOC", "I-PER"]
    assert lenient_spans(tags) == [Span(0, 1, "PER"), Span(1, 2, "LOC"), Span(3, 4, "LOC"), Span(4, 5, "PER")]
    assert strict_spans(tags, "IOB2") == [Span(3, 4, "LOC")]
    assert strict_spans(["B-A", "I-A", "O", "B-A", "E-A"], "BIOES") == [Span(3, 5, "A")]
    with pytest.raises(ValueError, match="'E-A' is no tag of IOB2"):
        strict_spans(["E-A"], "IOB2")


def sequences(prefixes: str, num: int) -> tuple[list[list[str]], list[list[str]]]:
    """Tags drawn at random, mostly illegal, and a second reading that agrees on six of ten."""
    rng = random.Random(7)
    tags = ["O", "O", *(f"{prefix}-{name}" for prefix in prefixes for name in ("PER", "LOC", "a-b"))]
    gold = [rng.choices(tags, k=rng.randint(1, 12)) for _ in range(num)]
    return gold, [[tag if rng.random() < 0.6 else rng.choice(tags) for tag in row] for row in gold]


@pytest.mark.parametrize(
    ("scheme", "theirs", "prefixes"),
    [("IOB2", "IOB2", "BI"), ("IOB1", "IOB1", "BI"), ("BIOES", "IOBES", "BIES"), ("BILOU", "BILOU", "BILU")],
)
def test_equal_to_seqeval_on_ten_thousand_sequences(scheme, theirs, prefixes):
    """2,500 in each of four schemes."""
    from seqeval import scheme as schemes
    from seqeval.metrics import sequence_labeling, v1

    gold, predicted = sequences(prefixes, 2_500)
    for mode in ("lenient", "strict"):
        read = partial(strict_spans, scheme=scheme) if mode == "strict" else lenient_spans
        ours = span_scores([read(tags) for tags in gold], [read(tags) for tags in predicted])
        for average, suffix in (("micro", ""), ("macro", "_macro"), ("weighted", "_weighted")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if mode == "strict":
                    oracle = v1.precision_recall_fscore_support(
                        gold, predicted, average=average, scheme=getattr(schemes, theirs)
                    )
                else:
                    oracle = sequence_labeling.precision_recall_fscore_support(gold, predicted, average=average)
            found = [ours["metrics"][f"span_{name}{suffix}"] for name in ("precision", "recall", "f1")]
            assert found == pytest.approx(oracle[:3], abs=1e-12), (mode, average)


def test_counts_and_intervals():
    correct, predicted, support = span_counts(GOLD, PREDICTED, ["LOC", "ORG", "PER"])
    assert correct.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert predicted.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert support.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    intervals = span_intervals(correct, predicted, support, seed=0)
    assert intervals == span_intervals(correct, predicted, support, seed=0)
    assert set(intervals) == {name for name in span_scores(GOLD, PREDICTED)["metrics"] if name.startswith("span_")}


def test_intervals_agree_with_resampling_rows_one_by_one():
    rng = np.random.default_rng(2)
    gold = [[Span(i, i + 1, "AB"[i % 2]) for i in range(6) if rng.random() < 0.5] for _ in range(200)]
    predicted = [[s for s in row if rng.random() < 0.8] + [Span(9, 10, "A")] * (rng.random() < 0.3) for row in gold]
    naive = []
    for _ in range(300):
        rows = rng.integers(200, size=200)
        naive.append(span_scores([gold[r] for r in rows], [predicted[r] for r in rows])["metrics"]["span_f1"])
    interval = span_intervals(*span_counts(gold, predicted, ["A", "B"]), seed=0)["span_f1"]
    assert interval == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.01)
