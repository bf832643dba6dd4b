"""A reward model: one number for a prompt and its answer, larger for the better of two answers.

    {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
      -> one store row with both sides, as in `tasks/preference.py`
      -> {"reward": (sum over pairs of -log σ(reward of chosen - reward of rejected), weight of the pairs)}
      -> Reward(score=1.93)      of ("Hi", "Hello!")

A decoder's head reads the last token of a text, an encoder's the first; rewards mean something beside each other only, on the same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.batching.store import SplitStore
from tunewright.chat.messages import single_turn
from tunewright.chat.preferences import parse_comparison
from tunewright.errors import UserError, renamed
from tunewright.pretrained.architecture import kind_of
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.file_shapes import shape_of
from tunewright.records import Batch, Encoded, Example, Row, Typed
from tunewright.tasks.base import Weights
from tunewright.tasks.pairwise import ChatOptions, PairwiseTask
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.tasks.base import LossTerms

TERM = "reward"


class Options(ChatOptions):
    name: str = "reward"


@dataclass(frozen=True, slots=True)
class Reward:
    """What a reward model says of an answer to its prompt. Means something beside other rewards on that prompt only."""

    text: str
    score: float
    num_cut: int = 0

    def with_min_score(self, min_score: float) -> Reward:
        """Itself: a reward is no probability."""
        return self

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        return {"text": self.text, "score": self.score} | ({"tokens_cut": self.num_cut} if self.num_cut else {})

    def line(self) -> str:
        """The reward before the answer, for a terminal."""
        return f"{self.score:8.3f}  {self.text}"


@dataclass(frozen=True)
class Task(PairwiseTask):
    """See `tasks.base.Task`."""

    name = "reward"
    has_sequence_head = True
    loss_terms = (TERM,)
    reads_pairs = True
    reads_texts = True

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        task = cls(*cls._begin(config, source, columns, rows), config.data.weight)
        if not task.has_pairs:
            raise UserError(
                "a reward model learns from pairs", where=source.name, found="single answers that are called good or bad",
                hint="Give chosen and rejected answers, or train with task: preference.",
            )  # fmt: skip
        return task, task._reason()

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Task:
        """An encoder judges too: turns stand between separators, and its head reads the first token."""
        if model.json_file("config.json").get("is_encoder_decoder"):
            raise UserError(
                "a reward model reads a conversation as one text, which an encoder-decoder does not",
                where=f"model {model.name}",
                hint="Choose a decoder (Llama, Qwen, GPT) or an encoder (BERT).",
            )
        encoder = kind_of(model) == "encoder" and self.chat.template == "auto"
        chat = replace(self.chat, template="encoder") if encoder else self.chat
        return replace(self, chat=chat.with_labels(counts, model, where=where, writes=False))

    def to_input(self, row: Row) -> Example:
        """The better answer's side: a reward belongs to an answer."""
        row, preferences = shape_of(row, self.preferences)
        found = parse_comparison(row, preferences)[0].chosen
        return Example("\n".join(one.content for one in found.messages), target=found)

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForSequenceClassification

        from tunewright.models.loading import load_pretrained

        return load_pretrained(AutoModelForSequenceClassification, source, seed=seed, dtype=dtype, num_labels=1)

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        return Typed(example.text, ids, "a conversation that is judged whole")

    def finish_tokenizer(self, tokenizer: Any) -> None:
        self.chat.finish_tokenizer(tokenizer)

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Sum over pairs, and the rewards `(rows, 2)`."""
        import torch

        from tunewright.losses.reward import reward_rows

        rewards_R2 = self.outputs(model, batch).float().view(2, -1).T
        rows_R = reward_rows(*rewards_R2.unbind(1))
        weights_R = torch.ones_like(rows_R) if weights is None else weights.to(rows_R)
        return {TERM: ((rows_R * weights_R).sum(), weights_R.sum())}, rewards_R2.detach()

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        """`(texts, 1)`: rewards."""
        logits: torch.Tensor = model(**batch.inputs, use_cache=False).logits
        return logits

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        return Weights(rows, {TERM: rows})

    # Scores and predictions

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """float64 `(rows, 2)`, of prediction `(rows, 1)`."""
        return np.stack(outputs).astype(np.float64)

    def rewards(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return scores, None

    def encode_inputs(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Prompts with their answers, where there are any."""
        alone = [example.target or single_turn(example.text, example.pair) for example in examples]
        chats = self.chat.dialogue_encoder(encoder)
        rows = [
            chats.for_training([one])[0] if one.num_answers else chats.for_generation([one], room=0)[0] for one in alone
        ]
        good = [number for number, row in enumerate(rows) if not isinstance(row, str)]
        return EncodedRows.of(
            [Encoded(row.ids, num_cut=row.num_cut) for row in rows if not isinstance(row, str)],
            example=good,
            rejected={number: row for number, row in enumerate(rows) if isinstance(row, str)},
        )

    @property
    def empty_answer(self) -> Mapping[str, Any]:
        return {"text": None, "score": None}

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[np.ndarray]) -> Reward:
        return Reward(example.text if example.pair is None else example.pair, float(scores[0][0]), rows[0].num_cut)
