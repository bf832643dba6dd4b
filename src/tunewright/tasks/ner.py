"""Named-entity recognition: spans of a text and their types, learned as a tag for each word of the tokenizer.

    {"tokens": ["Ann", "lives", "in", "Ulm"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}
      -> Example("Ann lives in Ulm", target=Annotated(spans=(Span(0, 3, "PER"), Span(13, 16, "LOC")), …))
      -> Encoded([101, 5754, 3268, 1999, 17359, 2213, 102]), labels [-100 B-PER O O B-LOC -100 -100]
      -> TaggedText("Ann lives in Ulm", (Entity(0, 3, "PER", 0.98), Entity(13, 16, "LOC", 0.97)))

A text longer than the model becomes several rows, overlapping windows, each supervised where it has the most context.
The model is transformers' own `AutoModelForTokenClassification`, so `pipeline("token-classification")` opens what is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from tunewright.annotations.entities import Annotated, EntityReader
from tunewright.annotations.entity_sources import entity_source
from tunewright.annotations.spans import Span, characters_of
from tunewright.annotations.transitions import Pair, best_sequences, count_pairs, legal_transitions, transition_scores
from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.encoding.token_labels import TAG_COLUMNS, TaggedTexts, data_warnings, texts_of
from tunewright.errors import UserError, quoted
from tunewright.metrics.intervals import span_intervals
from tunewright.metrics.spans import span_counts, span_scores
from tunewright.metrics.tags import lenient_spans, strict_spans
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.detect import check_columns
from tunewright.reading.entities import entity_roles
from tunewright.records import IGNORED, Batch, Encoded, Entity, Example, Row, TaggedText
from tunewright.tasks import base
from tunewright.tasks.base import ExplainedRow, TaskOptions, Weights, explained_row
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.tasks.base import LossTerms

TERM = "cross_entropy"
SCHEME = "IOB2"
_ROWS_COUNTED = 20_000
"""Rows whose neighbouring tags are counted at a time."""


class Options(TaskOptions):
    reads = frozenset({"data.label", "data.label_names", "data.weight"})

    name: str = "ner"
    overlaps: Literal["refuse", "longest"] = Field(
        "refuse", description="Entities that overlap. refuse: the row is rejected; longest: the longest ones are kept."
    )
    align: Literal["expand", "strict"] = Field(
        "expand",
        description="An entity that cuts a word of the tokenizer. expand: the whole word is learned; strict: it is not learned from.",
    )
    annotator: str | None = Field(
        None,
        description="Label Studio: whose annotation is used where annotators disagree: the completed_by of one, or latest.",
    )
    long_texts: Literal["windows", "truncate"] = Field(
        "windows",
        description="Entities in texts longer than max_length. windows: found in overlapping windows; truncate: lost.",
    )
    window: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Tokens of a window, for texts longer than max_length. auto: 128, as long as most training rows.",
    )
    window_overlap: NonNegativeInt | Literal["auto"] = Field(
        "auto", description="Tokens that neighbouring windows share. auto: a quarter of the window."
    )
    label_pieces: Literal["first", "all"] = Field(
        "first",
        description="Which tokens of a word are labelled: only the first, or all. Each item of a row of words counts as one word, whatever "
        "it contains; its first token decides the prediction.",
    )
    constrained_decoding: bool = Field(
        True, description="Decode to the best legal sequence of tags (Viterbi), not tag by tag."
    )
    transitions: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Constrained decoding: weight of the tag transitions seen in training. 0: only illegal transitions are excluded.",
    )


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. label_names: what integer tags are called; types: of entities, sorted; tag_pairs: of the
    training rows' neighbouring tags."""

    columns: TextColumns = field()
    types: tuple[str, ...] = ()
    label_names: tuple[str, ...] | None = None
    named_by_config: bool = False
    overlaps: str = "refuse"
    annotator: str | None = None
    align: str = "expand"
    long_texts: str = "windows"
    window: int | str = "auto"
    window_overlap: int | str = "auto"
    label_pieces: str = "first"
    constrained_decoding: bool = True
    transitions: float = 0.0
    tag_pairs: tuple[Pair, ...] = ()

    name = "ner"
    pipeline = "token-classification"
    label_noun = "entity type"
    stored_as = "window"
    reads_words = True
    loss_terms = (TERM,)

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        return 2 if entity_roles(columns, rows, text=_named_text(config), label=config.data.label) else 0

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        data = config.data
        text = _named_text(config)
        check_columns(data, columns, where=source.name, keys=("text", "label", "weight", "group_by"))
        roles = entity_roles(columns, rows, text=text, label=data.label)
        if roles is None or roles.label is None:
            raise UserError(
                "no column of tags or entities found",
                where=source.name,
                found=quoted(columns),
                expected="words and tags, or a text and a list of entities with start, end and label",
                hint="Set data.text and data.label.",
            )
        names = data.label_names or source.class_names.get(roles.label)
        options = config.task if isinstance(config.task, Options) else Options()
        task = cls(
            TextColumns(roles.text, None, roles.label, data.weight),
            label_names=tuple(names) if names else None,
            named_by_config=bool(data.label_names),
            **options.model_dump(exclude={"name"}),
        )
        return task, roles.reason

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        return entity_source(
            source,
            text=self.columns.text[0],
            label=self.columns.label if labelled else None,
            names=self.label_names,
            overwrite=self.named_by_config,
        )

    @property
    def reader(self) -> EntityReader:
        return EntityReader(self.columns.text[0], self.columns.label, self.overlaps, self.annotator)

    @property
    def known_names(self) -> Sequence[str]:
        return self.types

    @property
    def tags(self) -> tuple[str, ...]:
        """What the model tells apart: O, then B- and I- of each type."""
        return ("O", *(f"{prefix}-{name}" for name in self.types for prefix in "BI"))

    @property
    def output_names(self) -> Sequence[str]:
        return self.tags

    def describe(self) -> dict[str, str]:
        return {"text": self.columns.text[0], "entities": str(self.columns.label)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """ValueError for windows that no config could have asked for."""
        if any(isinstance(state[name], str) and state[name] != "auto" for name in ("window", "window_overlap")):
            raise ValueError("a window is a number of tokens, or auto")
        return super().from_state(state)

    def to_example(self, row: Row) -> Example:
        found = self.reader.read(row)
        return Example(found.text, target=found, weight=self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        found = self.reader.input(row)
        return Example(found.text, target=found)

    def labels_of(self, example: Example) -> Sequence[str]:
        return [span.label for span in example.target.spans or ()] if example.target else []

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Task:
        if not counts:
            raise UserError(
                "no entity in any row", where=where, found="nothing but O", hint="Check data.label and its tags."
            )
        return replace(self, types=tuple(sorted(counts)))

    def data_warnings(self, store: TokenStore) -> list[str]:
        return data_warnings([store[name] for name in store.splits])

    # Tokens and batches

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        texts = TaggedTexts(
            encoder, self.tags, every_piece=self.label_pieces == "all", align=self.align, window=self.window, overlap=self.window_overlap,
            truncate=self.long_texts == "truncate",
        )  # fmt: skip
        return texts.encode([_annotated(example) for example in examples])

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        """Each token with its tag, where it has one in this window."""
        task = self if self.types else replace(self, types=tuple(sorted(set(self.labels_of(example)))))
        rows = []
        for row in task.encode([example], encoder):
            shown = explained_row(row, encoder)
            for token, tag in zip(shown.tokens, (row.values or {})["labels"].tolist(), strict=True):
                if tag != IGNORED:
                    token["tag"] = task.tags[tag]
            rows.append(shown)
        return rows

    def display_target(self, example: Example) -> list[dict[str, Any]]:
        spans = _annotated(example).spans or ()
        return [{"text": example.text[span.start : span.end], **span._asdict()} for span in spans]

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        return {name: pa.list_(pa.int32()) for name in TAG_COLUMNS}

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        from tunewright.batching.micro_batches import pad

        batch = self.collate_inputs([split.encoded(int(position)) for position in positions], encoder, padding)
        left = encoder.padding_side == "left"
        labels = pad(split.lists("labels", positions), value=IGNORED, width=batch.width, left=left)
        return replace(batch, targets={"labels": labels}, row_ids=split.keys[positions])

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForTokenClassification

        from tunewright.models.loading import load_pretrained

        return load_pretrained(
            AutoModelForTokenClassification,
            source,
            seed=seed,
            dtype=dtype,
            num_labels=len(self.tags),
            id2label=dict(enumerate(self.tags)),
            label2id={name: number for number, name in enumerate(self.tags)},
        )

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Task:
        """This task with the pairs of tags that follow each other in the training rows."""
        if not (self.constrained_decoding and self.transitions):
            return self
        counts = np.zeros((len(self.tags), len(self.tags)), dtype=np.int64)
        for start in range(0, len(split), _ROWS_COUNTED):
            rows = np.arange(start, min(start + _ROWS_COUNTED, len(split)))
            columns = (split.lists(name, rows) for name in ("labels", "units"))
            counts += count_pairs((labels[units] for labels, units in zip(*columns, strict=True)), len(self.tags))
        return replace(self, tag_pairs=tuple((int(a), int(b), int(counts[a, b])) for a, b in np.argwhere(counts)))

    def label_counts(self, split: SplitStore) -> dict[str, int]:
        """Type -> entities that begin in the rows of this split."""
        counts = np.zeros(len(self.tags), dtype=np.int64)
        for start in range(0, len(split), _ROWS_COUNTED):
            rows = np.arange(start, min(start + _ROWS_COUNTED, len(split)))
            tags = np.concatenate(split.lists("labels", rows)) if len(rows) else np.zeros(0, np.int64)
            counts += np.bincount(tags[tags >= 0], minlength=len(self.tags))
        return {tag[2:]: int(count) for tag, count in zip(self.tags, counts, strict=True) if tag.startswith("B-")}

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Sum over labelled tokens, each with the weight of its row."""
        from tunewright.losses.cross_entropy import cross_entropy_rows
        from tunewright.losses.labelled import LabelledTokens

        logits_BTK = model(**batch.inputs).logits
        tokens = LabelledTokens.of(batch.host_targets["labels"], logits_BTK.device)
        losses_S = cross_entropy_rows(tokens.select(logits_BTK), tokens.labels_S)
        if weights is None:
            return {TERM: (losses_S.sum(), float(len(losses_S)))}, logits_BTK
        weights_S = weights.to(losses_S)[tokens.row_S]
        return {TERM: ((losses_S * weights_S).sum(), weights_S.sum())}, logits_BTK

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        return Weights(rows, {TERM: rows * split.array("num_supervised")})

    # Outputs -> scores -> entities

    def row_outputs(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """Logits of the real tokens, float32 `(length, tags)` a row."""
        real = batch.inputs["attention_mask"].bool().cpu().numpy()
        return [row[mask] for row, mask in zip(outputs.float().cpu().numpy(), real, strict=True)]

    def scores(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Probabilities of the tags, float `(length, tags)` a row."""
        powers = [np.exp(row - row.max(axis=-1, keepdims=True)) for row in outputs]
        return [row / row.sum(axis=-1, keepdims=True) for row in powers]

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[np.ndarray]) -> TaggedText:
        values = [row.values or {} for row in rows]
        scores_UK = np.concatenate([one[row["units"]] for one, row in zip(scores, values, strict=True)])
        starts_U, ends_U = (np.concatenate([row[name] for row in values]) for name in ("unit_starts", "unit_ends"))
        entities = self._entities(scores_UK, self._best([scores_UK])[0], starts_U, ends_U)
        words_W2 = _annotated(example).words_W2
        words = None if words_W2 is None else tuple((start, end) for start, end in words_W2.tolist())
        return TaggedText(example.text, tuple(entities), sum(row.num_cut for row in rows), words)

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"text": None, "entities": []}

    @cached_property
    def _steps(self) -> np.ndarray:
        """What each step from tag to tag is worth in constrained decoding."""
        return transition_scores(legal_transitions(self.tags, SCHEME), self.tag_pairs, self.transitions)

    def _best(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The tag of each unit, a row of scores `(units, tags)` each."""
        if self.constrained_decoding:
            return best_sequences(scores, self._steps)
        return [row.argmax(axis=-1) for row in scores]

    def _entities(
        self, scores_UK: np.ndarray, best_U: np.ndarray, starts_U: np.ndarray, ends_U: np.ndarray
    ) -> list[Entity]:
        spans = lenient_spans([self.tags[tag] for tag in best_U])
        chosen_U = scores_UK[np.arange(len(best_U)), best_U]
        return [
            Entity(*place, score=float(chosen_U[span.start : span.end].mean()))
            for span, place in zip(spans, characters_of(spans, starts_U, ends_U), strict=True)
        ]

    def metrics(self, scores: Sequence[np.ndarray], split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        """Over whole texts and the entities as annotated, also those that the tokenizer cannot express."""
        gold, predicted, strict = self._compared(scores, split)
        result = span_scores(gold, predicted, self.types)
        if not self.constrained_decoding:
            result["metrics"]["span_f1_strict"] = span_scores(gold, strict)["metrics"]["span_f1"]
        if intervals:
            result["intervals"] = span_intervals(*span_counts(gold, predicted, self.types), seed=0)
        return result

    def _compared(self, scores: Sequence[np.ndarray], split: SplitStore) -> tuple[list[list[Span]], ...]:
        """(gold, predicted, predicted as strict IOB2 reads it) spans of characters, a list for each text."""
        texts = texts_of(split)
        units = split.lists("units", np.arange(len(split)))
        joined = [np.concatenate([scores[row][units[row]] for row in rows]) for rows in texts]
        starts, ends = (split.lists(name, np.arange(len(split))) for name in ("unit_starts", "unit_ends"))
        gold, predicted, strict = [], [], []
        for rows, best_U in zip(texts, self._best(joined), strict=True):
            places = [np.concatenate([column[row] for row in rows]) for column in (starts, ends)]
            tags = [self.tags[tag] for tag in best_U]
            predicted.append(characters_of(lenient_spans(tags), *places))
            strict.append(characters_of(strict_spans(tags, SCHEME), *places))
            gold.append(self._gold(split, rows[0]))
        return gold, predicted, strict

    def _gold(self, split: SplitStore, row: int) -> list[Span]:
        columns = (
            split.lists(name, np.array([row]))[0].tolist() for name in ("gold_starts", "gold_ends", "gold_types")
        )
        return [Span(start, end, self.types[kind]) for start, end, kind in zip(*columns, strict=True)]

    def metric_names(self) -> list[str]:
        strict = [] if self.constrained_decoding else ["span_f1_strict"]
        return ["loss", *span_scores([[]], [[]])["metrics"], *strict]

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        if any(len(types) for types in split.lists("gold_types", np.arange(len(split)))):
            return {}
        return dict.fromkeys(
            (name for name in self.metric_names() if name != "loss"), "none of its texts holds an entity"
        )

    def best_metric(self) -> str:
        return "span_f1"

    def worst(self, scores: Sequence[np.ndarray], split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """The texts with the most wrong entities: missed, invented, or of another type or extent."""
        gold, predicted, _ = self._compared(scores, split)
        wrong = np.array([len(set(one) ^ set(other)) for one, other in zip(gold, predicted, strict=True)])
        texts = texts_of(split)
        return [
            {
                "row": split.address(texts[number][0]),
                "position": texts[number][0],
                "gold": [f"{span.start}:{span.end} {span.label}" for span in gold[number]],
                "predicted": [f"{span.start}:{span.end} {span.label}" for span in predicted[number]],
                "score": int(wrong[number]),
            }
            for number in map(int, np.argsort(-wrong, kind="stable")[:limit])
            if wrong[number]
        ]


def _annotated(example: Example) -> Annotated:
    return example.target if isinstance(example.target, Annotated) else Annotated(example.text)


def _named_text(config: Any) -> tuple[str, ...]:
    text = config.data.text
    return (text,) if isinstance(text, str) else tuple(text or ())
