"""The small frozen records that travel between the rooms of the house.

Row  --tasks/-->  Example  --tokenization/, encoding/-->  Encoded  --batching/-->  Batch  --models/, tasks/-->  Prediction
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from tunewright.errors import renamed

if TYPE_CHECKING:
    import numpy as np
    import torch

Fields = Mapping[str, Any]
IGNORED = -100
"""A label that no loss counts, as PyTorch has it."""


class HeldRows(str):
    """The name of rows that were handed over in memory: `train`, whose rows are called `train[17]`.

    described: `pandas DataFrame, 500 rows`. labels: what the object called each row (the index of a frame); None where it counts from 0.
    """

    described: str
    labels: Sequence[str] | Mapping[int, str] | None

    def __new__(
        cls, name: str, *, described: str = "", labels: Sequence[str] | Mapping[int, str] | None = None
    ) -> HeldRows:
        made = super().__new__(cls, name)
        made.described, made.labels = described, labels
        return made

    def address(self, line: int) -> str:
        """line: 1-based, as of every row."""
        return f"{self}[{line - 1 if self.labels is None else self.labels[line - 1]}]"


def address_of(source: str, line: int) -> str:
    """`train.csv:418`, or `train[417]` for rows in memory."""
    return source.address(line) if isinstance(source, HeldRows) else f"{source}:{line}"


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
        return address_of(self.source, self.line)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be used, and why. `raw` is what stands in the file (its beginning, when it is very long)."""

    source: str
    line: int
    reason: str
    raw: str

    @property
    def address(self) -> str:
        return address_of(self.source, self.line)


@dataclass(frozen=True, slots=True)
class Example:
    """A row as its task understands it: one text or a pair, and what is to be learned from it."""

    text: str
    pair: str | None = None
    target: Any = None
    """Classification: a label, or a tuple of labels (multi-label). None where there is nothing to learn (prediction)."""
    weight: float = 1.0
    """Of this row in the loss."""
    group: str | None = None
    """Rows of one group stay in one split, where the config names no column for that (pairs of one prompt)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids, special tokens in place, truncated."""

    input_ids: np.ndarray
    """int32 `(length,)`"""
    token_type_ids: np.ndarray | None = None
    """int8 `(length,)`, only for tokenizers that tell the two texts of a pair apart."""
    num_cut: int = 0
    """Tokens that truncation removed."""
    values: Mapping[str, Any] | None = None
    """The task's own columns of this row, for its `decode`."""


def copied_to(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on a device. From pinned memory to a CUDA device, so that the host does not wait; the allocator keeps it until it is read."""
    kind = str(device).partition(":")[0]
    if kind == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    if kind not in ("cpu", "cuda") and tensor.dtype.itemsize == 8 and tensor.is_floating_point():
        tensor = tensor.float()  # Apple's GPUs have no float64
    return tensor.to(device, non_blocking=True)


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
    segments: tuple[np.ndarray, ...] | None = None
    """Of packed rows: the lengths of the documents in each."""
    on_host: dict[str, torch.Tensor] | None = None
    """The targets before `to` copied them."""

    @property
    def host_targets(self) -> dict[str, torch.Tensor]:
        """The targets in the host's memory: what is read or counted there does not wait for the device."""
        return self.targets if self.on_host is None else self.on_host

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device; the host does not wait for the copies."""

        def move(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: copied_to(tensor, device) for name, tensor in tensors.items()}

        return replace(self, inputs=move(self.inputs), targets=move(self.targets), on_host=self.host_targets)

    @property
    def width(self) -> int:
        """How long its rows are, padding included."""
        return self.inputs["input_ids"].shape[1]

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int(self.lengths.sum())


class AnyPrediction(Protocol):
    """What every prediction can do: `Prediction`, `TaggedText`, `Numbers`, `FilledMask`, `Completion`, and those of tasks of your own.

    `isinstance(one, Prediction)` tells which it is.
    """

    @property
    def num_cut(self) -> int:
        """Tokens of the input that truncation removed."""

    def with_min_score(self, min_score: float) -> AnyPrediction:
        """The same without what is less probable than `min_score`."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""


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

    def with_min_score(self, min_score: float) -> Prediction:
        """This prediction, its label None where it is less probable than `min_score`."""
        if self.score >= min_score:
            return self
        return replace(self, label=None, labels=None if self.labels is None else ())

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        out: dict[str, Any] = {"label": self.label, "score": self.score}
        if self.labels is not None:
            out["labels"] = list(self.labels)
        out["scores"] = self.scores
        if self.num_cut:
            out["tokens_cut"] = self.num_cut
        return out


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """In the place of a prediction: an input that cannot be used, and why. empty: what the others have, without a value."""

    reason: str
    empty: Fields = field(default_factory=dict)

    def with_min_score(self, min_score: float) -> NoAnswer:
        """Itself."""
        return self

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        return {**self.empty, "reason": self.reason}

    def line(self) -> str:
        """For a terminal."""
        return f"(no answer: {self.reason})"


@dataclass(frozen=True, slots=True)
class Entity:
    """What was found at characters `[start, end)` of a text. score: mean probability of its tags."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text and the entities a model finds in it, in order."""

    text: str
    entities: tuple[Entity, ...]
    num_cut: int = 0
    """Tokens that truncation removed: nothing was looked for in them."""
    words: tuple[tuple[int, int], ...] | None = None
    """Where the words stand, `(start, end)` in characters, in a row of words."""

    @property
    def tags(self) -> list[str] | None:
        """A tag for each word (IOB2); None where the text did not come as words."""
        if self.words is None:
            return None
        tags, left = [], iter(self.entities)
        one = next(left, None)
        for start, end in self.words:
            while one is not None and one.end <= start < end:
                one = next(left, None)
            inside = one is not None and one.start < end and start < one.end
            tags.append("O" if one is None or not inside else f"{'B' if start <= one.start else 'I'}-{one.label}")
        return tags

    def with_min_score(self, min_score: float) -> TaggedText:
        """Without the entities that are less probable than `min_score`."""
        return replace(self, entities=tuple(one for one in self.entities if one.score >= min_score))

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        entities = [
            {"text": self.text[e.start : e.end], "start": e.start, "end": e.end, "label": e.label, "score": e.score}
            for e in self.entities
        ]
        tags = {} if self.words is None else {"tags": self.tags}
        cut = {"tokens_cut": self.num_cut} if self.num_cut else {}
        return {"text": self.text, "entities": entities} | tags | cut


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token for a gap. token_str: as text; score: its probability; token: its id."""

    token_str: str
    score: float
    token: int


@dataclass(frozen=True, slots=True)
class FilledMask:
    """A text with gaps, and for each gap the tokens that fit best, best first."""

    text: str
    masks: tuple[tuple[Candidate, ...], ...]
    num_cut: int = 0
    """Tokens that truncation removed: gaps in them are not filled."""

    def with_min_score(self, min_score: float) -> FilledMask:
        """Without the candidates that are less probable than `min_score`."""
        masks = tuple(tuple(one for one in candidates if one.score >= min_score) for candidates in self.masks)
        return replace(self, masks=masks)

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints: of one gap a list of candidates, of several a list of lists."""
        masks = [
            [{"token_str": one.token_str, "score": one.score, "token": one.token} for one in candidates]
            for candidates in self.masks
        ]
        found = {"text": self.text, "candidates": masks[0] if len(masks) == 1 else masks}
        return found | ({"tokens_cut": self.num_cut} if self.num_cut else {})

    def line(self) -> str:
        """The candidates of each gap, for a terminal."""
        gaps = ["  ".join(f"{one.token_str.strip()} {one.score:.3f}" for one in gap[:5]) for gap in self.masks]
        return " | ".join(gap or "(below --min-score)" for gap in gaps)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model writes after a prompt. ended: why it stopped: `end` (the end token), `stop` (a stop string) or `length`."""

    prompt: str
    text: str
    ended: str
    num_tokens: int
    num_cut: int = 0
    """Tokens of the prompt's beginning that did not fit."""

    def with_min_score(self, min_score: float) -> Completion:
        """Itself: a completion has no score."""
        return self

    above = renamed("above", "with_min_score")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        found = {"prompt": self.prompt, "text": self.text, "ended": self.ended, "tokens": self.num_tokens}
        return found | ({"tokens_cut": self.num_cut} if self.num_cut else {})

    def line(self) -> str:
        """Prompt and completion as one text, for a terminal."""
        return self.prompt + self.text


@dataclass(frozen=True, slots=True)
class Answer(Completion):
    """What a model answers in a conversation. prompt: what it was asked. reasoning: what it wrote before, in `<think>`."""

    reasoning: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that `predict --json` prints."""
        found: dict[str, Any] = {"text": self.text, "ended": self.ended, "tokens": self.num_tokens}
        found |= {"reasoning": self.reasoning} if self.reasoning else {}
        return found | ({"tokens_cut": self.num_cut} if self.num_cut else {})

    def line(self) -> str:
        """The answer alone, for a terminal."""
        return self.text


@dataclass(frozen=True)
class Typed:
    """What another program is given for an example, and the ids that it is to make of it.

    otherwise: why it may encode the text in another way (a control token that we keep as text); empty where it may not.
    """

    text: str
    ids: list[int]
    otherwise: str = ""


_ECHOES = {"TaggedText": "text", "FilledMask": "text", "Completion": "prompt"}
"""What a prediction says of its input, which the row holds already."""


def prediction_columns(predictions: Sequence[AnyPrediction], taken: Sequence[str]) -> dict[str, list[Any]]:
    """Predictions of rows as further columns, under names that are not taken: `predicted_label`, `score`, `scores`.

    A prediction without a value for one of them has None there.
    """
    values = [one.as_dict() for one in predictions]
    echoes = {_ECHOES.get(type(one).__name__) for one in predictions}
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for one in values for key in one):
        if key not in echoes:
            wanted = f"predicted_{key}" if key in taken or key.startswith(("label", "tags")) else key
            found[free_name(wanted, [*taken, *found])] = [one.get(key) for one in values]
    return found


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """`score`, or `score_2` where that is taken."""
    name, number, names = wanted, 1, set(taken)
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    return name
