"""Gold and predicted spans -> precision, recall and F1 over whole spans, partial matches, and what is taken for what.

    gold [[Span(0, 2, "PER"), Span(5, 6, "LOC")]], predicted [[Span(0, 2, "PER"), Span(5, 7, "LOC")]]
    ->  span_precision 0.5, span_recall 0.5, span_f1 0.5, partial_f1 (1 + 0.5) / 2 = 0.75, type_f1 1.0, boundary_f1 0.5

A span is right where start, end and type are. Scores of tags equal seqeval's in both of its modes; a test holds that.
Array suffixes: B rows, L types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.annotations.spans import Span
from tunewright.metrics.averages import averaged, precision_recall_f1
from tunewright.metrics.metric import higher

NO_SPAN = "O"
"""Its name in the confusion matrix."""
_AVERAGES = {"micro": "", "macro": "_macro", "weighted": "_weighted"}

Rows = Sequence[Sequence[Span]]


def span_scores(gold: Rows, predicted: Rows, types: Sequence[str] = ()) -> dict[str, Any]:
    """Scores of predicted spans, one sequence of spans a row on each side; units or characters, the same on both.

    types: those to show also where they do not occur. Gives `{"metrics": {name: Metric}, "per_class": {type: {precision,
    recall, f1, support}}, "confusion": {"labels": [...], "matrix": [[int]]}, "confusions": [...]}`.
    metrics: span_{precision, recall, f1} (micro), the same with _macro (over the types in gold or predicted) and _weighted;
    boundary_f1, type_f1 and partial_f1 of spans paired one to one: same boundaries, same type and overlap, overlap at half credit
    (MUC-5 as in SemEval-2013 task 9.1). ValueError where the sides have different numbers of rows.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} rows of gold spans, {len(predicted)} of predicted ones")
    names = sorted({span.label for rows in (gold, predicted) for row in rows for span in row} | set(types))
    correct_L, predicted_L, support_L = (table.sum(axis=0) for table in span_counts(gold, predicted, names))
    metrics = named(averaged(correct_L, predicted_L, support_L, only_present=True))
    pairs = Counter(kind for one, other in zip(gold, predicted, strict=True) for kind in _kinds(one, other))
    metrics |= _partial(pairs, num_spans=int(predicted_L.sum() + support_L.sum()))
    columns = zip(names, *precision_recall_f1(correct_L, predicted_L, support_L), support_L, strict=True)
    return {
        "metrics": higher(metrics),
        "per_class": {
            name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
            for name, precision, recall, f1, support in columns
        },
        "confusion": {"labels": [*names, NO_SPAN], "matrix": _matrix(pairs, names)},
        "confusions": _confusions(pairs),
    }


def named(scores: dict[str, Any]) -> dict[str, Any]:
    """`f1_micro` -> `span_f1`, `f1_macro` -> `span_f1_macro`: the names of `averaged` as names of span scores."""
    split = {name: name.rsplit("_", 1) for name in scores}
    return {f"span_{split[name][0]}{_AVERAGES[split[name][1]]}": value for name, value in scores.items()}


def span_counts(gold: Rows, predicted: Rows, types: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(correct, predicted, support): int64 `(rows, types)` each. A span that stands twice in a row counts once."""
    index = {name: place for place, name in enumerate(types)}
    tables = np.zeros((3, len(gold), len(types)), dtype=np.int64)
    for row, (one, other) in enumerate(zip(gold, predicted, strict=True)):
        known, guessed = set(one), set(other)
        for table, spans in zip(tables, (known & guessed, guessed, known), strict=True):
            for span in spans:
                table[row, index[span.label]] += 1
    return tables[0], tables[1], tables[2]


Kind = tuple[str | None, str | None, bool]
"""(type in gold or None, predicted type or None, whether the boundaries are the same)."""


def paired(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[Span | None, Span | None]]:
    """Spans of one row, each with at most one of the other side: equal ones, then equal boundaries, then most overlap."""
    known, guessed = sorted(set(gold)), sorted(set(predicted))
    candidates = [
        (-(a == b), -(a[:2] == b[:2]), max(a.start, b.start) - min(a.end, b.end), i, j)
        for i, a in enumerate(known)
        for j, b in enumerate(guessed)
        if a.start < b.end and b.start < a.end
    ]
    pairs: list[tuple[Span | None, Span | None]] = []
    free, unmatched = set(range(len(known))), set(range(len(guessed)))
    for *_, i, j in sorted(candidates):
        if i in free and j in unmatched:
            pairs.append((known[i], guessed[j]))
            free.remove(i)
            unmatched.remove(j)
    pairs += [(known[i], None) for i in sorted(free)]
    return pairs + [(None, guessed[j]) for j in sorted(unmatched)]


def _kinds(gold: Sequence[Span], predicted: Sequence[Span]) -> list[Kind]:
    return [
        (one and one.label, other and other.label, bool(one and other and one[:2] == other[:2]))
        for one, other in paired(gold, predicted)
    ]


def _partial(pairs: Counter[Kind], *, num_spans: int) -> dict[str, float]:
    credits = {"boundary_f1": 0.0, "type_f1": 0.0, "partial_f1": 0.0}
    for (one, other, same), count in pairs.items():
        if one is not None and other is not None:
            credits["boundary_f1"] += same * count
            credits["type_f1"] += (one == other) * count
            credits["partial_f1"] += (1.0 if same else 0.5) * count
    return {name: 2 * credit / num_spans if num_spans else 0.0 for name, credit in credits.items()}


def _matrix(pairs: Counter[Kind], types: Sequence[str]) -> list[list[int]]:
    """Rows gold, columns predicted, the last of each is no span. Pairs count by their types, whatever their boundaries."""
    index = {name: place for place, name in enumerate(types)}
    matrix = np.zeros((len(types) + 1, len(types) + 1), dtype=np.int64)
    for (one, other, _), count in pairs.items():
        matrix[len(types) if one is None else index[one], len(types) if other is None else index[other]] += count
    return matrix.tolist()


def _confusions(pairs: Counter[Kind]) -> list[dict[str, Any]]:
    """Every kind of mistake with its count, the most frequent first. None stands for no span."""
    wrong = [(kind, count) for kind, count in pairs.items() if kind[0] != kind[1] or not kind[2]]
    wrong.sort(key=lambda item: (-item[1], str(item[0])))
    return [
        {
            "gold": one,
            "predicted": other,
            "boundaries": ("same" if same else "other") if one and other else None,
            "count": n,
        }
        for (one, other, same), n in wrong
    ]
