"""Causal language modelling: predict each token from those before it. Documents are packed into blocks of equal length.

    {"text": "Once upon a time …"}
      -> Document("Once upon a time …")
      -> a block [0 4711 … 0 25 …], segments [231 281]      several documents, joined by the end token, isolated from each other
      -> Completion("Once upon a time", " there was a girl")

Positions start again in each document; models that go by them keep documents apart, others are told to the user. A block's first
token is context; every other token of a document is predicted. Loss is per predicted token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, PositiveInt

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.chat.transcripts import common_literal_end, recognized_marks, without_literal_ends
from tunewright.encoding.packing import BLOCK_COLUMNS, Document, Frame, Packer, positions_within, predicted_tokens
from tunewright.errors import RowError, UserError
from tunewright.metrics.intervals import language_intervals
from tunewright.metrics.language import language_scores, perplexity, unigram_loss
from tunewright.pretrained.architecture import kind_named, kind_of
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.documents import BEGINS, ENDS
from tunewright.reading.split import TRAIN
from tunewright.reading.unlabelled import is_lone_text, text_roles
from tunewright.records import IGNORED, Batch, Encoded, Example, Row, Typed
from tunewright.tasks import base
from tunewright.tasks.base import ExplainedRow, TaskOptions, Weights, explained_row
from tunewright.tokenization.added_tokens import read_control_in_texts
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder
from tunewright.tokenization.typed_start import adds_to_what_is_typed, save_for_typing, typed_start

if TYPE_CHECKING:
    import torch

    from tunewright.generation.generate import Sampling
    from tunewright.generation.writer import Writer
    from tunewright.tasks.base import LossTerms

TERM = "cross_entropy"


class Options(TaskOptions):
    reads = frozenset()

    name: str = "clm"
    eval_stride: PositiveInt | None = Field(
        None,
        description="Evaluation: each block moves on by this many tokens and repeats the rest as context, which is slower and fairer to "
        "the first tokens of a block. Not given: blocks stand side by side.",
    )
    strip_end_tokens: bool = Field(
        False,
        description="Remove end tokens that are spelled out at the end of texts (</s>, <|endoftext|>): each document ends with the "
        "tokenizer's end token anyway.",
    )


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. columns: texts, joined by a blank line where there are several. transcript: see `sft.Task`.

    spelled_end: an end token that many of the first texts end with.
    """

    columns: TextColumns = field()
    eval_stride: int | None = None
    transcript: str | None = None
    strip_end_tokens: bool = False
    spelled_end: str | None = None

    name = "clm"
    pipeline = "text-generation"
    first_model = "HuggingFaceTB/SmolLM2-135M"
    loss_terms = (TERM,)
    stored_as = "block"
    is_packed = True
    documents = "auto"

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        return int(is_lone_text(columns, rows) and kind_named(config.model) == "decoder")

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        data = config.data
        named = [data.text] if isinstance(data.text, str) else list(data.text or ())
        text, reason = text_roles(columns, rows, source=source.name, text=named)
        options = config.task if isinstance(config.task, Options) else Options()
        carried = recognized_marks([row.fields.get(text[0]) for row in rows]) if len(text) == 1 else None
        ends = None if options.strip_end_tokens else common_literal_end([row.fields.get(text[-1]) for row in rows])
        mark = carried.name if carried else None
        return cls(TextColumns(text), options.eval_stride, mark, options.strip_end_tokens, ends), reason

    def findings(self, store: TokenStore) -> list[str]:
        ends = [
            f"texts end with the text {self.spelled_end!r}, which is learned as text, letter by letter. task.strip_end_tokens=true takes it "
            "away; each document is ended by the tokenizer's end token all the same."
        ]
        return [*self._transcript_findings(), *(ends if self.spelled_end is not None else [])]

    def _transcript_findings(self) -> list[str]:
        if self.transcript is None:
            return []
        return [
            f"the texts are conversations (each answer follows a marker of {self.transcript!r}), and the loss counts every token, also those "
            f"of the questions. To train on the answers only, set task=sft and task.answers_after={self.transcript!r}."
        ]

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Task:
        if kind_of(model) == "encoder":
            raise UserError(
                "an encoder is bidirectional and cannot predict the next token",
                where=f"model {model.name}",
                hint="Choose a decoder (GPT, Llama, Qwen, scratch:llama-mini), or task: mlm.",
            )
        return self

    def to_example(self, row: Row) -> Example:
        text, _ = self.columns.texts_of(row)
        if self.strip_end_tokens and not (text := without_literal_ends(text)).strip():
            raise RowError("blank text")
        return Example(text, target=(bool(row.fields.get(BEGINS, True)), bool(row.fields.get(ENDS, True))))

    def to_input(self, row: Row) -> Example:
        return Example(self.columns.texts_of(row)[0])

    def display_target(self, example: Example) -> Any:
        return None

    # Tokens and batches

    def document(self, example: Example) -> Document:
        return Document(example.text, *(example.target or (True, True)))

    def packer(self, encoder: TextEncoder, split: str) -> Packer:
        return Packer(encoder, stride=None if split == TRAIN else self.eval_stride)

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Each document in blocks of its own: for looking at one."""
        rows, of, supervised = [], [], []
        for number, example in enumerate(examples):
            packer = Packer(encoder)
            for blocks in (packer.add([self.document(example)]), packer.finish()):
                rows += [replace(row, values=None) for row in blocks]
                supervised += blocks.num_supervised.tolist()
                of += [number] * len(blocks)
        return EncodedRows.of(rows, example=of, num_supervised=supervised)

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        return [explained_row(row, encoder) for row in self.encode([example], encoder)]

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        return False

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        lists = {name: pa.list_(pa.int32()) for name in ("segments", "joined")}
        return {**lists, **{name: pa.int64() for name in BLOCK_COLUMNS if name not in lists}}

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """inputs: ids and positions, which start again in each document. targets: `labels`, as transformers shifts them itself."""
        from tunewright.batching.micro_batches import pad

        left = encoder.padding_side == "left"
        rows = [split.input_ids(int(position)) for position in positions]
        segments, joined = (split.lists(name, positions) for name in ("segments", "joined"))
        context = split.array("num_context")[positions]
        lengths = split.lengths[positions].astype(np.int64)
        width = padding.width(lengths, encoder)
        labels = [
            np.where(predicted_tokens(of, also, int(skip)), row, IGNORED)
            for row, of, also, skip in zip(rows, segments, joined, context, strict=True)
        ]
        inputs = {
            "input_ids": pad(rows, value=encoder.pad_token_id, width=width, left=left),
            "position_ids": pad([positions_within(of) for of in segments], value=0, width=width, left=left),
        }
        targets = {"labels": pad(labels, value=IGNORED, width=width, left=left)}
        return Batch(inputs, targets, split.keys[positions], lengths, tuple(segments))

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForCausalLM

        from tunewright.models.loading import load_pretrained

        return load_pretrained(AutoModelForCausalLM, source, seed=seed, dtype=dtype)

    def model_warnings(self, model: Any) -> list[str]:
        from tunewright.models.document_isolation import isolates

        if isolates(model):
            return []
        return ["Documents packed into one block attend to each other: this model cannot isolate them."]

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Sum over predicted tokens; the second value holds nats and tokens of each row, `(rows, 2)`."""
        from torch.nn import functional

        from tunewright.losses.language import labelled_loss

        next_BL = functional.pad(batch.host_targets["labels"][:, 1:], (0, 1), value=IGNORED)
        done = labelled_loss(model, self._call(model, batch), next_BL, weights_B=weights)
        return {TERM: (done.total, done.weight)}, done.rows_B2

    def _call(self, model: Any, batch: Batch) -> dict[str, Any]:
        from tunewright.batching.micro_batches import attention_mask
        from tunewright.batching.row_context import current_row_context
        from tunewright.models.document_isolation import takes_positions

        if takes_positions(model):
            return {**batch.inputs, "use_cache": False}
        ids = batch.inputs["input_ids"]
        rows = current_row_context()
        left = rows is not None and rows.left_padded
        return {
            "input_ids": ids,
            "attention_mask": attention_mask(batch.lengths, ids.shape[1], left=left).to(ids.device),
        }

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        return Weights(rows, {TERM: rows * split.array("num_supervised")})

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Task:
        if not split.array("num_supervised").any():
            raise UserError(
                "no token to predict: every block has one token", where="data.train", hint="Give more text."
            )
        return self

    # Writing

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """A document's beginning is typed (`bos_token + prompt`): transformers' pipeline finds it only where it is read as control."""
        read_control_in_texts(tokenizer)

    def finish_tokenizer_files(self, folder: Path, encoder: TextEncoder) -> None:
        save_for_typing(folder, encoder.tokenizer, Frame.of(encoder).before)

    def stop_ids(self, encoder: TextEncoder) -> list[int]:
        """Tokens that end a document, or begin another."""
        frame = Frame.of(encoder)
        return sorted({frame.after[-1], frame.before[0]})

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        """A document's beginning before the prompt."""
        before = Frame.of(encoder).before
        prompt = [*before, *encoder.bare_ids([example.text]).ids.tolist()]
        otherwise = "the tokenizer ends every text itself" if adds_to_what_is_typed(encoder.tokenizer, before) else ""
        return Typed(typed_start(encoder.tokenizer, before) + example.text, prompt[: encoder.max_length], otherwise)

    generates_text = True

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[Any]) -> Any:
        raise NotImplementedError("a writer completes the text")

    def writer(self, model: Any, encoder: TextEncoder, sampling: Sampling) -> Writer:
        from tunewright.generation.documents import DocumentWriter

        return DocumentWriter(model, encoder, sampling)

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"prompt": None, **super().empty_answer}

    # Scores

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """float64 `(rows, 2)`: nats and number of predicted tokens."""
        return np.stack(outputs).astype(np.float64)

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        targets, num_bytes = (int(split.array(name).sum()) for name in ("num_targets", "num_bytes"))
        result: dict[str, Any] = {
            "metrics": language_scores(*scores.T, num_targets=targets, num_bytes=num_bytes),
            "tokens": int(scores[:, 1].sum()),
        }
        if intervals:
            result["intervals"] = language_intervals(*scores.T, seed=0)
        return result

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        """unigram: each token by its frequency in training, whatever stands before it."""
        counts = []
        for rows in (train, split):
            counts.append(np.zeros(max(encoder.tokenizer.get_vocab().values()) + 1, np.int64))
            for ids in _targets(rows):
                np.add.at(counts[-1], ids, 1)
        loss = unigram_loss(*counts)
        return {"unigram": {"loss": loss, "perplexity": perplexity(loss)}}

    def metric_names(self) -> list[str]:
        return ["loss", "perplexity", "bits_per_byte"]


def _targets(split: SplitStore) -> Iterator[np.ndarray]:
    """The tokens of each row that are predicted."""
    columns = (split.lists(name, range(len(split))) for name in ("segments", "joined"))
    for position, (segments, joined, context) in enumerate(zip(*columns, split.array("num_context"), strict=True)):
        yield split.input_ids(position)[predicted_tokens(segments, joined, int(context))]
