"""The scores that a finished run keeps: model and baselines, per class, confusion, intervals, the worst rows.

scores["test"]["metrics"]["accuracy"], scores["test"]["intervals"]["accuracy"], scores["test"]["baseline"]["tfidf_logreg"]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from tunewright.batching.store import SplitStore
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.evaluation.read_again import RowInputs, RowReader, read_again
from tunewright.evaluation.score_split import Evaluation
from tunewright.preparation import TRAIN, Prepared
from tunewright.reading.split import assign
from tunewright.reading.unchanged import size_of
from tunewright.records import Example
from tunewright.reporting import html
from tunewright.reporting.phases import BYTES, phase
from tunewright.tasks.base import LabelledTexts, Task
from tunewright.tokenization.encoder import load_encoder


class Confusion(TypedDict):
    """matrix: rows are gold, columns predicted; with several labels per row, one 2 by 2 table for each label."""

    labels: list[str]
    matrix: list[list[int]] | list[list[list[int]]]


class Scores(TypedDict, total=False):
    """The scores of a split or a file, as `evaluate --json` prints them. Keys that a task has no value for are absent.

    rows: rows of the store, each a `unit` (row, window, block). rows_kept: the user's rows in them. rows_not_selected: those that
    `data.limit` left out. intervals: 95 %, low and high.
    baseline: name -> metric -> value. most_confused, worst_rows: for people to read.
    """

    schema: int
    task: str
    rows: int
    rows_kept: int | None
    rows_not_selected: int
    unit: str
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    baseline: dict[str, dict[str, float]]
    per_class: dict[str, dict[str, float]]
    confusion: Confusion
    most_confused: list[dict[str, object]]
    worst_rows: list[dict[str, object]]
    ledger: dict[str, object]


class ShownScores(dict[str, Any]):
    """Scores that a notebook shows as tables."""

    def _repr_html_(self) -> str:
        return scores_html("", self)


def scores_html(title: str, scores: Mapping[str, Any]) -> str:
    """The metrics and those of the baselines, the labels, and the worst rows."""
    baselines, intervals = scores.get("baseline", {}), scores.get("intervals", {})
    rows = []
    for name, value in scores["metrics"].items():
        interval = " - ".join(f"{end:.4f}" for end in intervals.get(name, ()))
        rows.append([name, float(value), interval, *(of.get(name) for of in baselines.values())])
    found = [
        html.table(
            ["", "model", "95 % interval", *baselines], rows, title=f"{title} {scores.get('rows', 0):,} rows".strip()
        )
    ]
    if scores.get("per_class"):
        columns = ("precision", "recall", "f1", "support")
        of_labels = [[name, *(values.get(key) for key in columns)] for name, values in scores["per_class"].items()]
        found.append(html.table(["label", *columns], of_labels))
    if worst := scores.get("worst_rows"):
        keys = ("row", "gold", "predicted", "score", "text")
        found.append(
            html.table(
                keys, [[row.get(key) for key in keys] for row in worst[:_MOST_CONFUSIONS]], title="confident and wrong"
            )
        )
    return "".join(found)


_MOST_CONFUSIONS = 10
MOST_BASELINE_ROWS, _LEARNED = 20_000, "learned"
_LONGEST_SHOWN = 300  # characters of a worst row's text


def split_scores(
    evaluation: Evaluation,
    worst: list[dict[str, Any]],
    *,
    unit: str = "row",
    num_kept: int | None = None,
    num_not_selected: int = 0,
) -> dict[str, Any]:
    """The JSON form of one split's evaluation. unit: what a row of the store is called; num_kept: the user's rows in them;
    num_not_selected: those that `data.limit` left out."""
    result = dict(evaluation.result)
    worst = worst or result.pop("worst_rows", [])
    scores = {
        "rows": evaluation.num_rows,
        "rows_kept": num_kept,
        "unit": unit,
        "metrics": result.pop("metrics"),
        "intervals": result.pop("intervals", {}),
    }
    if num_not_selected:
        scores["rows_not_selected"] = num_not_selected
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


def complete(
    scores: Mapping[str, dict[str, Any]],
    config: RunConfig,
    prepared: Prepared,
    task: Task,
    note: Callable[[str], None],
    *,
    others: Sequence[RowReader] = (),
) -> bool:
    """Add baselines and the texts of the worst rows to the scores of each split. False if the files cannot be read again.

    scores: split -> result of `split_scores`. others: further readers of the same pass over the files.
    """
    store = prepared.store
    has_gold = task.gold(store[TRAIN]) is not None
    from_texts = bool(scores) and config.evaluate.baselines and has_gold
    worst = {name: worst_inputs(scores[name], store[name], task) for name in scores}
    baselines = {
        name: BaselineTexts(task, store[name], capped=name == TRAIN) for name in (TRAIN, *scores) if from_texts
    }
    fault: UserError | None = None
    try:
        with prepared.files.while_read(), phase("reading the texts", size_of(prepared.files.stamps), BYTES):
            read_again(
                prepared.inputs.rows(), [*worst.values(), *baselines.values(), *others], where=str(config.data.train)
            )
    except UserError as error:
        fault = error
        lost = [
            *(["baselines"] if from_texts else []),
            *(["golden examples"] if others else []),
            "texts of the worst rows",
        ]
        note(f"The training files cannot be read again ({error.problem}), so there are no {' and no '.join(lost)}.")
    for name in scores:
        add_worst_texts(scores[name], store[name], {} if fault else worst[name].of)
    if from_texts and not fault:
        add_text_baselines(scores, baselines.pop(TRAIN), baselines, note)
    if config.evaluate.baselines and not has_gold:
        encoder = load_encoder(prepared.model, max_length=prepared.manifest["max_length"])
        for name in scores:
            scores[name]["baseline"] = task.baselines(store[TRAIN], store[name], encoder)
    return fault is None


class BaselineTexts(RowInputs):
    """Texts and gold labels of a split's rows; for a long training split, from which the baselines learn, a random subset, stratified
    by label."""

    def __init__(self, task: Task, split: SplitStore, *, capped: bool) -> None:
        gold = np.asarray(task.gold(split))
        positions, self.num_rows = np.arange(len(split)), len(split)
        if capped and len(split) > MOST_BASELINE_ROWS:
            is_label = gold.ndim == 1 and np.issubdtype(gold.dtype, np.integer)
            share = {_LEARNED: MOST_BASELINE_ROWS / len(split)}
            positions = np.flatnonzero(assign(len(split), share, seed=0, labels=gold if is_label else None) == _LEARNED)
        self.row_ids = split.row_ids[positions].tolist()
        self.gold = gold[positions]
        super().__init__(task, self.row_ids)

    @property
    def labelled(self) -> LabelledTexts:
        examples = (self.of[row_id] for row_id in self.row_ids)
        return LabelledTexts([one.text if one.pair is None else (one.text, one.pair) for one in examples], self.gold)


def add_text_baselines(
    scores: Mapping[str, dict[str, Any]],
    train: BaselineTexts,
    rows: Mapping[str, BaselineTexts],
    note: Callable[[str], None],
) -> None:
    """Add the scores of the baselines, trained once on the training rows, to those of each split."""
    if len(train.row_ids) < train.num_rows:
        note(
            f"The baselines learn from {len(train.row_ids):,} of {train.num_rows:,} training rows, a random subset stratified by label."
        )
    with phase("training the baselines"):
        score = train.task.text_baselines(train.labelled)
    for name in scores:
        with phase(f"scoring the baselines on {name}"):
            scores[name]["baseline"] = score(rows[name].labelled)


def worst_inputs(scores: Mapping[str, Any], split: SplitStore, task: Task) -> RowInputs:
    """Reads the texts of a split's worst rows."""
    return RowInputs(task, (split.row_ids[row["position"]] for row in scores["worst_rows"]))


def add_worst_texts(scores: Mapping[str, Any], split: SplitStore, inputs: Mapping[int, Example]) -> None:
    """Replace the position of each worst row by its text, or the beginning of it; without a text if it could not be read."""
    for row in scores["worst_rows"]:
        example = inputs.get(int(split.row_ids[row.pop("position")]))
        if example is not None:
            row["text"] = shortened(example.text if example.pair is None else f"{example.text} | {example.pair}")


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
