"""Regression: one number a row, or several (a rating, a price, how alike two texts are); one text or a pair.

    {"sentence1": "A man sleeps.", "sentence2": "A man is asleep.", "score": 4.8}
      -> Example("A man sleeps.", "A man is asleep.", target=(4.8,))
      -> EncodedRows([101, 1037, …, 102]), labels [4.8]
      -> collate: labels [[1.49]], in standard deviations from the mean of the training rows
      -> Numbers({"score": 4.71})

The model is transformers' own `AutoModelForSequenceClassification`. It learns in standard deviations, which every rate fits; once it is
trained, its last layer is scaled to answer in the data's own unit, so `pipeline("text-classification")` does too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore
from tunewright.errors import RowError, UserError, quoted, renamed
from tunewright.metrics.regression import regression_intervals, regression_scores, simple_predictions
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.detect import (
    CLASSES,
    NUMBERS,
    UNCLEAR,
    Roles,
    check_columns,
    detect_roles,
    kind_of_labels,
    number_columns,
)
from tunewright.reading.stringified import stringified_list
from tunewright.records import Batch, Encoded, Example, Row
from tunewright.tasks import base
from tunewright.tasks.base import LabelledTexts, TaskOptions, Weights
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.tasks.base import LossTerms

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OF_CLASSES = ("label_names", "label_delimiter", "multi_label")
"""Keys of the data section that only classes have."""
_DELTA = 1.0


class Options(TaskOptions):
    reads = frozenset({"data.pair", "data.label", "data.weight"})
    name: str = "regression"
    loss: Literal["squared", "huber"] = Field(
        "squared", description="squared error, or huber: an outlier pulls no harder than one at huber_delta."
    )
    huber_delta: PositiveFloat = Field(
        _DELTA,
        description="With loss: huber, from where on errors count linearly, in standard deviations of the training rows.",
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a model says of one input, in the data's own unit: name -> number."""

    text: str
    values: Mapping[str, float]
    num_cut: int = 0

    def with_min_score(self, min_score: float) -> Numbers:
        """Itself: a number is no probability."""
        return self

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints: of one number `value`, of several `values` by name."""
        found = {"values": dict(self.values)} if len(self.values) > 1 else {"value": next(iter(self.values.values()))}
        return found | ({"tokens_cut": self.num_cut} if self.num_cut else {})

    def line(self) -> str:
        """The numbers before the text, for a terminal."""
        several = len(self.values) > 1
        shown = "  ".join(f"{name} {value:.4g}" if several else f"{value:10.4g}" for name, value in self.values.items())
        return f"{shown}  {self.text[:80]}"


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. names: of the numbers, in order. mean, spread: of each in the training rows, empty before they were seen.

    scale, offset: what the model says, times `scale`, plus `offset`, is in the data's own unit.
    """

    columns: TextColumns = field()
    names: tuple[str, ...]
    loss_kind: str = "squared"
    huber_delta: float = _DELTA
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    name = "regression"
    pipeline = "text-classification"
    has_sequence_head = True
    reads_label_columns = True

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return (f"{self.loss_kind}_error",)

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Where the labels are many numbers that are no classes. UserError where they may be both."""
        data = config.data
        if any(getattr(data, key) is not None for key in _OF_CLASSES) or config.train.class_weights != "none":
            return 0
        try:
            roles, each = _roles(data, columns, rows)
        except UserError:  # said again by the task that takes these columns
            return 0
        labels = each or ((roles.label,) if roles.label else ())
        kinds = {column: kind_of_labels([row.fields.get(column) for row in rows]) for column in labels}
        if set(kinds.values()) == {NUMBERS}:
            return 2 if data.label is not None else 1
        if UNCLEAR in kinds.values() and CLASSES not in kinds.values():
            raise _unclear(next(column for column, kind in kinds.items() if kind == UNCLEAR), rows)
        return 0

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Self, str]:
        data, options = config.data, config.task if isinstance(config.task, Options) else Options()
        if options.loss != "huber" and options.huber_delta != _DELTA:
            raise UserError(
                "only the huber loss has a delta",
                where="task.huber_delta",
                hint="Set task.loss=huber, or leave it out.",
            )
        check_columns(data, columns, where=source.name, keys=("text", "pair", "label", "group_by", "weight"))
        roles, each = _roles(data, columns, rows)
        if roles.label is None:
            raise UserError(
                "no column of numbers found",
                where=source.name,
                found=quoted(columns),
                hint="Set data.label to the column of numbers.",
            )
        found = TextColumns(roles.text, roles.pair, None if each else roles.label, data.weight, labels=each)
        beside = f", {quoted(each[1:])} beside it" if each else ""
        task = cls(found, _names_of(found, rows, source.name), options.loss, options.huber_delta)
        return task, roles.reason + beside

    @property
    def output_names(self) -> Sequence[str]:
        return self.names

    def to_example(self, row: Row) -> Example:
        return Example(*self.columns.texts_of(row), self._numbers(row), self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        return Example(*self.columns.texts_of(row))

    def _numbers(self, row: Row) -> tuple[float, ...]:
        missing = next((column for column in self.columns.label_columns if column not in row.fields), None)
        if missing is not None:
            raise RowError(f"no field {missing!r}; found {quoted(row.fields)}")
        cells = [row.fields[column] for column in self.columns.label_columns]
        cells = cells if self.columns.labels else _as_list(cells[0])
        if len(cells) != len(self.names):
            raise RowError(f"{len(cells)} numbers, expected {len(self.names)}")
        return tuple(map(number, cells))

    # Tokens and batches

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        pairs = [example.pair or "" for example in examples] if self.columns.pair else None
        rows = encoder.encode_rows([example.text for example in examples], pairs)
        if any(example.target is None for example in examples):
            return rows
        return replace(rows, values={"labels": [list(example.target) for example in examples]})

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        return {"labels": pa.list_(pa.float64(), len(self.names))}

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """targets: `labels`, float32 `(rows, numbers)`, in standard deviations from the mean of the training rows once those are known."""
        import torch

        batch = self.collate_inputs([split.encoded(int(position)) for position in positions], encoder, padding)
        numbers_BK = self.gold(split)[positions]
        if self.mean:
            numbers_BK = (numbers_BK - self.mean) / self.spread
        return replace(
            batch, targets={"labels": torch.from_numpy(numbers_BK.astype(np.float32))}, row_ids=split.keys[positions]
        )

    # Learning

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Self:
        """UserError where one of the numbers is the same in every training row."""
        gold_BK = self.gold(split)
        for name, numbers_B in zip(self.names, gold_BK.T, strict=True):
            if np.ptp(numbers_B) == 0:
                raise UserError(
                    "there is nothing to learn", where=f"column {name!r}", found=f"{numbers_B[0]:g} in every training row",
                    hint="Check data.label.",
                )  # fmt: skip
        mean, spread = tuple(gold_BK.mean(axis=0).tolist()), tuple(gold_BK.std(axis=0).tolist())
        return replace(self, mean=mean, spread=spread, scale=spread, offset=mean)

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        """The head computes in full precision: bf16 would round what is said in the data's own unit."""
        from transformers import AutoModelForSequenceClassification

        from tunewright.models.heads import FullPrecisionLinear, output_layer
        from tunewright.models.loading import load_pretrained

        model, fresh = load_pretrained(
            AutoModelForSequenceClassification,
            source,
            seed=seed,
            dtype=dtype,
            num_labels=len(self.names),
            id2label=dict(enumerate(self.names)),
            label2id={name: number for number, name in enumerate(self.names)},
            problem_type="regression",
        )
        layer = output_layer(model, len(self.names))
        if layer is not None:
            layer.__class__ = FullPrecisionLinear
            name = next(name for name, parameter in model.named_parameters() if parameter is layer.weight)
            if self.spread and self.scale == self.spread and name not in fresh:
                self._begin_again(layer)
        return model, fresh

    def _begin_again(self, layer: Any) -> None:
        """A head that another run trained answers in the data's own unit; this run learns in standard deviations again."""
        import torch

        from tunewright.models.heads import scale_outputs

        mean_K, spread_K = torch.tensor(self.mean), torch.tensor(self.spread)
        scale_outputs(layer, 1 / spread_K, -mean_K / spread_K)

    def finish_model(self, model: Any) -> Self:
        """Scales the last layer, so that the model answers in the data's own unit; a layer without bias leaves the mean to be added."""
        import torch

        from tunewright.models.heads import output_layer, scale_outputs

        layer = output_layer(model, len(self.names))
        if layer is None:
            return self
        scale_outputs(
            layer, torch.tensor(self.scale, dtype=torch.float64), torch.tensor(self.offset, dtype=torch.float64)
        )
        same = (1.0,) * len(self.names)
        return replace(self, scale=same, offset=self.offset if layer.bias is None else (0.0,) * len(self.names))

    def model_warnings(self, model: Any) -> list[str]:
        from tunewright.models.heads import output_layer

        each = ", ".join(
            f"{name} {mean:.4g} ± {spread:.4g}"
            for name, mean, spread in zip(self.names, self.mean, self.spread, strict=True)
        )
        said = [
            f"Mean and standard deviation of the training rows: {each}. The loss is in standard deviations, the scores in the data's unit."
        ]
        layer = output_layer(model, len(self.names))
        if layer is None or layer.bias is None:
            said.append(
                "This model's last layer has no bias: transformers' pipeline gives the numbers less their mean; tunewright adds it."
            )
        return said

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        import torch

        from tunewright.losses.regression import huber_rows, squared_error_rows

        outputs_BK = model(**batch.inputs).logits
        predicted_BK = outputs_BK
        if self.spread:
            factors = [scale / spread for scale, spread in zip(self.scale, self.spread, strict=True)]
            offsets = [
                (offset - mean) / spread
                for offset, mean, spread in zip(self.offset, self.mean, self.spread, strict=True)
            ]
            predicted_BK = outputs_BK * outputs_BK.new_tensor(factors) + outputs_BK.new_tensor(offsets)
        right_BK = batch.targets["labels"]
        if self.loss_kind == "huber":
            rows_B = huber_rows(predicted_BK, right_BK, delta=self.huber_delta)
        else:
            rows_B = squared_error_rows(predicted_BK, right_BK)
        weights_B = torch.ones_like(rows_B) if weights is None else weights.to(rows_B)
        return {self.loss_terms[0]: ((rows_B * weights_B).sum(), weights_B.sum())}, outputs_BK

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        return Weights(rows, {self.loss_terms[0]: rows})

    # Outputs, scores and predictions

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """float64 `(rows, numbers)`, in the data's own unit."""
        outputs_BK = np.stack(outputs).astype(np.float64)
        return outputs_BK * self.scale + self.offset if self.scale else outputs_BK

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[np.ndarray]) -> Numbers:
        text = example.text if example.pair is None else f"{example.text} | {example.pair}"
        return Numbers(text, dict(zip(self.names, map(float, scores[0]), strict=True)), rows[0].num_cut)

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"value": None} if len(self.names) == 1 else {"values": {}}

    def gold(self, split: SplitStore) -> np.ndarray:
        """float64 `(rows, numbers)`."""
        return split.array("labels").reshape(len(split), len(self.names))

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        gold_BK = self.gold(split)
        result = regression_scores(scores, gold_BK, self.names)
        return result | ({"intervals": regression_intervals(scores, gold_BK, seed=0)} if intervals else {})

    def metric_names(self) -> list[str]:
        return ["loss", "mae", "rmse", "r2", "pearson", "spearman"]

    def best_metric(self) -> str:
        return "rmse"

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        constant = [
            name for name, numbers_B in zip(self.names, self.gold(split).T, strict=True) if np.ptp(numbers_B) == 0
        ]
        return dict.fromkeys(("r2", "pearson", "spearman"), f"every row has the same {constant[0]}") if constant else {}

    def text_baselines(self, train: LabelledTexts) -> Callable[[LabelledTexts], dict[str, dict[str, float]]]:
        """mean: that of the training rows, whatever the text; tfidf_ridge: ridge regression on a bag of words."""
        predictions = simple_predictions(train.texts, train.gold)

        def score(rows: LabelledTexts) -> dict[str, dict[str, float]]:
            return {
                name: {
                    **regression_scores(predicted, rows.gold, self.names)["metrics"], "loss": self._loss_of(predicted, rows.gold),
                    "rows_used": used,
                }
                for name, (predicted, used) in predictions(rows.texts).items()
            }  # fmt: skip

        return score

    def _loss_of(self, predicted_BK: np.ndarray, right_BK: np.ndarray) -> float:
        """The loss of numbers in the data's own unit."""
        import torch

        from tunewright.losses.regression import huber_rows, squared_error_rows

        both = [torch.from_numpy((numbers_BK - self.mean) / self.spread) for numbers_BK in (predicted_BK, right_BK)]
        rows_B = huber_rows(*both, delta=self.huber_delta) if self.loss_kind == "huber" else squared_error_rows(*both)
        return float(rows_B.mean())

    def worst(self, scores: np.ndarray, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """The rows with the largest errors, in standard deviations."""
        gold_BK = self.gold(split)
        wrong_B = (np.abs(scores - gold_BK) / (self.spread or 1.0)).max(axis=1)
        return [
            {
                "row": split.address(row),
                "position": row,
                "gold": self._shown(gold_BK[row]),
                "predicted": self._shown(scores[row]),
                "score": float(wrong_B[row]),
            }
            for row in map(int, np.argsort(-wrong_B, kind="stable")[:limit])
            if wrong_B[row] > 0
        ]

    def _shown(self, numbers_K: np.ndarray) -> Any:
        rounded = [float(f"{one:.6g}") for one in numbers_K]
        return rounded[0] if len(rounded) == 1 else dict(zip(self.names, rounded, strict=True))


def _roles(data: Any, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Roles, tuple[str, ...]]:
    """(the roles of the columns, the columns of numbers where the config names several). A column without a name of ours is the number
    where it is the only one that holds many."""
    named = (data.text,) if isinstance(data.text, str) else tuple(data.text or ())
    each = tuple(data.label) if isinstance(data.label, list) else ()
    label = each[0] if each else data.label
    others = [column for column in columns if column not in each[1:]]
    roles = detect_roles(others, rows, text=named, pair=data.pair, label=label)
    found = [] if roles.label else number_columns(others, rows)
    if len(found) == 1:
        reason = roles.reason.replace("no label", f"label {found[0]!r} by its values")
        roles = replace(roles, label=found[0], reason=reason)
    return roles, each


def _unclear(column: str, rows: Sequence[Row]) -> UserError:
    values = list(dict.fromkeys(str(row.fields.get(column)) for row in rows))
    return UserError(
        "are these numbers on a scale, or classes?", where=f"{rows[0].source}, column {column!r}", found=quoted(values, limit=6),
        hint=f"task=regression predicts the number itself; task=classification tells the {len(values)} values of the first rows apart.",
    )  # fmt: skip


def number(cell: Any) -> float:
    """The number in one cell. RowError for a missing one, for a text that is no number, for infinity."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise RowError("no number")
    text = str(cell).strip()
    if isinstance(cell, bool) or not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise RowError(f"the number is {cell!r:.80}, expected digits, with a point before decimals")
    return float(text)


def _as_list(cell: Any) -> list[Any]:
    """A cell that holds several numbers, or one."""
    found = stringified_list(cell) if isinstance(cell, str) else cell
    return list(found) if isinstance(found, (list, tuple)) else [cell]


def _names_of(columns: TextColumns, rows: Sequence[Row], where: str) -> tuple[str, ...]:
    """Of each number: its column; of a list in one column `scores_1`, `scores_2`. UserError where no row has numbers."""
    if columns.labels:
        return columns.labels
    label = str(columns.label)
    lengths = []
    for row in rows:
        try:
            lengths.append(len([number(cell) for cell in _as_list(row.fields.get(label))]))
        except RowError:
            continue
    if not lengths:
        found = [row.fields.get(label) for row in rows[:4]]
        raise UserError(
            "these are no numbers",
            where=f"{where}, column {label!r}",
            found=quoted(found),
            hint="Set data.label to a column of numbers.",
        )
    longest = max(lengths, key=lengths.count)
    return (label,) if longest == 1 else tuple(f"{label}_{place}" for place in range(1, longest + 1))
