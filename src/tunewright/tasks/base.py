"""Task: the one protocol that the engine, evaluation and prediction know.

A task is one file here: a module with a class `Task`. It says how a row is understood, encoded, batched, scored and decoded,
and which model it trains. Everything else (reading, splitting, storing, planning, the loop, checkpoints) is shared.

    row {"text": "Where is my parcel?", "label": "order_status"}
      -> to_example  Example(text, target="order_status")
      -> encode      Encoded([101, 2073, …, 102])           -> stored with labels=5
      -> collate     Batch(input_ids, attention_mask, labels)
      -> loss        {"cross_entropy": (sum over rows, weight of the rows)}
      -> decode      Prediction("order_status", 0.97, …)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from tunewright.models.source import ModelFolder
from tunewright.records import Batch, Encoded, Example, Prediction, Row
from tunewright.tokens.store import SplitStore
from tunewright.tokens.tokenizer import TextEncoder

LossTerms = dict[str, tuple[torch.Tensor, torch.Tensor | float]]
"""term -> (sum over supervised positions, its weight in this micro-batch). The engine divides by the step's weight."""


@dataclass(frozen=True)
class Weights:
    """What rows weigh, known from the store before any forward pass. float64 arrays `(rows of the split,)`.

    rows: multiplies everything a row contributes. terms: a row's weight in each loss term, `rows` included.
    """

    rows: np.ndarray
    terms: dict[str, np.ndarray]


class Task(Protocol):
    """What a task must offer. `state` is everything needed to use the trained model later; `from_state` reads it back."""

    name: str
    loss_terms: tuple[str, ...]
    """Names of the terms that `loss` returns and `weights` knows, in order."""

    def state(self) -> dict[str, Any]:
        """JSON-ready: labels, roles of columns, thresholds. Saved with the model."""
        ...

    def to_example(self, row: Row) -> Example:
        """Understand a row. RowError when it cannot be used."""
        ...

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> list[Encoded]: ...

    def store_fields(self) -> dict[str, Any]:
        """Arrow types of the columns that `store_values` fills."""
        ...

    def store_values(self, example: Example) -> dict[str, Any]: ...

    def collate(self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, *, width: int) -> Batch: ...

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype) -> tuple[Any, list[str]]:
        """(model with this task's head, names of the parameters that start fresh)."""
        ...

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Forward pass -> loss terms and the outputs that `decode` and `metrics` take. weights: `(rows,)`, 1 when None."""
        ...

    def weights(self, split: SplitStore) -> Weights: ...

    def outputs_to_scores(self, outputs: np.ndarray) -> np.ndarray: ...

    def decode(self, scores: np.ndarray, num_cut: int = 0) -> Prediction: ...

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool) -> dict[str, Any]: ...

    def metric_names(self) -> list[str]: ...

    def best_metric(self) -> str: ...


def larger_is_better(metric: str) -> bool:
    """Losses, errors and perplexities fall; every other score rises."""
    return not any(word in metric for word in ("loss", "error", "perplexity", "bits_per_byte"))
