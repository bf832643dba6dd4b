"""Task: the one protocol that the engine, evaluation and prediction know.

A task is one file here: a module with a class `Task` and, where it has settings of its own, a class `Options`. It says how a
row is understood, encoded, batched, scored and decoded, and which model it trains. Everything else (reading, splitting,
storing, planning, the loop, checkpoints) is shared.

    row {"text": "Where is my parcel?", "label": "order_status"}
      -> to_example  Example(text, target="order_status")
      -> encode      EncodedRows([101, 2073, …, 102], values={"labels": [5]})
      -> collate     Batch(input_ids, attention_mask, labels)
      -> loss        {"cross_entropy": (sum over rows, weight of the rows)}
      -> decode      Prediction("order_status", 0.97, …)

Task files import torch inside the functions that compute: columns are checked and errors said before it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import Field

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.records import Batch, Encoded, Example, Row, Typed
from tunewright.settings import Section
from tunewright.tokenization.added_tokens import keep_control_as_text
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.generation.generate import Sampling
    from tunewright.generation.writer import Writer

    LossTerms = dict[str, tuple[torch.Tensor, torch.Tensor | float]]
    """term -> (sum over supervised positions, its weight in this micro-batch). The engine divides by the step's weight."""


class TaskOptions(Section):
    """The `task` section of a task without settings; the others extend it as their `Options`."""

    name: str = Field("auto", description="What is learned. auto: told by the columns. `task: NAME` is enough.")


@dataclass(frozen=True)
class Weights:
    """What rows weigh, known from the store before any forward pass. float64 arrays `(rows of the split,)`.

    rows: multiplies everything a row contributes. terms: a row's weight in each loss term, `rows` included.
    """

    rows: np.ndarray
    terms: dict[str, np.ndarray]


@dataclass(frozen=True)
class ExplainedRow:
    """One store row for people: tokens as `{"token", "id", …}`, and how many truncation cut."""

    tokens: list[dict[str, Any]]
    num_cut: int


class Task(Protocol):
    """What a task must offer. `state` is everything needed to use the trained model later; `from_state` reads it back."""

    name: str
    loss_terms: tuple[str, ...]
    """Names of the terms that `loss` returns and `weights` knows, in order."""
    called: str
    """What its names are, for messages: label, entity type."""
    known_names: Sequence[str]
    """The labels or types the task knows once it is settled; empty where it has none."""
    has_classes: bool
    """Whether rows have classes that `train.class_weights` can weigh."""
    stored_as: str
    """What a row of the store is called: block, piece, window; row where each is one of the user's."""
    packs: bool
    """Whether its rows hold several documents that do not see each other."""
    first_model: str | None
    """The model that `init` proposes, where the default encoder cannot learn the task."""

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Could these columns be mine? 0: no. The task with the largest number is taken where `task` is auto."""
        ...

    @classmethod
    def start(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Any, str]:
        """(the task before it has seen all rows, how it found its columns). UserError where they cannot be told."""
        ...

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        """Another source, its columns under the names of the first one."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON-ready: labels, roles of columns, thresholds. Saved with the model."""
        ...

    def to_example(self, row: Row) -> Example:
        """Understand a row. RowError when it cannot be used."""
        ...

    def to_input(self, row: Row) -> Example:
        """The same without what is to be learned, for prediction."""
        ...

    def identity(self, example: Example) -> str:
        """Two examples with the same identity are duplicates."""
        ...

    def names_of(self, example: Example) -> Sequence[str]:
        """Labels or types in an example: counted, the first one stratifies, none may be new outside of training."""
        ...

    def stratum_of(self, example: Example) -> str | None:
        """What the splits hold equal shares of: the first of its names, or another kind that an example is of."""
        ...

    def watch(self, counts: Mapping[str, int], *, where: str) -> None:
        """Called after every row; UserError when the names found so far cannot be right."""
        ...

    def settled(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Any:
        """The task once every row was seen: its labels known. UserError where nothing can be learned."""
        ...

    def settings(self) -> dict[str, Any]:
        """The keys of the `data` section that say how its columns are read, as `init` writes them."""
        ...

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns of a row that it looks at: the others are told to be unused."""
        ...

    def label_counts(self, split: SplitStore) -> dict[str, int]:
        """Name -> how often it stands in this split, for those of `known_names`; empty where it has none."""
        ...

    def answer_shown(self, split: SplitStore, encoder: TextEncoder) -> str | None:
        """Where the first row's answer begins, for people to look at; None where everything is learned."""
        ...

    def describe(self) -> dict[str, str]:
        """What its columns are for, a few words each, for the preflight: `{"text": "review", "label": "sentiment"}`."""
        ...

    def remarks(self, store: TokenStore) -> list[str]:
        """What became of the rows on their way into the store that a user should know before training."""
        ...

    def findings(self, store: TokenStore) -> list[str]:
        """What is probably wrong with the rows, each with its mend: `check` counts these."""
        ...

    # Tokens and batches

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows: ...

    def packer(self, encoder: TextEncoder, split: str) -> Any:
        """None, or a `encoding.packing.Packer` that is fed `document(example)` instead of `encode`: rows that several examples share."""
        ...

    def explained(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        """The example's rows, token by token, for people to look at."""
        ...

    def shown_target(self, example: Example) -> Any:
        """What is to be learned from an example, JSON-ready, for people to look at."""
        ...

    def gives_type_ids(self, encoder: TextEncoder) -> bool: ...

    def store_fields(self) -> dict[str, Any]:
        """Arrow types of the columns that `encode` gives as `values` for examples with a target."""
        ...

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch: ...

    def collate_inputs(self, rows: Sequence[Encoded], encoder: TextEncoder, padding: Padding = LONGEST) -> Batch:
        """Encoded rows -> a padded batch without targets, for prediction."""
        ...

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype) -> tuple[Any, list[str]]:
        """(model with this task's head, names of the parameters that start fresh)."""
        ...

    def prepared_for(self, split: SplitStore, config: Any) -> Any:
        """The task as it trains on this split: class weights counted."""
        ...

    def plain(self) -> Any:
        """The task as it is evaluated: without class weights, with the same masks every time."""
        ...

    def at(self, *, seed: int, epoch: int) -> Any:
        """The task as it trains in this epoch: what it draws (masks) is a pure function of both and a row's key."""
        ...

    drops: bool
    """Whether the model drops out while it trains, where train.dropout does not say."""

    needs_reference: bool
    """Whether the loss looks at what the start model said: then `referenced` gives it, from `training/reference.py`."""

    def for_step(
        self, model: Any, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, settings: Any
    ) -> Any:
        """The task as it trains on these rows: what a pass over the whole step without gradient tells (KTO's reference point)."""
        ...

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        """Name -> metrics of simple answers learned from `train`, where they can be told from the stores alone."""
        ...

    def notes(self, model: Any) -> list[str]:
        """What is to be said about this task with this model, before training."""
        ...

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """Settings that the tokenizer is saved with, for other programs: control tokens in a text stay text."""
        ...

    def finish_tokenizer_files(self, folder: Path, encoder: TextEncoder) -> None: ...

    def stop_ids(self, encoder: TextEncoder) -> list[int]: ...

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed: ...

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Forward pass -> loss terms and the outputs that `row_outputs` takes. weights: `(rows,)`, 1 when None."""
        ...

    def weights(self, split: SplitStore) -> Weights: ...

    reads_words: bool
    """Whether an input may be a row of words, each of which is tagged."""

    # Outputs -> scores -> predictions

    def outputs(self, model: Any, batch: Batch) -> Any:
        """Forward pass without a loss, for prediction: what `loss` gives as its second value."""
        ...

    def row_outputs(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """A batch's outputs as one float array per row, padding removed."""
        ...

    def scores(self, outputs: Sequence[np.ndarray]) -> Any:
        """All rows' outputs -> what `metrics`, `wrongness` and `decode` take, indexed by row."""
        ...

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[Any]) -> Any:
        """The prediction for one example from the scores of its rows (one, or several windows)."""
        ...

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        """What `decode` or the writer gives, as its `as_dict` has it, for an input that has no answer."""
        ...

    def metrics(self, scores: Any, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]: ...

    def metric_names(self) -> list[str]: ...

    def best_metric(self) -> str: ...

    def best_metric_on(self, split: SplitStore) -> str:
        """The metric that picks the best checkpoint by this split: the best one that has a value there."""
        ...

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        """Those of `metric_names` that have no value on this split, and why not."""
        ...

    def worst(self, scores: Any, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """The most confidently wrong rows: `{"row", "position", "gold", "predicted", "score"}`; position: of the row in the split."""
        ...

    # Writing

    writes: bool
    """Whether the model writes text: then predictions are what `writer` completes, and nothing is decoded."""
    sampling_defaults: Mapping[str, Any]
    """How words are chosen where nobody says it: fields of `generation.generate.Sampling`."""

    def writer(self, model: Any, encoder: TextEncoder, sampling: Sampling) -> Writer:
        """The model at work, where it writes."""
        ...


class BaseTask:
    """What most tasks have in common; a task overrides what differs."""

    loss_terms: tuple[str, ...] = ("cross_entropy",)
    called = "label"
    has_classes = False
    stored_as = "row"
    packs = False
    drops = True
    first_model: str | None = None
    needs_reference = False
    reads_words = False
    writes = False
    sampling_defaults: Mapping[str, Any] = {}
    rate_factor = 1.0
    """How many times larger `learning_rate: auto` is than for tasks that learn from scratch what they predict."""

    @property
    def known_names(self) -> Sequence[str]:
        return ()

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns of a row that it looks at."""
        found = self.columns  # type: ignore[attr-defined]
        return tuple(filter(None, (*found.text, found.pair, found.label, *found.labels)))

    def label_counts(self, split: SplitStore) -> dict[str, int]:
        """Name -> how often it stands in this split; empty where nothing is named."""
        return {}

    def answer_shown(self, split: SplitStore, encoder: TextEncoder) -> str | None:
        """Where the first row's answer begins, for people to look at; None where everything is learned."""
        return None

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        return 0

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        return source

    def identity(self, example: Example) -> str:
        return example.text if example.pair is None else f"{example.text}\0{example.pair}"

    def names_of(self, example: Example) -> Sequence[str]:
        return ()

    def stratum_of(self, example: Example) -> str | None:
        return next(iter(self.names_of(example)), None)

    def watch(self, counts: Mapping[str, int], *, where: str) -> None:
        return None

    def settled(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Any:
        return self

    def remarks(self, store: TokenStore) -> list[str]:
        return []

    def findings(self, store: TokenStore) -> list[str]:
        return []

    def explained(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        return [explained_row(row, encoder) for row in self.encode([replace(example, target=None)], encoder)]  # type: ignore[attr-defined]

    def shown_target(self, example: Example) -> Any:
        return example.target

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        return encoder.gives_type_ids(pair=False)

    def store_fields(self) -> dict[str, Any]:
        return {}

    def prepared_for(self, split: SplitStore, config: Any) -> Any:
        return self

    def plain(self) -> Any:
        return self

    def at(self, *, seed: int, epoch: int) -> Any:
        return self

    def for_step(
        self, model: Any, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, settings: Any
    ) -> Any:
        return self

    def packer(self, encoder: TextEncoder, split: str) -> Any:
        return None

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        return {}

    def notes(self, model: Any) -> list[str]:
        return []

    def finish_tokenizer(self, tokenizer: Any) -> None:
        keep_control_as_text(tokenizer)

    def finish_tokenizer_files(self, folder: Path, encoder: TextEncoder) -> None:
        """Change the saved tokenizer's files for other programs; we open it as it was (`load_tokenizer`)."""
        return

    def stop_ids(self, encoder: TextEncoder) -> list[int]:
        """Tokens that end what a model writes, for its generation_config.json. Empty: as it is."""
        return []

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        """What transformers' pipeline is given for an example. ids: of the example's first row."""
        return Typed(example.text, ids)

    def collate_inputs(self, rows: Sequence[Encoded], encoder: TextEncoder, padding: Padding = LONGEST) -> Batch:
        from tunewright.batching.micro_batches import padded_inputs

        return padded_inputs(rows, encoder, padding)

    def outputs(self, model: Any, batch: Batch) -> Any:
        return model(**batch.inputs).logits

    def row_outputs(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        return list(outputs.float().cpu().numpy())

    def scores(self, outputs: Sequence[np.ndarray]) -> Any:
        return outputs

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"text": "", "ended": None, "tokens": 0} if self.writes else {"label": None, "score": None}

    def worst(self, scores: Any, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        return []

    def best_metric(self) -> str:
        return "loss"

    def best_metric_on(self, split: SplitStore) -> str:
        best = self.best_metric()
        return "loss" if best in self.metrics_without_value(split) else best

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        return {}


def explained_row(row: Encoded, encoder: TextEncoder) -> ExplainedRow:
    """Tokens with their ids, and their types where the tokenizer tells two texts apart."""
    tokens = [
        {"token": token, "id": int(i), "text": text}
        for token, i, text in zip(
            encoder.tokens(row.input_ids), row.input_ids, encoder.texts(row.input_ids), strict=True
        )
    ]
    if row.token_type_ids is not None:
        for token, kind in zip(tokens, row.token_type_ids, strict=True):
            token["type"] = int(kind)
    return ExplainedRow(tokens, row.num_cut)


def larger_is_better(metric: str) -> bool:
    """Losses, errors and perplexities fall, and how far a model has moved; every other score rises."""
    return not any(word in metric for word in ("loss", "error", "perplexity", "bits_per_byte", "kl", "reward_rejected"))
