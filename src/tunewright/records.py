"""The small frozen records that travel between the rooms of the house.

Row  --text/, tasks/-->  Example  --tokens/-->  Encoded  --store, plan, batch-->  Batch  -->  Prediction
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as a reader found it: column name -> value, every text exactly as it stands in the file."""

    source: str
    """The path (or `hub:owner/name[split]`) as the user wrote it."""
    line: int
    """1-based line where the row begins; for columnar files the 1-based row number."""
    fields: Fields

    @property
    def address(self) -> str:
        """`train.csv:418`, the form that errors print and `explain` takes."""
        return f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be used, and why. `raw` is what stands in the file (its beginning, when it is very long)."""

    source: str
    line: int
    reason: str
    raw: str

    @property
    def address(self) -> str:
        return f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """A row as its task understands it: one text or a pair, and what is to be learned from it."""

    text: str
    pair: str | None = None
    target: Any = None
    """Classification: a label, or a tuple of labels (multi-label). None where there is nothing to learn (prediction)."""
    weight: float = 1.0
    """Of this row in the loss."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids, special tokens in place, truncated."""

    input_ids: np.ndarray
    """int32 `(length,)`"""
    token_type_ids: np.ndarray | None = None
    """int8 `(length,)`, only for tokenizers that tell the two texts of a pair apart."""
    num_cut: int = 0
    """Tokens that truncation removed."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch, padded.

    inputs: Hugging Face names -> tensors `(rows, length)`, what the model is called with.
    targets: name -> tensor, what the loss needs.
    row_ids / lengths: int64 NumPy `(rows,)`: identity of each row (keys its randomness) and its real token count.
    """

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    row_ids: np.ndarray
    lengths: np.ndarray

    def to(self, device: torch.device | str) -> Batch:
        def move(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return Batch(move(self.inputs), move(self.targets), self.row_ids, self.lengths)

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about one input.

    label / score: the best label and its probability (multi-label: the labels over the threshold, joined in `labels`).
    scores: label -> probability, best first.
    """

    label: str | None
    score: float
    scores: dict[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    num_cut: int = 0
    """Tokens of this input that truncation removed."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        out: dict[str, Any] = {"label": self.label, "score": self.score}
        if self.labels is not None:
            out["labels"] = list(self.labels)
        out["scores"] = self.scores
        if self.num_cut:
            out["tokens_cut"] = self.num_cut
        return out
