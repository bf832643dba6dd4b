"""Task: the one abstract class that the engine, evaluation and prediction know.

A task is one file here: a module with a class `Task` and, where it has settings of its own, a class `Options`. It says how a
row is understood, encoded, batched, scored and decoded, and which model it trains. Everything else (reading, splitting,
storing, planning, the loop, checkpoints) is shared.

    row {"text": "Where is my parcel?", "label": "order_status"}
      -> to_example  Example(text, target="order_status")
      -> encode      EncodedRows([101, 2073, …, 102], values={"labels": [5]})
      -> collate     Batch(input_ids, attention_mask, labels)
      -> loss        {"cross_entropy": (sum over rows, weight of the rows)}
      -> decode      Prediction("order_status", 0.97, …)

What is abstract every task must write; the rest has a default, in five sections. `tunewright.testing.check_task` says whether a
task keeps to all of it. Task files import torch inside the functions that compute: columns are checked and errors said before it
is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.files.record_json import from_json, to_json
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.align import aligned
from tunewright.reading.columns import TextColumns
from tunewright.records import AnyPrediction, Batch, Encoded, Example, Row, Typed
from tunewright.settings import Section
from tunewright.tokenization.added_tokens import keep_control_as_text
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.encoding.packing import Document, Packer
    from tunewright.execution.base import Execution
    from tunewright.generation.generate import Sampling
    from tunewright.generation.writer import Writer

    LossTerms = dict[str, tuple[torch.Tensor, torch.Tensor | float]]
    """term -> (sum over supervised positions, its weight in this micro-batch). The engine divides by the step's weight."""


TASK_SPECIFIC = frozenset({
    "data.pair", "data.label", "data.label_names", "data.multi_label", "data.label_delimiter", "data.weight", "train.class_weights",
    "evaluate.threshold", "evaluate.num_generated",
})  # fmt: skip
"""Keys outside of the `task` section that only some tasks read."""


class TaskOptions(Section):
    """The `task` section of a task without settings; the others extend it as their `Options`."""

    reads: ClassVar[frozenset[str]] = TASK_SPECIFIC
    """The TASK_SPECIFIC keys that the task reads: any other is refused where a config sets it. All, where a task does not say."""

    name: str = Field("auto", description="What is learned. auto: detected from the columns. `task: NAME` is enough.")

    @property
    def documents(self) -> str | None:
        """What a row of a plain text file is, where these settings decide it; None: as the task says."""
        return None


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


@dataclass(frozen=True)
class LabelledTexts:
    """Rows for baselines. texts: strings, or (text, pair) tuples. gold: what `Task.gold` says of each."""

    texts: Sequence[str | tuple[str, str]]
    gold: np.ndarray


class Task(ABC):
    """A task is a frozen dataclass: its fields are what is needed to use the trained model later (`state`), so they are plain values."""

    # What every task says

    @property
    @abstractmethod
    def name(self) -> str:
        """As a config names it."""

    @classmethod
    @abstractmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Self, str]:
        """(the task before it has seen all rows, how it found its columns). UserError where they cannot be told."""

    @abstractmethod
    def to_example(self, row: Row) -> Example:
        """Understand a row. RowError when it cannot be used."""

    @abstractmethod
    def to_input(self, row: Row) -> Example:
        """The same without what is to be learned, for prediction."""

    @abstractmethod
    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Token ids, at most `encoder.max_length` in a text, and as `values` the columns of `label_schema`; without them where an
        example has no target."""

    @abstractmethod
    def label_schema(self) -> dict[str, Any]:
        """Arrow types of the columns that `encode` gives as `values` for examples with a target."""

    @abstractmethod
    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """Rows of the store -> a padded batch with `targets`, `row_ids` the rows' keys."""

    @abstractmethod
    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        """(model with this task's head, names of the parameters that start fresh)."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, Any]:
        """Forward pass -> loss terms and the outputs that `row_outputs` takes. weights: `(rows,)`, 1 when None."""

    @abstractmethod
    def weights(self, split: SplitStore) -> Weights:
        """What each row weighs, without a forward pass."""

    @abstractmethod
    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[Any]) -> AnyPrediction:
        """The prediction for one example from the scores of its rows (one, or several windows)."""

    @abstractmethod
    def metrics(self, scores: Any, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        """`{"metrics": {name: Metric}, …}`, with "intervals" where they are asked for, and whatever else scores.json is to hold."""

    # 1. Understanding rows: columns, labels, what people are told

    columns: TextColumns | None = None
    """The columns of texts, label and weight by role; a field of most tasks (`columns: TextColumns = field()`)."""
    documents: ClassVar[str] = "line"
    """What a row of a plain text file is: line, paragraphs, or auto."""
    label_noun: ClassVar[str] = "label"
    """What its names are, for messages: label, entity type."""
    has_classes: ClassVar[bool] = False
    """Whether rows have classes that `train.class_weights` can weigh."""
    reads_label_columns: ClassVar[bool] = False
    """Whether `data.label` may name several columns."""
    reads_words: ClassVar[bool] = False
    """Whether an input may be a row of words, each of which is tagged."""
    has_sequence_head: ClassVar[bool] = False
    """Whether its head reads one position of a whole text."""
    pipeline: ClassVar[str | None] = None
    """The pipeline of transformers that opens the saved model."""
    first_model: ClassVar[str | None] = None
    """The model that `init` proposes, where the default encoder cannot learn the task."""

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Could these columns be mine? 0: no. The task with the largest number is taken where `task` is auto."""
        return 0

    @property
    def known_names(self) -> Sequence[str]:
        """The labels or types the task knows once it has its labels; empty where it has none."""
        return ()

    @property
    def output_names(self) -> Sequence[str]:
        """What the model's outputs are called, in order; empty where they have no names."""
        return self.known_names

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold what is learned, as the source names them; empty where texts are learned."""
        return () if self.columns is None else self.columns.label_columns

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns of a row that it looks at: the others are told to be unused."""
        return tuple(self.describe().values()) if self.columns is None else self.columns.names

    @property
    def reads_pairs(self) -> bool:
        """Whether an input may be a pair of texts."""
        return self.columns is not None and self.columns.pair is not None

    @property
    def reads_texts(self) -> bool:
        """Whether an input may be a single text."""
        return not self.reads_pairs

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        """Another source, its columns under the names of the first one."""
        found = self.columns
        if found is None:
            return source
        return aligned(source, text=found.text, pair=found.pair, label=found.label if labelled else None)

    def settings(self) -> dict[str, Any]:
        """The keys of the `data` section that say how its columns are read, as `init` writes them."""
        return {} if self.columns is None else self.columns.settings()

    def describe(self) -> dict[str, str]:
        """What its columns are for, a few words each, for the preflight: `{"text": "review", "label": "sentiment"}`."""
        return {} if self.columns is None else self.columns.described()

    def state(self) -> dict[str, Any]:
        """JSON of the fields: labels, roles of columns, thresholds. Saved with the model."""
        return to_json(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task as `state` wrote it. TypeError or ValueError for what it did not write."""
        return from_json(cls, state)

    def duplicate_key(self, example: Example) -> str:
        """Two examples with the same key are duplicates."""
        return example.text if example.pair is None else f"{example.text}\0{example.pair}"

    def labels_of(self, example: Example) -> Sequence[str]:
        """Labels or types in an example: counted, the first one stratifies, none may be new outside of training."""
        return ()

    def stratum_of(self, example: Example) -> str | None:
        """What the splits hold equal shares of: the first of its names, or another kind that an example is of."""
        return next(iter(self.labels_of(example)), None)

    def check_label_counts(self, counts: Mapping[str, int], *, where: str) -> None:
        """Called after every row; UserError when the names found so far cannot be right."""
        return

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Self:
        """The task once every row was seen: its labels known. UserError where nothing can be learned."""
        return self

    def label_counts(self, split: SplitStore) -> dict[str, int]:
        """Name -> how often it stands in this split, for those of `known_names`; empty where it has none."""
        return {}

    def answer_shown(self, split: SplitStore, encoder: TextEncoder) -> str | None:
        """Where the first row's answer begins, for people to look at; None where everything is learned."""
        return None

    def data_warnings(self, store: TokenStore) -> list[str]:
        """What became of the rows on their way into the store that a user should know before training."""
        return []

    def findings(self, store: TokenStore) -> list[str]:
        """What is probably wrong with the rows, each with what to do: `check` counts these."""
        return []

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        """The example's rows, token by token, for people to look at."""
        return [explained_row(row, encoder) for row in self.encode([replace(example, target=None)], encoder)]

    def display_target(self, example: Example) -> Any:
        """What is to be learned from an example, JSON-ready, for people to look at."""
        return example.target

    # 2. Tokens and batches

    is_packed: ClassVar[bool] = False
    """Whether its rows hold several documents that do not see each other."""

    @property
    def stored_as(self) -> str:
        """What a row of the store is called: block, piece, window; row where each is one of the user's."""
        return "row"

    @property
    def texts_per_row(self) -> int:
        """How many texts stand in a row of the store and go through the model each: 2 where answers are compared, k of k choices.

        `batching.store.text_keys` gives each of them a key of its own.
        """
        return 1

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        """Whether its rows have `token_type_ids`."""
        return encoder.gives_type_ids(pair=self.columns is not None and self.columns.pair is not None)

    def packer(self, encoder: TextEncoder, split: str) -> Packer | None:
        """None, or what is fed with `document(example)` instead of `encode`: rows that several examples share."""
        return None

    def document(self, example: Example) -> Document:
        """Of a packed task: an example as the packer takes it."""
        raise NotImplementedError(f"{self.name} packs no documents")

    def collate_inputs(self, rows: Sequence[Encoded], encoder: TextEncoder, padding: Padding = LONGEST) -> Batch:
        """Encoded rows -> a padded batch without targets, for prediction."""
        from tunewright.batching.micro_batches import padded_inputs

        return padded_inputs(rows, encoder, padding)

    # 3. Learning

    uses_dropout: ClassVar[bool] = True
    """Whether the model drops out while it trains, where train.dropout does not say."""
    rate_factor: ClassVar[float] = 1.0
    """How many times larger `learning_rate: auto` is than for tasks that learn from scratch what they predict."""

    @property
    def loss_terms(self) -> tuple[str, ...]:
        """Names of the terms that `loss` returns and `weights` knows, in order."""
        return ("cross_entropy",)

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Self:
        """The task as it trains on this split: class weights counted, targets scaled."""
        return self

    def for_evaluation(self) -> Self:
        """The task as it is evaluated: without class weights, with the same masks every time."""
        return self

    def for_epoch(self, *, seed: int, epoch: int) -> Self:
        """The task as it trains in this epoch: what it draws (masks) is a pure function of both and a row's key."""
        return self

    def for_step(
        self, model: Any, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, execution: Execution
    ) -> Self:
        """The task as it trains on these rows: what a pass over the whole step without gradient tells (KTO's reference point)."""
        return self

    def finish_model(self, model: Any) -> Self:
        """The task as the trained model is used. Called once with the weights that are kept, which it may change in place, before they
        are scored and written: a head learned in other units than it is to answer in."""
        return self

    def model_warnings(self, model: Any) -> list[str]:
        """What is to be said about this task with this model, before training."""
        return []

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """Settings that the tokenizer is saved with, for other programs: control tokens in a text stay text."""
        keep_control_as_text(tokenizer)

    def finish_tokenizer_files(self, folder: Path, encoder: TextEncoder) -> None:
        """Change the saved tokenizer's files for other programs; we open it as it was (`load_tokenizer`)."""
        return

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        """What transformers' pipeline is given for an example. ids: of the example's first row."""
        return Typed(example.text, ids)

    @property
    def needs_reference(self) -> bool:
        """Whether the loss looks at what the start model says of the rows (`training/reference.py`); the next five are for that."""
        return False

    @property
    def needs_mismatched(self) -> bool:
        """Whether the loss looks at what it says of answers to other prompts too."""
        return False

    @property
    def start_model(self) -> Mapping[str, Any]:
        """`{"model": the model section, "seed"}` that the run began with."""
        raise NotImplementedError(f"{self.name} has no reference")

    def with_reference_log_probs(self, reference: Mapping[str, np.ndarray]) -> Self:
        """The task, knowing log-probabilities `(rows, sides)` of the start model: split -> its rows, `split.mismatched`."""
        return self

    def log_probs(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(sums of log-probabilities, counts of tokens), `(rows, sides)`, of the answers in a batch."""
        raise NotImplementedError(f"{self.name} has no reference")

    def collate_mismatched(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """The rows' prompts with the answers of other rows."""
        raise NotImplementedError(f"{self.name} has no reference")

    # 4. Outputs, scores and predictions

    @property
    def num_shown(self) -> int | None:
        """How many labels or candidates a prediction holds; None where nobody can choose."""
        return None

    def with_num_shown(self, num_shown: int) -> Self:
        """The task, its predictions holding so many."""
        return self

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        """What `decode` or the writer gives, as its `as_dict` has it, for an input that has no answer."""
        return {"text": "", "ended": None, "tokens": 0} if self.generates_text else {"label": None, "score": None}

    def outputs(self, model: Any, batch: Batch) -> Any:
        """Forward pass without a loss, for prediction: what `loss` gives as its second value."""
        return model(**batch.inputs).logits

    def row_outputs(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """A batch's outputs as one float array per row, padding removed."""
        return list(outputs.float().cpu().numpy())

    def scores(self, outputs: Sequence[np.ndarray]) -> Any:
        """All rows' outputs -> what `metrics`, `worst` and `decode` take, indexed by row."""
        return outputs

    def metric_names(self) -> list[str]:
        """Every metric that `metrics` can give, `loss` included; empty where that is not known before the rows are scored."""
        return []

    def best_metric(self) -> str:
        """The metric that picks the best checkpoint where the user names none."""
        return "loss"

    def best_metric_on(self, split: SplitStore) -> str:
        """The metric that picks the best checkpoint by this split: the best one that has a value there."""
        best = self.best_metric()
        return "loss" if best in self.metrics_without_value(split) else best

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        """Those of `metric_names` that have no value on this split, and why not."""
        return {}

    def worst(self, scores: Any, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """The most confidently wrong rows: `{"row", "position", "gold", "predicted", "score"}`; position: of the row in the split."""
        return []

    def gold(self, split: SplitStore) -> np.ndarray | None:
        """What is right, an entry for each row, where `text_baselines` learns from it; else None."""
        return None

    def text_baselines(self, train: LabelledTexts) -> Callable[[LabelledTexts], dict[str, dict[str, float]]]:
        """For a task with `gold`: learns simple answers from `train`; the result gives name -> metrics on the rows that it is given."""
        return lambda rows: {}

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        """The same of simple answers that can be told from the stores alone, for a task without `gold`."""
        return {}

    # 5. Writing text

    generates_text: ClassVar[bool] = False
    """Whether the model writes text: then predictions are what `writer` completes, and nothing is decoded."""
    chats: ClassVar[bool] = False
    """Whether it answers conversations: its writer is an `Answers`."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that conversations are written with, where there is one."""
        return None

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:
        """How words are chosen where nobody says it: fields of `generation.generate.Sampling`."""
        return {}

    def stop_ids(self, encoder: TextEncoder) -> list[int]:
        """Tokens that end what a model writes, for its generation_config.json. Empty: as it is."""
        return []

    def writer(self, model: Any, encoder: TextEncoder, sampling: Sampling) -> Writer:
        """The model at work, where it writes."""
        raise NotImplementedError(f"{self.name} writes no text")

    def generation_metrics(self, model: Any, split: SplitStore, encoder: TextEncoder) -> dict[str, Any]:
        """Of final scores: `metrics` of what the model writes, and the `worst_rows` of it; empty where it writes nothing to compare."""
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
