"""The types of a config's sections as dicts: what a type checker knows of `tw.train(data, train={"epochs": 3})`.

    keys: TrainKeys = {"epochs": 3, "learning_rate": 2e-5}

Written by `python docs/generate.py` from the fields of the config; the values themselves are checked there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from tunewright.reading.tables import TableLike

Files = (
    str
    | Path
    | Sequence[str]
    | Sequence[Path]
    | TableLike
    | Sequence[Mapping[str, object]]
    | Mapping[str, Sequence[object]]
)
"""The files of a split, or its rows in memory."""


class TaskKeys(TypedDict, total=False):
    """Keys of `task`: its name, and those that this task has."""

    name: str
    eval_stride: int | None
    strip_end_tokens: bool
    mask_probability: float
    whole_word: bool
    next_sentence: bool
    overlaps: Literal["refuse", "longest"]
    align: Literal["expand", "strict"]
    annotator: str | None
    long_texts: Literal["windows", "truncate"]
    window: int | Literal["auto"]
    window_overlap: int | Literal["auto"]
    label_pieces: Literal["first", "all"]
    constrained_decoding: bool
    transitions: float
    template_kwargs: dict[str, object]
    too_long: Literal["truncate_prompt", "reject"]
    reasoning: Literal["keep", "drop", "refuse"]
    template: str
    loss: Literal["auto", "dpo", "ipo", "kto", "orpo", "simpo"] | Literal["squared", "huber"]
    beta: float | None
    length_normalized: bool
    label_smoothing: float
    margin: float
    desirable_weight: float
    undesirable_weight: float
    huber_delta: float
    rendered: bool | None
    supervise: Literal["answers", "last_answer", "everything"]
    answers_after: str | None
    answers_until: str | None


class ModelKeys(TypedDict, total=False):
    """Keys of `model`."""

    name: str
    revision: str | None
    tokenizer: str | None
    special_tokens: dict[Literal["pad", "unk", "cls", "sep", "mask", "bos", "eos"], str]
    add_tokens: list[str]
    quantize: Literal["none", "8bit", "4bit"]


class DataKeys(TypedDict, total=False):
    """Keys of `data`. train, validation and test are paths, or rows in memory."""

    max_length: int | Literal["auto"]
    padding: Literal["longest", "max_length"]
    padding_side: Literal["auto", "right", "left"]
    truncation_side: Literal["right", "left"]
    train: Files
    validation: Files | None
    test: Files | None
    format: str | None
    encoding: str
    delimiter: str | None
    label_file: str | dict[Literal["train", "validation", "test"], str] | None
    documents: Literal["auto", "line", "paragraph", "file"]
    header: bool | None
    quoting: bool | None
    config: str | None
    revision: str | None
    train_split: str | None
    validation_split: str | None
    test_split: str | None
    split_column: str | None
    text: str | list[str] | None
    pair: str | None
    label: str | list[str] | None
    label_names: list[str] | None
    multi_label: bool | None
    label_delimiter: str | None
    weight: str | None
    validation_ratio: float
    test_ratio: float | None
    group_by: str | None
    stratify: bool
    limit: int | dict[Literal["train", "validation", "test"], int] | None
    seed: int
    on_bad_rows: Literal["stop", "skip"]
    deduplicate: bool
    max_row_bytes: int


class AdapterKeys(TypedDict, total=False):
    """Keys of `adapter`: its name, and those that this adapter has."""

    name: str
    continue_training: bool
    train_added_tokens: bool
    targets: list[str] | str | None
    feed_forward: list[str] | None
    rank: int
    alpha: float | None
    dropout: float
    rslora: bool
    dora: bool
    num_tokens: int
    projection: int | None


class TrainKeys(TypedDict, total=False):
    """Keys of `train`."""

    seed: int
    epochs: float
    max_steps: int | None
    batch_size: int
    micro_batch_tokens: int | Literal["auto"]
    learning_rate: float | Literal["auto"]
    head_learning_rate: float | Literal["auto"]
    schedule: str
    warmup: float
    optimizer: str
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    class_weights: Literal["none", "balanced"] | dict[str, float]
    freeze: Literal["none", "body"] | int
    dropout: Literal["auto", "row_keyed", "pytorch", "off"]
    execution: Literal["auto", "plain"]
    precision: Literal["auto", "bf16", "fp32", "fp64"]
    gradient_checkpointing: bool
    device: str
    save_every: str | int
    keep_checkpoints: int
    early_stopping: int | None
    log_every: int
    log_to: list[Literal["tensorboard"]]


class EvaluateKeys(TypedDict, total=False):
    """Keys of `evaluate`."""

    every: str | int
    metric: str
    metrics: list[str]
    baselines: bool
    threshold: float
    num_generated: int
    worst_rows: int
