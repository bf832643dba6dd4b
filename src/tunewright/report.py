"""What is kept of a finished run's scores: model beside baselines, per class, confusion, intervals, the worst rows.

scores["test"]["metrics"]["accuracy"], scores["test"]["intervals"]["accuracy"], scores["test"]["baseline"]["tfidf_logreg"]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tunewright.config import RunConfig
from tunewright.errors import UserError
from tunewright.evaluation import Evaluation
from tunewright.prepare import TRAIN, Prepared, open_inputs
from tunewright.records import Row
from tunewright.tokens.store import SplitStore
from tunewright.tokens.tokenizer import load_encoder

_MOST_CONFUSIONS = 10
_MOST_BASELINE_ROWS = 20_000


def split_scores(evaluation: Evaluation, worst: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON form of one split's evaluation."""
    result = dict(evaluation.result)
    worst = worst or result.pop("worst_rows", [])
    scores = {"rows": evaluation.num_rows, "metrics": result.pop("metrics"), "intervals": result.pop("intervals", {})}
    if np.ndim(result.get("confusion", {}).get("matrix", 0)) == 2:
        result["most_confused"] = most_confused(result["confusion"])
    return {**scores, **result, "worst_rows": worst}


def most_confused(confusion: dict[str, Any]) -> list[dict[str, Any]]:
    """The largest off-diagonal cells: gold, predicted, rows."""
    labels, matrix = confusion["labels"], np.array(confusion["matrix"])
    cells = [
        (int(matrix[g, p]), g, p) for g, p in itertools.product(range(len(labels)), repeat=2) if g != p and matrix[g, p]
    ]
    cells.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    return [{"gold": labels[g], "predicted": labels[p], "rows": n} for n, g, p in cells[:_MOST_CONFUSIONS]]


def add_baselines(
    scores: dict[str, Any], config: RunConfig, prepared: Prepared, task: Any, note: Callable[[str], None]
) -> None:
    """Score the simple baselines on each evaluated split, learned from the same training rows. Needs the source files."""
    from tunewright.baseline import fit_and_score

    if not scores:
        return
    if not hasattr(task, "gold"):
        encoder = load_encoder(prepared.model, max_length=prepared.manifest["max_length"])
        for name in scores:
            scores[name]["baseline"] = task.baselines(prepared.store[TRAIN], prepared.store[name], encoder)
        return
    try:
        with prepared.files.while_read():
            texts = {
                name: texts_and_gold(config, task, prepared.store[name], capped=name == TRAIN)
                for name in (TRAIN, *scores)
            }
    except UserError as error:
        note(f"No baselines: the training files cannot be read again ({error.problem}).")
        return
    train_texts, train_gold = texts[TRAIN]
    for name in scores:
        test_texts, gold = texts[name]
        scores[name]["baseline"] = fit_and_score(
            train_texts, train_gold, test_texts, gold, labels=task.labels.names, multi_label=task.multi_label
        )


def texts_and_gold(config: RunConfig, task: Any, split: SplitStore, *, capped: bool) -> tuple[list[Any], np.ndarray]:
    """Texts and gold labels of a split's rows, read again from the sources; of a long training split a seeded subset."""
    positions = np.arange(len(split))
    if capped and len(split) > _MOST_BASELINE_ROWS:
        positions = np.sort(np.random.default_rng(0).permutation(len(split))[:_MOST_BASELINE_ROWS])
    wanted = split.row_ids[positions]
    texts = []
    for row in rows_by_id(config, wanted):
        example = task.to_input(row)
        texts.append(example.text if example.pair is None else (example.text, example.pair))
    return texts, task.gold(split)[positions]


def rows_by_id(config: RunConfig, row_ids: Sequence[int] | np.ndarray) -> Iterator[Row]:
    """The rows with these ids (ascending), read from the config's sources."""
    wanted = iter([int(row_id) for row_id in row_ids])
    next_id = next(wanted, None)
    for row_id, row in enumerate(open_inputs(config).rows()):
        if next_id is None:
            return
        if row_id == next_id:
            if not isinstance(row, Row):
                raise UserError("the file has changed since it was prepared", where=row.address)
            yield row
            next_id = next(wanted, None)
    if next_id is not None:
        raise UserError("the files have fewer rows than when they were prepared", where=str(config.data.train))
