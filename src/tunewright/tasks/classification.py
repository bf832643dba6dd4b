"""Text classification: one label a row (binary, multi-class), or any number of them (multi-label); one text or a pair.

    {"text": "Where is my parcel?", "label": "order_status"}
      -> Example("Where is my parcel?", target="order_status")
      -> Encoded([101, 2073, 2003, 2026, 20463, 1029, 102]), labels=5
      -> Prediction("order_status", 0.97, {"order_status": 0.97, "refund_delay": 0.01, …})

The model is transformers' own `AutoModelForSequenceClassification`, so `pipeline("text-classification")` opens what is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tunewright.errors import RowError, UserError, did_you_mean, quoted
from tunewright.losses.cross_entropy import binary_cross_entropy_rows, cross_entropy_rows
from tunewright.metrics.classification import multi_label_scores, single_label_scores
from tunewright.metrics.intervals import multi_label_intervals, single_label_intervals
from tunewright.models.source import ModelFolder
from tunewright.records import Batch, Encoded, Example, Prediction, Row
from tunewright.tasks.base import LossTerms, Weights
from tunewright.text.columns import TextColumns
from tunewright.text.labels import LabelSpace, label_name, label_names
from tunewright.tokens.batch import attention_mask, pad
from tunewright.tokens.store import SplitStore
from tunewright.tokens.tokenizer import TextEncoder

TERM = "cross_entropy"
_SCORES_SHOWN = 10


@dataclass(frozen=True)
class Task:
    """See `tasks.base.Task`. label_names: what integer labels are called in the source, if it says so."""

    columns: TextColumns
    labels: LabelSpace
    label_names: tuple[str, ...] | None = None
    threshold: float = 0.5
    class_weights: tuple[float, ...] | None = None

    name = "classification"
    loss_terms = (TERM,)

    @property
    def multi_label(self) -> bool:
        return self.labels.multi_label

    def state(self) -> dict[str, Any]:
        return {
            "columns": self.columns.as_dict(),
            "labels": list(self.labels.names),
            "multi_label": self.multi_label,
            "label_names": list(self.label_names) if self.label_names else None,
            "threshold": self.threshold,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Task:
        return cls(
            columns=TextColumns.from_dict(state["columns"]),
            labels=LabelSpace(tuple(state["labels"]), state["multi_label"]),
            label_names=tuple(state["label_names"]) if state.get("label_names") else None,
            threshold=state.get("threshold", 0.5),
        )

    # Row -> Example -> Encoded

    def to_example(self, row: Row) -> Example:
        text, pair = self.columns.texts_of(row)
        return Example(text, pair, self._target(row), self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        """The same without a label, for prediction."""
        return Example(*self.columns.texts_of(row))

    def _target(self, row: Row) -> str | tuple[str, ...]:
        column = self.columns.label
        assert column is not None
        if column not in row.fields:
            raise RowError(f"no field {column!r}; found {quoted(row.fields)}")
        value = row.fields[column]
        if self.multi_label:
            return label_names(value, self.label_names, delimiter=self.columns.label_delimiter)
        return label_name(value, self.label_names)

    def labels_of(self, example: Example) -> tuple[str, ...]:
        """All labels of an example, also when there is just one."""
        return example.target if self.multi_label else (example.target,)

    def with_labels(self, labels: LabelSpace) -> Task:
        return replace(self, labels=labels)

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> list[Encoded]:
        pairs = [example.pair or "" for example in examples] if self.columns.pair else None
        return encoder.encode([example.text for example in examples], pairs)

    def store_fields(self) -> dict[str, Any]:
        import pyarrow as pa

        return {"labels": pa.list_(pa.float32(), len(self.labels)) if self.multi_label else pa.int64()}

    def store_values(self, example: Example) -> dict[str, Any]:
        if not self.multi_label:
            return {"labels": self.labels.index[example.target]}
        given = {self.labels.index[name] for name in example.target}
        return {"labels": [float(index in given) for index in range(len(self.labels))]}

    # Batch, model, loss

    def collate(self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, *, width: int) -> Batch:
        gold = self.gold(split)[positions]
        batch = self.collate_inputs([split.encoded(int(position)) for position in positions], encoder, width=width)
        labels = torch.from_numpy(gold.astype(np.float32 if self.multi_label else np.int64))
        return replace(batch, targets={"labels": labels}, row_ids=split.row_ids[positions])

    def collate_inputs(self, rows: Sequence[Encoded], encoder: TextEncoder, *, width: int) -> Batch:
        """Encoded rows -> a padded batch without targets, for prediction."""
        left = encoder.padding_side == "left"
        lengths = np.array([len(row.input_ids) for row in rows], dtype=np.int64)
        inputs = {
            "input_ids": pad([row.input_ids for row in rows], value=encoder.pad_token_id, width=width, left=left),
            "attention_mask": attention_mask(lengths, width, left=left),
        }
        types = [row.token_type_ids for row in rows]
        if any(one is not None for one in types):
            filled = [np.zeros(n, np.int8) if one is None else one for one, n in zip(types, lengths, strict=True)]
            inputs["token_type_ids"] = pad(filled, value=0, width=width, left=left)
        return Batch(inputs, {}, np.arange(len(rows)), lengths)

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype) -> tuple[Any, list[str]]:
        from transformers import AutoModelForSequenceClassification

        from tunewright.models.load import load_pretrained

        names = self.labels.names
        return load_pretrained(
            AutoModelForSequenceClassification,
            source,
            seed=seed,
            dtype=dtype,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id=self.labels.index,
            problem_type="multi_label_classification" if self.multi_label else "single_label_classification",
        )

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
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

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        if self.class_weights is not None and not self.multi_label:
            rows = rows * np.array(self.class_weights)[self.gold(split)]
        return Weights(rows, {TERM: rows})

    def weighted(self, split: SplitStore, setting: str | Mapping[str, float]) -> Task:
        """This task with class weights as `train.class_weights` says, counted on the training split.

        balanced, one label a row: rows / (labels · count), as scikit-learn; multi-label: (rows without) / (rows with).
        """
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
            if label not in self.labels.index:
                near = did_you_mean(label, self.labels.names)
                raise UserError(
                    f"no label {label!r}",
                    where="train.class_weights",
                    found=quoted(self.labels.names),
                    mend=f"Did you mean {near!r}?" if near else None,
                )
        return replace(self, class_weights=tuple(setting.get(name, 1.0) for name in self.labels.names))

    # Outputs -> scores -> Prediction

    def outputs_to_scores(self, outputs: np.ndarray) -> np.ndarray:
        """Logits `(rows, labels)` -> probabilities, float64: softmax, or a sigmoid per label."""
        logits = outputs.astype(np.float64)
        if self.multi_label:
            return 0.5 * (1.0 + np.tanh(0.5 * logits))
        logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return logits / logits.sum(axis=-1, keepdims=True)

    def decode(self, scores: np.ndarray, num_cut: int = 0) -> Prediction:
        best = np.argsort(-scores, kind="stable")[:_SCORES_SHOWN]
        shown = {self.labels.names[i]: float(scores[i]) for i in best}
        label, score = self.labels.names[best[0]], float(scores[best[0]])
        if not self.multi_label:
            return Prediction(label, score, shown, num_cut=num_cut)
        given = tuple(self.labels.names[i] for i in np.argsort(-scores, kind="stable") if scores[i] >= self.threshold)
        return Prediction(given[0] if given else None, score, shown, labels=given, num_cut=num_cut)

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        gold = self.gold(split)
        if self.multi_label:
            result = multi_label_scores(scores, gold, self.labels.names, threshold=self.threshold)
            if intervals:
                result["intervals"] = multi_label_intervals(scores, gold, seed=0, threshold=self.threshold)
            return result
        result = single_label_scores(scores, gold, self.labels.names)
        if intervals:
            result["intervals"] = single_label_intervals(scores, gold, seed=0)
        return result

    def metric_names(self) -> list[str]:
        """Every metric that `metrics` can give, `loss` included: of two rows, one of each of two labels."""
        scores = np.eye(2, len(self.labels)) if not self.multi_label else np.full((2, len(self.labels)), 0.5)
        if self.multi_label:
            gold = np.eye(2, len(self.labels)) > 0.5
            return ["loss", *multi_label_scores(scores, gold, self.labels.names)["metrics"]]
        return ["loss", *single_label_scores(scores, np.arange(2), self.labels.names)["metrics"]]

    def best_metric(self) -> str:
        return "f1_micro" if self.multi_label else "f1_macro"

    def wrongness(self, scores: np.ndarray, split: SplitStore) -> np.ndarray:
        """float `(rows,)`: how confidently wrong each prediction is, 0 where it is right."""
        gold = self.gold(split)
        if self.multi_label:
            return np.where((scores >= self.threshold) != gold, np.abs(scores - gold), 0.0).max(axis=1)
        wrong = scores.argmax(axis=1) != gold
        return np.where(wrong, scores.max(axis=1), 0.0)

    def gold_names(self, split: SplitStore, position: int) -> str | list[str]:
        gold = self.gold(split)[position]
        if self.multi_label:
            return [name for name, given in zip(self.labels.names, gold, strict=True) if given]
        return self.labels.names[int(gold)]
