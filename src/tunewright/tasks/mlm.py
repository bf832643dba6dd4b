"""Masked language modelling: hide some tokens of a text and predict them; optionally tell whether one text follows another.

    {"text": "He bought a new car yesterday."}
      -> [CLS] he bought a new [MASK] yesterday . [SEP]      other tokens are hidden in every epoch
      -> FilledMask("He bought a new [MASK] yesterday.", ((Candidate("car", 0.41, 2482), …),))

Texts longer than the model are cut into pieces of like length; nothing is lost. With `next_sentence` documents become pairs of
segments, half of them neighbours, and the model is BERT's own for pretraining, with both losses.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore
from tunewright.encoding.masking import Masking
from tunewright.encoding.sentence_pairs import sentence_pairs
from tunewright.encoding.sentences import sentences
from tunewright.errors import UserError
from tunewright.files.record_json import RUN_ONLY
from tunewright.metrics import Metric
from tunewright.metrics.intervals import language_intervals
from tunewright.metrics.language import language_scores, perplexity, unigram_loss
from tunewright.pretrained.architecture import kind_named, kind_of
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.unlabelled import is_lone_text, text_roles
from tunewright.records import IGNORED, Batch, Candidate, Encoded, Example, FilledMask, Prediction, Row, Typed
from tunewright.tasks import base
from tunewright.tasks.base import ExplainedRow, TaskOptions, Weights, explained_row
from tunewright.tokenization.added_tokens import missing_role, read_control_in_texts
from tunewright.tokenization.encoded_rows import EncodedRows, part_numbers
from tunewright.tokenization.encoder import TextEncoder
from tunewright.tokenization.ragged import RaggedIds
from tunewright.tokenization.template import kept_lengths

if TYPE_CHECKING:
    import torch

    from tunewright.tasks.base import LossTerms

MASKED, NEXT = "masked_lm", "next_sentence"
EVALUATION_SEED = 0x5EED
"""Evaluations hide the same tokens every time, so that they compare."""
FOLLOWS, DOES_NOT = "follows", "does not follow"
_PAIR_STREAM = 0x9A17


class Options(TaskOptions):
    reads = frozenset({"data.weight"})

    name: str = "mlm"
    mask_probability: float = Field(
        0.15, gt=0, lt=1, description="Share of a row's tokens that are masked and predicted."
    )
    whole_word: bool = Field(False, description="Mask whole words, not single tokens of them.")
    next_sentence: bool = Field(
        False, description="Learn also whether one text follows another (BERT only). Rows are then documents."
    )

    @property
    def documents(self) -> str:
        """What a row of a plain text file is: of sentences a line each, blank lines between documents, a paragraph."""
        return "paragraphs" if self.next_sentence else "line"


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. seed: of negative pairs. draw: (seed, epoch) of the masks."""

    columns: TextColumns = field()
    mask_probability: float = 0.15
    whole_word: bool = False
    next_sentence: bool = False
    seed: int = 0
    draw: tuple[int, int] = field(default=(EVALUATION_SEED, 0), metadata=RUN_ONLY)
    num_shown: int = field(default=5, metadata=RUN_ONLY)
    """How many candidates a prediction holds for each mask."""

    name = "mlm"
    pipeline = "fill-mask"

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return (MASKED, NEXT) if self.next_sentence else (MASKED,)

    @property
    def stored_as(self) -> str:
        return "pair" if self.next_sentence else "piece"

    reads_texts = True

    @property
    def reads_pairs(self) -> bool:
        return self.next_sentence

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        return int(is_lone_text(columns, rows) and kind_named(config.model) == "encoder")

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        data = config.data
        named = [data.text] if isinstance(data.text, str) else list(data.text or ())
        text, reason = text_roles(columns, rows, source=source.name, text=named)
        options = config.task if isinstance(config.task, Options) else Options()
        settings = options.model_dump(exclude={"name"})
        return cls(TextColumns(text, weight=data.weight), **settings, seed=data.seed), reason

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Task:
        if kind_of(model) == "decoder":
            raise UserError(
                "a decoder reads left to right and cannot predict masked tokens",
                where=f"model {model.name}",
                hint="Choose an encoder (BERT, RoBERTa, scratch:bert-mini), or task: clm.",
            )
        if self.next_sentence and model.json_file("config.json").get("model_type") != "bert":
            raise UserError(
                "only BERT has a head for next-sentence prediction",
                where=f"model {model.name}",
                hint="Choose a BERT, or leave task.next_sentence out.",
            )
        return self

    def to_example(self, row: Row) -> Example:
        text, _ = self.columns.texts_of(row)
        return Example(text, target=True, weight=self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        return Example(self.columns.texts_of(row)[0])

    def display_target(self, example: Example) -> Any:
        return None

    # Tokens and batches

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """To learn from: whole texts, in pieces. To predict (no target): texts as they are, the mask token typed in them, or pairs."""
        if encoder.tokenizer.mask_token_id is None:
            raise missing_role(encoder.tokenizer, "mask", "the tokenizer names no mask token", where="model.tokenizer")
        if any(example.target is None for example in examples):
            return self._encode_inputs(examples, encoder)
        texts = [example.text for example in examples]
        return self._encode_pairs(texts, encoder) if self.next_sentence else self._encode_pieces(texts, encoder)

    def _ids(self, texts: Sequence[str], encoder: TextEncoder) -> RaggedIds:
        """Bare ids; with whole words shifted by one bit, which says whether a token goes on the word before it."""
        return _with_word_bits(texts, encoder) if self.whole_word else encoder.bare_ids(texts)

    def _encode_pieces(self, texts: Sequence[str], encoder: TextEncoder) -> EncodedRows:
        """A text longer than the model becomes pieces of like length, so that each has as much to see as the others."""
        bare = self._ids(texts, encoder)
        num_pieces = np.maximum(1, -(-bare.lengths // (encoder.max_length - sum(map(len, encoder.template)))))
        example = np.repeat(np.arange(len(texts)), num_pieces)
        starts = bare.offsets[:-1][example] + bare.lengths[example] * part_numbers(example) // num_pieces[example]
        kept = bare.lengths[example] > 0
        rows = encoder.frame(RaggedIds(bare.ids, np.append(starts[kept], bare.offsets[-1])))
        blank = np.flatnonzero(bare.lengths == 0).tolist()
        return self._finished(
            rows, example[kept], encoder, {}, dict.fromkeys(blank, "the tokenizer finds no token in it")
        )

    def _encode_pairs(self, texts: Sequence[str], encoder: TextEncoder) -> EncodedRows:
        split = [sentences(text) for text in texts]
        flat = self._ids([sentence for of_text in split for sentence in of_text], encoder)
        ids = iter(np.split(flat.ids, flat.offsets[1:-1]))
        documents = [[one.tolist() for one in itertools.islice(ids, len(of_text)) if len(one)] for of_text in split]
        digest = hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        rng = np.random.default_rng([_PAIR_STREAM, self.seed, int.from_bytes(digest, "big")])
        room = encoder.room_of_pairs
        pairs = sentence_pairs(documents, room=room, rng=rng)
        first, second = (RaggedIds.of([getattr(pair, side) for pair in pairs]) for side in ("first", "second"))
        _, kept = kept_lengths(first.lengths, second.lengths, room, odd_to_first=not encoder.tokenizer.is_fast)
        values = {"second": kept, "follows": [int(pair.follows) for pair in pairs]}
        of = np.array([pair.document for pair in pairs], dtype=np.int64)
        without = sorted(set(range(len(texts))) - set(of.tolist()))
        reason = "a single sentence, and no other document to compare it with"
        return self._finished(encoder.frame(first, second), of, encoder, values, dict.fromkeys(without, reason))

    def _finished(
        self,
        rows: EncodedRows,
        example: np.ndarray,
        encoder: TextEncoder,
        values: dict[str, Any],
        rejected: dict[int, str],
    ) -> EncodedRows:
        """Rows with their columns: what is hidden of each in number, and its words."""
        places = encoder.places(rows.lengths, values.get("second"))
        counts = self._masking.num_hidden(sum((end - start for start, end in places), np.zeros(len(rows), np.int64)))
        if self.whole_word:
            values["continues"] = []
            for row in range(len(rows)):
                body = rows.offsets[row] + _positions(places, row)
                values["continues"].append((rows.input_ids[body] & 1).astype(np.int8))
                rows.input_ids[body] >>= 1
        return replace(
            rows, example=example, part=part_numbers(example), num_supervised=counts.astype(np.int32), values=values,
            rejected=rejected,
        )  # fmt: skip

    def _encode_inputs(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Texts with masks, and pairs, for prediction: each in its own row."""
        tokenizer = encoder.tokenizer
        rows, of, rejected = [], [], {}
        typing = encoder.with_control(tokenizer.mask_token)
        for number, example in enumerate(examples):
            if example.pair is not None:
                row = encoder.encode([example.text], [example.pair])[0]
            else:
                row = typing.encode([example.text])[0]
                if not (row.input_ids == tokenizer.mask_token_id).any():
                    beyond = tokenizer.mask_token in example.text
                    where = (
                        f"comes after the first {encoder.max_length} tokens, and the rest is cut"
                        if beyond
                        else "is missing"
                    )
                    rejected[number] = f"{tokenizer.mask_token}, the place to fill, {where}"
                    continue
            rows.append(row)
            of.append(number)
        pairs = [examples[number].pair is not None for number in of]
        values = {"is_pair": pairs, "tokenizer": [tokenizer] * len(of)}
        found = EncodedRows.of([_typed(row) for row in rows], example=of, values=values, rejected=rejected)
        return found if any(row.token_type_ids is not None for row in rows) else replace(found, token_type_ids=None)

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        """As it is learned; a document alone gives neighbours only, and one of a single sentence is shown as it stands."""
        rows = self.encode([replace(example, target=True)], encoder)
        return [explained_row(row, encoder) for row in (rows if len(rows) else encoder.encode([example.text]))]

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        return encoder.gives_type_ids(pair=self.next_sentence)

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        pairs = {"second": pa.int32(), "follows": pa.int8()} if self.next_sentence else {}
        return pairs | ({"continues": pa.list_(pa.int8())} if self.whole_word else {})

    @property
    def _masking(self) -> Masking:
        return Masking(self.mask_probability, *self.draw)

    def for_epoch(self, *, seed: int, epoch: int) -> Task:
        return replace(self, draw=(seed, epoch))

    def for_evaluation(self) -> Task:
        return replace(self, draw=(EVALUATION_SEED, 0))

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """targets: `labels`, -100 but on hidden tokens; with pairs `next_sentence_label`, 0 where the second text follows."""
        import torch

        from tunewright.batching.micro_batches import pad, padded_inputs

        tokenizer = encoder.tokenizer
        any_token = _ordinary_ids(len(tokenizer), tuple(tokenizer.all_special_ids))
        rows, labels = [], []
        for position, (hidden, rng) in zip(positions, self._hidden(split, positions, encoder), strict=True):
            row = split.encoded(int(position))
            ids, gold = row.input_ids.copy(), np.full(len(row.input_ids), IGNORED)
            gold[hidden] = ids[hidden]
            ids[hidden] = self._masking.replaced(ids[hidden], rng, mask_id=tokenizer.mask_token_id, ids_V=any_token)
            rows.append(replace(row, input_ids=ids))
            labels.append(gold)
        batch = padded_inputs(rows, encoder, padding)
        targets = {"labels": pad(labels, value=IGNORED, width=batch.width, left=encoder.padding_side == "left")}
        if self.next_sentence:
            targets["next_sentence_label"] = torch.from_numpy(1 - split.array("follows")[positions].astype(np.int64))
        return replace(batch, targets=targets, row_ids=split.keys[positions])

    def _hidden(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder
    ) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
        """(hidden positions, the row's random numbers as they stand then) of each row."""
        lengths = split.lengths[positions].astype(np.int64)
        places = encoder.places(lengths, split.array("second")[positions] if self.next_sentence else None)
        words = split.lists("continues", positions) if self.whole_word else [None] * len(positions)
        for number, continues in enumerate(words):
            rng = self._masking.rng(int(split.keys[positions[number]]))
            yield self._masking.hidden(_positions(places, number), rng, continues), rng

    def collate_inputs(self, rows: Sequence[Encoded], encoder: TextEncoder, padding: Padding = LONGEST) -> Batch:
        batch = super().collate_inputs(rows, encoder, padding)
        return replace(batch, targets={"masks": batch.inputs["input_ids"] == encoder.tokenizer.mask_token_id})

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

        from tunewright.models.loading import load_pretrained

        return load_pretrained(
            AutoModelForPreTraining if self.next_sentence else AutoModelForMaskedLM, source, seed=seed, dtype=dtype
        )

    @property
    def _logits(self) -> str:
        return "prediction_logits" if self.next_sentence else "logits"

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Sums over hidden tokens and over pairs; the second value: nats, tokens and the odds that the second text follows, a row each."""
        import torch

        from tunewright.losses.cross_entropy import cross_entropy_rows
        from tunewright.losses.language import labelled_loss

        done = labelled_loss(model, batch.inputs, batch.host_targets["labels"], weights_B=weights, logits=self._logits)
        terms: LossTerms = {MASKED: (done.total, done.weight)}
        if not self.next_sentence:
            return terms, done.rows_B2
        odds_B2 = done.output.seq_relationship_logits
        losses_B = cross_entropy_rows(odds_B2, batch.targets["next_sentence_label"])
        weights_B = torch.ones_like(losses_B) if weights is None else weights.to(losses_B)
        terms[NEXT] = ((losses_B * weights_B).sum(), weights_B.sum())
        log_odds_B1 = (odds_B2[:, :1] - odds_B2[:, 1:]).detach().to(done.rows_B2)
        return terms, torch.cat([done.rows_B2, log_odds_B1], dim=1)

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        terms = {MASKED: rows * self._num_hidden(split)}
        return Weights(rows, terms | ({NEXT: rows} if self.next_sentence else {}))

    def _num_hidden(self, split: SplitStore) -> np.ndarray:
        """int64 `(rows,)`: hidden tokens of each row; with whole words they depend on what is drawn."""
        if not self.whole_word:
            return split.array("num_supervised").astype(np.int64)
        words = split.lists("continues", range(len(split)))
        draws = (self._masking.rng(int(key)) for key in split.keys)
        hidden = (self._masking.hidden(np.arange(len(row)), rng, row) for row, rng in zip(words, draws, strict=True))
        return np.fromiter(map(len, hidden), np.int64, count=len(split))

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """A mask to fill is typed: transformers' fill-mask pipeline finds it only where control tokens in a text are read as such."""
        read_control_in_texts(tokenizer)

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        """A mask to fill is typed before a text that has none."""
        mask = encoder.tokenizer.mask_token
        has_mask = example.pair is not None or mask in example.text
        return Typed(example.text if has_mask else f"{mask} {example.text}", ids)

    # Outputs -> scores -> predictions

    def outputs(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(logits at the masks, row by row; log-odds that pairs follow, where the model tells)."""
        from tunewright.losses.language import logits_at

        logits_MV, output = logits_at(model, batch.inputs, batch.targets["masks"], logits=self._logits)
        return logits_MV, output.seq_relationship_logits if self.next_sentence else None

    def row_outputs(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """Of training batches the row of `loss`. Of inputs: probabilities `(masks, vocabulary)`, of pairs `(1, 2)`."""
        if "labels" in batch.targets:
            return list(outputs.float().cpu().numpy())
        logits_MV, odds_B2 = outputs
        counts = batch.targets["masks"].sum(1).tolist()
        rows = [part.float().softmax(-1).cpu().numpy() for part in logits_MV.split(counts)]
        if odds_B2 is None:
            return rows
        pairs = odds_B2.float().softmax(-1).cpu().numpy()
        return [row if len(row) else pair[None] for row, pair in zip(rows, pairs, strict=True)]

    def scores(self, outputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return outputs

    def with_num_shown(self, num_shown: int) -> Self:
        return replace(self, num_shown=num_shown)

    def decode(
        self, example: Example, rows: Sequence[Encoded], scores: Sequence[np.ndarray]
    ) -> FilledMask | Prediction:
        (row,), (probabilities_MV,) = rows, scores
        assert row.values is not None
        if row.values["is_pair"]:
            found = dict(zip((FOLLOWS, DOES_NOT), map(float, probabilities_MV[0]), strict=True))
            ranked = dict(sorted(found.items(), key=lambda item: -item[1]))
            label = next(iter(ranked))
            return Prediction(label, ranked[label], ranked, num_cut=row.num_cut)
        masks = tuple(self._candidates(one_V, row.values["tokenizer"]) for one_V in probabilities_MV)
        return FilledMask(example.text, masks, row.num_cut)

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"text": None, "candidates": []}

    def _candidates(self, probabilities_V: np.ndarray, tokenizer: Any) -> tuple[Candidate, ...]:
        best = np.argsort(-probabilities_V, kind="stable")[: self.num_shown]
        return tuple(Candidate(tokenizer.decode([int(i)]), float(probabilities_V[i]), int(i)) for i in best)

    def metrics(self, scores: Any, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        table = np.stack(scores).astype(np.float64)
        found = language_scores(table[:, 0], table[:, 1])
        masked = found.pop("loss")
        result: dict[str, Any] = {"metrics": found, "tokens": int(table[:, 1].sum())}
        if self.next_sentence:
            right = (table[:, 2] > 0) == (split.array("follows") == 1)
            result["metrics"]["pair_accuracy"] = Metric(right.mean(), True)
        else:
            result["metrics"]["loss"] = masked
        if intervals:
            result["intervals"] = language_intervals(table[:, 0], table[:, 1], seed=0)
            if self.next_sentence:
                result["intervals"].pop("loss")
        return result

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        """unigram: each hidden token by its frequency in training, whatever stands around it."""
        counts, hidden = (np.zeros(max(encoder.tokenizer.get_vocab().values()) + 1, np.int64) for _ in range(2))
        places = encoder.places(train.lengths.astype(np.int64), train.array("second") if self.next_sentence else None)
        for row in range(len(train)):
            np.add.at(counts, train.input_ids(row)[_positions(places, row)], 1)
        drawn = self.for_evaluation()._hidden(split, np.arange(len(split)), encoder)
        for row, (chosen, _) in enumerate(drawn):
            np.add.at(hidden, split.input_ids(row)[chosen], 1)
        loss = unigram_loss(counts, hidden)
        return {"unigram": {f"loss_{MASKED}" if self.next_sentence else "loss": loss, "perplexity": perplexity(loss)}}

    def metric_names(self) -> list[str]:
        terms = [f"loss_{MASKED}", f"loss_{NEXT}", "pair_accuracy"] if self.next_sentence else []
        return ["loss", "perplexity", *terms]


def _positions(places: Sequence[tuple[np.ndarray, np.ndarray]], row: int) -> np.ndarray:
    """The positions of a row's texts, the template's tokens left out."""
    return np.concatenate([np.arange(start[row], end[row]) for start, end in places])


def _with_word_bits(texts: Sequence[str], encoder: TextEncoder) -> RaggedIds:
    rows = []
    for aligned_text in encoder.encode_with_offsets(texts):
        own = ~aligned_text.special_mask
        words = aligned_text.word_ids[own]
        continues = np.concatenate([[False], words[1:] == words[:-1]])[: len(words)]
        rows.append((aligned_text.input_ids[own] << 1 | continues).tolist())
    return RaggedIds.of(rows)


def _typed(row: Encoded) -> Encoded:
    """Rows of texts and of pairs stand in one batch: all with types, where any has them."""
    return row if row.token_type_ids is not None else replace(row, token_type_ids=np.zeros(len(row.input_ids), np.int8))


@lru_cache(maxsize=4)
def _ordinary_ids(num_tokens: int, special: tuple[int, ...]) -> np.ndarray:
    """Every id that is no control token."""
    return np.setdiff1d(np.arange(num_tokens), special)
