"""Preference tuning: of two answers the better one becomes more probable, or an answer that is called good. DPO, IPO, KTO, ORPO, SimPO.

    {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
      -> one store row with both sides, as `tasks/pairwise.py` makes it
      -> collate: two texts, and what the start model said of their answers
      -> {"dpo": (sum over pairs, weight of the pairs)}
      -> Answer("Hello!")

The start model is asked once, before the first step (`training/reference.py`); what it said comes in by `referenced`. The tuned
model answers as one of `tasks/sft.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, field_validator

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.chat.preference_columns import UNPAIRED, find_preferences
from tunewright.encoding.pair_rows import mismatched
from tunewright.errors import UserError
from tunewright.files.record_json import OMIT_NONE, RUN_ONLY
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.records import IGNORED, Batch, Encoded, Example, Row, Typed, copied_to
from tunewright.tasks.base import Weights
from tunewright.tasks.pairwise import ChatOptions, PairwiseTask, Text, next_tokens
from tunewright.tokenization.encoder import TextEncoder

if TYPE_CHECKING:
    import torch

    from tunewright.generation.generate import Sampling
    from tunewright.generation.writer import Answers
    from tunewright.losses.objective import Objective
    from tunewright.tasks.base import LossTerms

CROSS_ENTROPY = "cross_entropy"
_SURELY_PROMPTS = ("prompt", "instruction", "messages", "conversations", "conversation")


class Options(ChatOptions):
    name: str = "preference"
    loss: Literal["auto", "dpo", "ipo", "kto", "orpo", "simpo"] = Field(
        "auto",
        description="What is minimized. auto: dpo for pairs, kto for single answers that are called good or bad.",
    )
    beta: PositiveFloat | None = Field(
        None,
        description="How strongly the model is held to the start model (dpo, ipo, kto: 0.1; dpo and kto length-normalized: 5), the "
        "scale of rewards (simpo: 2), or the weight of the odds ratio (orpo: 0.1).",
    )
    length_normalized: bool = Field(
        False,
        description="dpo, kto: compare log-probabilities per token instead of their sums over an answer. ipo, orpo and simpo always do.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="dpo: assumed share of pairs with swapped labels (label smoothing)."
    )
    margin: float = Field(1.0, ge=0, description="simpo: target margin between the rewards of the two answers.")
    desirable_weight: PositiveFloat = Field(1.0, description="kto: weight of good answers.")
    undesirable_weight: PositiveFloat = Field(1.0, description="kto: weight of bad answers.")

    @field_validator("loss", mode="before")
    @classmethod
    def _no_reward(cls, value: Any) -> Any:
        if value == "reward":
            raise ValueError("a reward model is a task of its own: write task: reward")
        return value


@dataclass(frozen=True)
class Task(PairwiseTask):
    """See `tasks.base.Task`. objective: the loss, known once a run begins. origin: the model it began from, as the config names it, and the seed.

    reference: split -> log-probabilities `(rows, sides)` of the start model, `split.mismatched` -> of answers to other prompts.
    kl: KTO's reference point for the rows at hand.
    """

    objective: Objective | None = field(default=None, metadata=OMIT_NONE)
    origin: Mapping[str, Any] | None = field(default=None, metadata=OMIT_NONE)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False, metadata=RUN_ONLY)
    kl: float = field(default=0.0, metadata=RUN_ONLY)

    name = "preference"
    first_model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    uses_dropout = False  # as TRL does: the model differs from its reference by what it learned, and by nothing else
    rate_factor = 0.3  # at the rate of supervised tuning the answers themselves become improbable

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return (CROSS_ENTROPY, "odds_ratio") if self._loss == "orpo" else (self._loss,)

    @property
    def _loss(self) -> str:
        return self.objective.loss if self.objective else "dpo" if self.has_pairs else "kto"

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        found = None if config.data.pair else find_preferences(columns, rows, text=None, label=None)
        if found is None or (found.format == UNPAIRED and str(found.prompt).lower() not in _SURELY_PROMPTS):
            return 0  # a question, an answer and a label may as well be pairs of texts to classify
        return 3

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        task = cls(*cls._begin(config, source, columns, rows), config.data.weight)
        options = config.task if isinstance(config.task, Options) else Options()
        if not task.has_pairs and options.loss not in ("auto", "kto"):
            raise UserError(
                f"{options.loss} compares two answers to one prompt", where="task.loss",
                found="single answers that are called good or bad", hint="Set task.loss: kto.",
            )  # fmt: skip
        return task, task._reason()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        from tunewright.losses.objective import Objective

        task = super().from_state({key: value for key, value in state.items() if key != "objective"})
        return replace(task, objective=Objective(**state["objective"])) if "objective" in state else task

    def fit_training_statistics(self, split: SplitStore, config: Any) -> Task:
        from tunewright.losses.objective import Objective

        options = config.task if isinstance(config.task, Options) else Options()
        numbers = {"length_normalized", "label_smoothing", "margin", "desirable_weight", "undesirable_weight"}
        loss = self._loss if options.loss == "auto" else options.loss
        objective = Objective.of(loss, beta=options.beta, **options.model_dump(include=numbers))
        return replace(
            self, objective=objective, origin={"model": config.model.model_dump(mode="json"), "seed": config.train.seed}
        )

    def model_warnings(self, model: Any) -> list[str]:
        assert self.objective is not None
        kind = (
            "means per token (length-normalized)" if self.objective.compares_means else "sums over each answer's tokens"
        )
        if self.objective.needs_reference:
            kind += ", against the start model's"
        return [f"{self.objective.loss} compares {kind}; beta {self.objective.beta:g}."]

    def data_warnings(self, store: TokenStore) -> list[str]:
        said = super().data_warnings(store)
        good = store["train"].array("good").astype(bool)
        if self._loss == "kto" and not self.has_pairs and self.objective is not None:
            said += _balance(int(good.sum()), int((~good).sum()), self.objective)
        return said

    # Batches

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        import torch

        batch = super().collate(split, positions, encoder, padding)
        if split.name not in self.reference:
            return batch
        return replace(
            batch, targets={**batch.targets, "reference": torch.from_numpy(self.reference[split.name][positions])}
        )

    def collate_mismatched(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """The rows' prompts with the answers of the rows before them in the store."""
        before = self.sides(split, (positions - 1) % len(split))
        rows = [
            [mismatched(one, other, max_length=encoder.max_length) for one, other in zip(ours, theirs, strict=True)]
            for ours, theirs in zip(self.sides(split, positions), before, strict=True)
        ]
        return self._texts(rows, split.keys[positions], encoder, padding)

    def _labels(self, texts: list[Text], num_rows: int) -> dict[str, list[np.ndarray]]:
        """Of ORPO all tokens of the chosen sides, and besides which of them are an answer's."""
        labels = super()._labels(texts, num_rows)
        if self._loss != "orpo":
            return labels
        whole = [
            next_tokens(ids, np.ones(len(ids), bool)) if n < num_rows else labels["labels"][n]
            for n, (ids, _) in enumerate(texts)
        ]
        return {"labels": whole, "answers": labels["labels"]}

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        return self.chat.build_model(source, seed=seed, dtype=dtype)

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        return self.chat.typed(example, encoder, ids)

    def finish_tokenizer(self, tokenizer: Any) -> None:
        self.chat.finish_tokenizer(tokenizer)

    @property
    def needs_reference(self) -> bool:
        return self.objective is not None and self.objective.needs_reference

    @property
    def needs_mismatched(self) -> bool:
        return self._loss == "kto"

    @property
    def start_model(self) -> Mapping[str, Any]:
        assert self.origin is not None
        return self.origin

    def with_reference_log_probs(self, reference: Mapping[str, np.ndarray]) -> Task:
        return replace(self, reference=reference)

    def log_probs(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(sums of log-probabilities, counts of tokens), `(rows, sides)`, of the answers in a batch."""
        from tunewright.losses.sequence import token_log_probs

        found = token_log_probs(model, {**batch.inputs, "use_cache": False}, batch.host_targets["labels"])
        return self._by_row(found.summed()), self._by_row(found.counts())

    def _by_row(self, of_texts: torch.Tensor) -> torch.Tensor:
        return of_texts.view(2 if self.has_pairs else 1, -1).T

    def for_step(
        self, model: Any, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, execution: Any
    ) -> Task:
        """KTO: with its reference point, from a pass over the whole step without gradient and dropout."""
        import torch

        from tunewright.batching.micro_batches import rows_of
        from tunewright.batching.row_context import row_context
        from tunewright.losses.kto import reference_point

        if self._loss != "kto":
            return self
        assert self.objective is not None
        inner = getattr(model, "module", model)
        was_training = inner.training
        inner.eval()
        of_pieces = [torch.zeros(0, device=execution.device)]
        try:
            with torch.no_grad():
                for piece in execution.split_forward(split.lengths[positions]):
                    batch = self.collate_mismatched(split, positions[piece], encoder, execution.padding)
                    batch = batch.to(execution.device)
                    with row_context(rows_of(batch, encoder)):
                        sums, counts = self.log_probs(inner, batch)
                    known = torch.from_numpy(self.reference[f"{split.name}.mismatched"][positions[piece]]).to(sums)
                    of_pieces.append(self.objective.log_ratios(sums, counts, known).flatten())
        finally:
            inner.train(was_training)  # also where memory was full: the step is then computed again
        ratios = torch.cat(of_pieces).cpu().double()
        total = execution.summed(torch.stack([ratios.sum(), torch.tensor(float(len(ratios)))]))
        return replace(self, kl=reference_point(*total.tolist()))

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Terms, and each row's sums of log-probabilities, counts and reference, `(rows, 3 · sides)`."""
        import torch

        from tunewright.losses.sequence import token_log_probs

        assert self.objective is not None
        labels = batch.host_targets["labels"]
        found = token_log_probs(model, {**batch.inputs, "use_cache": False}, labels)
        within = None
        if (answers := batch.host_targets.get("answers")) is not None:
            within = copied_to((answers != IGNORED)[labels != IGNORED], found.values_T.device)
        sums_RK, counts_RK = self._by_row(found.summed(within)), self._by_row(found.counts(within))
        reference_RK = batch.targets["reference"].to(sums_RK) if self.needs_reference else torch.zeros_like(counts_RK)
        good_R = batch.targets["good"]
        good_RK = torch.stack([good_R, ~good_R], 1) if self.has_pairs else good_R[:, None]
        weights_R = torch.ones_like(counts_RK[:, 0]) if weights is None else weights.to(counts_RK)
        rows_R = self.objective.rows(sums_RK, counts_RK, reference_RK, good_RK, kl=self.kl)
        num_sides = counts_RK.shape[1] if self._loss == "kto" else 1
        terms: LossTerms = {self.loss_terms[-1]: ((rows_R * weights_R).sum(), num_sides * weights_R.sum())}
        if self._loss == "orpo":
            nats_R, tokens_R = -self._by_row(found.summed())[:, 0], self._by_row(found.counts())[:, 0]
            terms = {CROSS_ENTROPY: ((nats_R * weights_R).sum(), (tokens_R * weights_R).sum())} | terms
        return terms, torch.cat([sums_RK, counts_RK, reference_RK], 1).detach()

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        if self._loss == "orpo":
            return Weights(rows, {CROSS_ENTROPY: rows * (split.array("second") - 1), "odds_ratio": rows})
        return Weights(rows, {self._loss: rows * (2 if self._loss == "kto" and self.has_pairs else 1)})

    # Scores

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(outputs).astype(np.float64)

    def rewards(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        assert self.objective is not None
        sums, counts, reference = np.split(scores, 3, axis=1)
        ratios = sums - reference if self.needs_reference else None
        return self.objective.rewards(sums, counts, reference), ratios

    @property
    def length_hint(self) -> str:
        sums = self.objective is not None and not self.objective.compares_means
        return "; task.length_normalized: true compares log-probabilities per token" if sums else ""

    def metric_names(self) -> list[str]:
        return [*super().metric_names(), *(["kl"] if self.needs_reference else [])]

    # Writing

    generates_text = True
    chats = True

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:
        return self.chat.sampling_defaults

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[Any]) -> Any:
        raise NotImplementedError("a writer completes the text")

    def writer(self, model: Any, encoder: TextEncoder, sampling: Sampling) -> Answers:
        return self.chat.writer(model, encoder, sampling)


def _balance(num_good: int, num_bad: int, objective: Objective) -> list[str]:
    """What Ethayarajh et al. 2024 ask for in section 4.2: λ_D·good between 1 and 4/3 times λ_U·bad."""
    if not num_good or not num_bad:
        return []
    ratio = objective.desirable_weight * num_good / (objective.undesirable_weight * num_bad)
    if 3 / 4 <= ratio <= 4 / 3:
        return []
    advised = num_good / num_bad
    key, value = ("undesirable_weight", advised) if advised > 1 else ("desirable_weight", 1 / advised)
    return [f"{num_good:,} good and {num_bad:,} bad answers: task.{key}={value:.2f} would balance them."]
