"""Text classification: one label a row (binary, multi-class), or any number of them (multi-label); one text or a pair.

    {"text": "Where is my parcel?", "label": "order_status"}
      -> Example("Where is my parcel?", target="order_status")
      -> Encoded([101, 2073, 2003, 2026, 20463, 1029, 102]), labels=5
      -> Prediction("order_status", 0.97, {"order_status": 0.97, "refund_delay": 0.01, …})

The model is transformers' own `AutoModelForSequenceClassification`, so `pipeline("text-classification")` opens what is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tunewright.annotations.labels import (
    MAX_LABELS,
    LabelSpace,
    are_multi_hot,
    are_scores,
    are_tags_of_words,
    check_labels,
    joined_labels,
    label_name,
    label_names,
    parse_binary_columns,
)
from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.errors import RowError, RowSkipped, UserError, did_you_mean, quoted
from tunewright.files.record_json import OMIT_NONE, RUN_ONLY
from tunewright.metrics.classification import multi_label_scores, single_label_scores
from tunewright.metrics.intervals import multi_label_intervals, single_label_intervals
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.detect import CLASSES, check_columns, detect_roles, kind_of_labels, refuse_choices
from tunewright.reading.names import normalize_name
from tunewright.records import Batch, Encoded, Example, Prediction, Row
from tunewright.tasks import base
from tunewright.tasks.base import TASK_SPECIFIC, LabelledTexts, TaskOptions, Weights
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.tasks.base import LossTerms

TERM = "cross_entropy"
_MOST_DECIMALS = 20
"""So many classes may be called by decimals."""
_OFTEN = 0.05
"""Of the rows looked at, how many have joined labels where they are to be several."""


class Options(TaskOptions):
    """Classification is set in the `data` and `train` sections."""

    reads = TASK_SPECIFIC - {"evaluate.num_generated"}


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. label_names: what integer labels are called in the source, if it says so."""

    columns: TextColumns = field()
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    label_names: tuple[str, ...] | None = None
    threshold: float = 0.5
    class_weights: tuple[float, ...] | None = field(default=None, metadata=RUN_ONLY)
    multi_hot: bool = False
    """Whether a row's labels are a list with a nought or one for each label."""
    decimals: bool | None = field(default=None, metadata=OMIT_NONE)
    """Whether decimals are names of classes: where the column holds nothing but numbers, and the user says that they are classes."""
    num_shown: int = field(default=10, metadata=RUN_ONLY)
    """How many labels' scores a prediction holds."""

    name = "classification"
    pipeline = "text-classification"
    loss_terms = (TERM,)
    has_classes = True
    has_sequence_head = True
    reads_label_columns = True

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        data = config.data
        named = [data.text] if isinstance(data.text, str) else list(data.text or ())
        check_columns(data, columns, where=source.name, keys=("text", "pair", "label", "group_by", "weight"))
        each = _columns_of_labels(data, named)
        label = each[0] if each else data.label
        others = [column for column in columns if column not in each[1:]]
        roles = detect_roles(others, rows, text=tuple(named), pair=data.pair, label=label)
        if roles.label is None:
            raise UserError(
                "no label column found",
                where=source.name,
                found=quoted(columns),
                hint="Set data.label to the column with the labels; where answers are to be learned, task=sft, data.text to the "
                "column of prompts and data.label to the one of answers.",
            )
        if not named and "_input_hash" not in columns:  # Prodigy keeps its options in each row
            refuse_choices(columns, roles.text[0], source.name)
        names = each or data.label_names or source.class_names.get(roles.label)
        multi_label = roles.multi_label or bool(each or data.label_delimiter)
        delimiter, reason = data.label_delimiter, roles.reason
        if not multi_label and data.multi_label is None and not names:
            given = [str(row.fields.get(roles.label)) for row in rows]
            joined = joined_labels(sorted(set(given)))
            if joined is not None and sum(joined[0] in one for one in given) < _OFTEN * len(given):
                reason += f". {_several_in_one(joined)}"
            elif joined is not None:
                multi_label, delimiter = True, joined[0]
                reason += f"; {joined[1]!r} and its like are several labels, joined by {delimiter!r} (data.multi_label=false: each is one)"
        multi_label = multi_label if data.multi_label is None else data.multi_label
        if each:
            reason += f", {quoted(each[1:])} beside it, a label each"
        task = cls(
            TextColumns(roles.text, roles.pair, None if each else roles.label, data.weight, delimiter, each),
            multi_label=multi_label,
            label_names=tuple(names) if names else None,
            threshold=config.evaluate.threshold,
            decimals=None if kind_of_labels([row.fields.get(roles.label) for row in rows]) == CLASSES else True,
            multi_hot=multi_label and not each and are_multi_hot(row.fields.get(roles.label) for row in rows),
        )
        return task, reason

    @property
    def known_names(self) -> Sequence[str]:
        return self.labels

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **({"multi_label": True} if self.multi_label else {})}

    # Row -> Example -> Encoded

    def to_example(self, row: Row) -> Example:
        if "_input_hash" in row.fields and row.fields.get("answer", "accept") != "accept":
            raise RowSkipped(f"its answer is {row.fields['answer']!r}, not 'accept'")  # of Prodigy
        text, pair = self.columns.texts_of(row)
        return Example(text, pair, self._target(row), self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        """The same without a label, for prediction."""
        return Example(*self.columns.texts_of(row))

    def _target(self, row: Row) -> str | tuple[str, ...]:
        columns = self.columns.labels or (self.columns.label,)
        missing = next((column for column in columns if column not in row.fields), None)
        if missing is not None:
            raise RowError(f"no field {missing!r}; found {quoted(row.fields)}")
        if self.columns.labels:
            return parse_binary_columns({column: row.fields[column] for column in self.columns.labels})
        value = row.fields[str(self.columns.label)]
        if value == "-" and normalize_name(str(self.columns.label)) == "gold_label":
            raise RowSkipped("no gold label ('-')")  # of SNLI, where annotators disagreed
        if self.multi_label:
            return label_names(
                value, self.label_names, delimiter=self.columns.label_delimiter, multi_hot=self.multi_hot
            )
        return label_name(value, self.label_names, decimals=bool(self.decimals))

    def labels_of(self, example: Example) -> Sequence[str]:
        if example.target is None:
            return ()
        return example.target if self.multi_label else (example.target,)

    def check_label_counts(self, counts: Mapping[str, int], *, where: str) -> None:
        if len(counts) > MAX_LABELS:
            check_labels(LabelSpace(tuple(counts)), where=f"{where}, column {self.columns.named_label!r}")

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Task:
        """Labels in the order the user names, else the order of a classifier that knows the same ones, else sorted."""
        known = model.json_file("config.json").get("id2label") or {}
        of_model = tuple(known[key] for key in sorted(known, key=int))
        if self.label_names:
            labels = LabelSpace(self.label_names, self.multi_label)
        elif set(of_model) == set(counts):
            labels = LabelSpace(of_model, self.multi_label)
        else:
            labels = LabelSpace.learn(counts, multi_label=self.multi_label)
        column = f"{where}, column {self.columns.named_label!r}"
        _check_kind(labels.names, where=column, num_given=sum(counts.values()))
        check_labels(labels, where=column, num_given=sum(counts.values()) if not self.label_names else None)
        return replace(self, labels=labels.names)

    def data_warnings(self, store: TokenStore) -> list[str]:
        joined = None if self.multi_label else joined_labels(self.labels)
        return [_several_in_one(joined)] if joined else []

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        pairs = [example.pair or "" for example in examples] if self.columns.pair else None
        rows = encoder.encode_rows([example.text for example in examples], pairs)
        if any(example.target is None for example in examples):
            return rows
        return replace(rows, values={"labels": [self._label_value(example.target) for example in examples]})

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        return {"labels": pa.list_(pa.float32(), len(self.labels)) if self.multi_label else pa.int64()}

    def _label_value(self, target: Any) -> int | list[float]:
        if not self.multi_label:
            return self._index[target]
        given = {self._index[name] for name in target}
        return [float(index in given) for index in range(len(self.labels))]

    # Batch, model, loss

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        import torch

        gold = self.gold(split)[positions]
        batch = self.collate_inputs([split.encoded(int(position)) for position in positions], encoder, padding)
        labels = torch.from_numpy(gold.astype(np.float32 if self.multi_label else np.int64))
        return replace(batch, targets={"labels": labels}, row_ids=split.keys[positions])

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForSequenceClassification

        from tunewright.models.loading import load_pretrained

        names = self.labels
        return load_pretrained(
            AutoModelForSequenceClassification,
            source,
            seed=seed,
            dtype=dtype,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id=self._index,
            problem_type="multi_label_classification" if self.multi_label else "single_label_classification",
        )

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        import torch

        from tunewright.losses.cross_entropy import binary_cross_entropy_rows, cross_entropy_rows

        logits_BK = model(**batch.inputs).logits
        labels = batch.targets["labels"]
        if self.multi_label:
            positive = None if self.class_weights is None else torch.tensor(self.class_weights, device=logits_BK.device)
            rows = binary_cross_entropy_rows(logits_BK, labels, positive_weight_K=positive)
        else:
            rows = cross_entropy_rows(logits_BK, labels)
        if weights is None:
            return {TERM: (rows.sum(), float(len(rows)))}, logits_BK
        weights = weights.to(rows)
        return {TERM: ((rows * weights).sum(), weights.sum())}, logits_BK

    def gold(self, split: SplitStore) -> np.ndarray:
        """int64 `(rows,)`, or bool `(rows, labels)` for multi-label."""
        values = split.array("labels")
        return values.reshape(len(split), len(self.labels)) > 0.5 if self.multi_label else values

    def text_baselines(self, train: LabelledTexts) -> Callable[[LabelledTexts], dict[str, dict[str, float]]]:
        """majority: the most frequent label, whatever the text; tfidf_logreg: a bag of words."""
        from tunewright.metrics.baselines import fitted

        score = fitted(train.texts, train.gold, labels=self.labels, multi_label=self.multi_label)
        return lambda rows: score(rows.texts, rows.gold)

    def label_counts(self, split: SplitStore) -> dict[str, int]:
        gold = self.gold(split)
        counts = gold.sum(axis=0) if self.multi_label else np.bincount(gold, minlength=len(self.labels))
        return dict(zip(self.labels, map(int, counts), strict=True))

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        if self.class_weights is not None and not self.multi_label:
            rows = rows * np.array(self.class_weights)[self.gold(split)]
        return Weights(rows, {TERM: rows})

    def for_evaluation(self) -> Task:
        return replace(self, class_weights=None)

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Task:
        """This task with class weights as `train.class_weights` says, counted on the training split.

        balanced, one label a row: rows / (labels · count), as scikit-learn; multi-label: (rows without) / (rows with).
        """
        setting = config.train.class_weights
        if setting == "none":
            return self
        if isinstance(setting, str):
            gold = self.gold(split)
            if self.multi_label:
                counts = gold.sum(axis=0).clip(1)
                return replace(self, class_weights=tuple((len(gold) - counts) / counts))
            counts = np.bincount(gold, minlength=len(self.labels)).clip(1)
            return replace(self, class_weights=tuple(len(gold) / (len(self.labels) * counts)))
        for label in setting:
            if label not in self._index:
                near = did_you_mean(label, self.labels)
                raise UserError(
                    f"no label {label!r}",
                    where="train.class_weights",
                    found=quoted(self.labels),
                    hint=f"Did you mean {near!r}?" if near else None,
                )
        return replace(self, class_weights=tuple(setting.get(name, 1.0) for name in self.labels))

    # Outputs -> scores -> Prediction

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Logits -> probabilities, float64 `(rows, labels)`: softmax, or a sigmoid per label."""
        logits = np.stack(outputs).astype(np.float64)
        if self.multi_label:
            return 0.5 * (1.0 + np.tanh(0.5 * logits))
        logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(logits / logits.sum(axis=-1, keepdims=True))

    def with_num_shown(self, num_shown: int) -> Self:
        return replace(self, num_shown=num_shown)

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[np.ndarray]) -> Prediction:
        return self._decoded(scores[0], rows[0].num_cut)

    def _decoded(self, scores: np.ndarray, num_cut: int = 0) -> Prediction:
        best = np.argsort(-scores, kind="stable")[: self.num_shown]
        shown = {self.labels[i]: float(scores[i]) for i in best}
        label, score = self.labels[best[0]], float(scores[best[0]])
        if not self.multi_label:
            return Prediction(label, score, shown, num_cut=num_cut)
        given = tuple(self.labels[i] for i in np.argsort(-scores, kind="stable") if scores[i] >= self.threshold)
        return Prediction(given[0] if given else None, score, shown, labels=given, num_cut=num_cut)

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        several: dict[str, Any] = {"labels": []} if self.multi_label else {}
        return {"label": None, "score": None, **several, "scores": {}}

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        gold = self.gold(split)
        if self.multi_label:
            result = multi_label_scores(scores, gold, self.labels, threshold=self.threshold)
            if intervals:
                result["intervals"] = multi_label_intervals(scores, gold, seed=0, threshold=self.threshold)
            return result
        result = single_label_scores(scores, gold, self.labels)
        if intervals:
            result["intervals"] = single_label_intervals(scores, gold, seed=0)
        return result

    def metric_names(self) -> list[str]:
        """Every metric that `metrics` can give, `loss` included: of two rows, one of each of two labels."""
        scores = np.eye(2, len(self.labels)) if not self.multi_label else np.full((2, len(self.labels)), 0.5)
        if self.multi_label:
            gold = np.eye(2, len(self.labels)) > 0.5
            return ["loss", *multi_label_scores(scores, gold, self.labels)["metrics"]]
        return ["loss", *single_label_scores(scores, np.arange(2), self.labels)["metrics"]]

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        counts = self.label_counts(split)
        present = [name for name, count in counts.items() if count]
        if self.multi_label and not present:
            absent = [name for name in self.metric_names() if name.startswith(("precision_", "recall_", "f1_"))]
            return dict.fromkeys(absent, "none of its rows has a label")
        if not self.multi_label and len(counts) == 2 and len(present) == 1:
            return dict.fromkeys(("roc_auc", "average_precision"), f"all of its rows are {present[0]!r}")
        return {}

    def best_metric(self) -> str:
        return "f1_micro" if self.multi_label else "f1_macro"

    def worst(self, scores: np.ndarray, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """The most confidently wrong rows. Worth a look: often the label is what is wrong."""
        wrongness = self._wrongness(scores, split)
        rows = []
        for position in map(int, np.argsort(-wrongness, kind="stable")[:limit]):
            if wrongness[position] <= 0:
                break
            predicted = self._decoded(scores[position])
            rows.append({
                "row": split.address(position),
                "position": position,
                "gold": self.gold_names(split, position),
                "predicted": list(predicted.labels) if predicted.labels is not None else predicted.label,
                "score": predicted.score,
            })  # fmt: skip
        return rows

    def _wrongness(self, scores: np.ndarray, split: SplitStore) -> np.ndarray:
        """float `(rows,)`: how confidently wrong each prediction is, 0 where it is right."""
        gold = self.gold(split)
        if self.multi_label:
            return np.asarray(np.where((scores >= self.threshold) != gold, np.abs(scores - gold), 0.0).max(axis=1))
        wrong = scores.argmax(axis=1) != gold
        return np.where(wrong, scores.max(axis=1), 0.0)

    def gold_names(self, split: SplitStore, position: int) -> str | list[str]:
        gold = self.gold(split)[position]
        if self.multi_label:
            return [name for name, given in zip(self.labels, gold, strict=True) if given]
        return self.labels[int(gold)]


def _columns_of_labels(data: Any, text: Sequence[str]) -> tuple[str, ...]:
    """The columns that are a label each, () where one column holds the labels. UserError where they cannot be."""
    if not isinstance(data.label, list):
        return ()
    each = tuple(data.label)
    if taken := set(each).intersection({*text, data.pair, data.weight, data.group_by}):
        raise UserError(
            "a column cannot be a label and something else", where="data.label", found=quoted(sorted(taken))
        )
    if len(each) < 2 or len(set(each)) < len(each) or data.label_names:
        raise UserError(
            "a column for each label", where="data.label", found=quoted(each),
            expected="two different columns or more, and their names as those of the labels",
            hint="Name one column alone, data.label=…, or leave out data.label_names.",
        )  # fmt: skip
    if data.multi_label is False:
        raise UserError("a column for each label is multi-label", where="data.multi_label", hint="Leave it out.")
    return each


def _several_in_one(joined: tuple[str, str]) -> str:
    """What to do where few labels are other labels joined."""
    delimiter, label = joined
    return (
        f"Label {label!r} is other labels joined: where a row may have several, set data.label_delimiter={delimiter!r}."
    )


def _check_kind(names: Sequence[str], *, where: str, num_given: int) -> None:
    """UserError for labels that say something else than what kind of text a row is: few decimals that repeat are classes to who says so."""
    if are_tags_of_words(names):
        raise UserError(
            "these are tags of words, not kinds of texts", where=where, found=quoted(names, limit=4),
            expected="CoNLL, or JSONL with tokens and ner_tags as lists",
            hint="Write them so: named entities are then learned (task: ner).",
        )  # fmt: skip
    if are_scores(names) and len(names) > min(_MOST_DECIMALS, num_given / 2):
        raise UserError(
            "these are numbers on a scale, not classes", where=where, found=quoted(names, limit=4),
            hint="task=regression predicts the number itself; else round them to a few classes, or set data.label to another column.",
        )  # fmt: skip
