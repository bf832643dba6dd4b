"""The `train` and `evaluate` sections."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, Strict

from tunewright.settings import Every, Section, named_plugin

Auto = Literal["auto"]


_NOT_READ_BY = {"sgd": ("beta2", "epsilon"), "rmsprop": ("beta1",), "adafactor": ("beta1", "beta2", "epsilon")}


class TrainConfig(Section):
    seed: int = Field(
        0, ge=0, lt=2**32, description="Seed of everything random in training: new heads, order of rows, dropout."
    )
    epochs: PositiveFloat = Field(3, le=1_000_000, description="Passes over the training rows.")
    max_steps: PositiveInt | None = Field(None, description="Stop after this many optimizer steps, if that is earlier.")
    batch_size: PositiveInt = Field(
        16,
        description="Rows in one optimizer step, over all devices. Memory does not depend on it: see micro_batch_tokens.",
    )
    micro_batch_tokens: PositiveInt | Auto = Field(
        "auto",
        description="Padded tokens computed at a time; changes time and memory, not the update. auto: 1,024 on a CPU (1,536 without padding), 16,384 on a GPU.",
    )
    learning_rate: PositiveFloat | Auto = Field(
        "auto",
        description="Peak learning rate. auto: 5e-5 for a hidden size of 768, larger for narrower models, smaller for wider ones.",
    )
    head_learning_rate: PositiveFloat | Auto = Field(
        "auto",
        description="Peak learning rate of a new head and its pooler. auto: 10 times learning_rate, at most 1e-3.",
    )
    schedule: Annotated[str, named_plugin("schedules")] = Field(
        "linear", description="How the learning rate decreases after the warmup."
    )
    warmup: float = Field(0.1, ge=0, description="Below 1: share of all steps; 1 or more: number of steps.")
    optimizer: Annotated[str, named_plugin("optimizers")] = Field("adamw", description="Optimizer.")
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="Weight decay (decoupled for adamw and adafactor, L2 for the others); not for norms and biases.",
    )
    beta1: float = Field(
        0.9, ge=0, lt=1, description="First decay rate of Adam; momentum of sgd. Not read by rmsprop and adafactor."
    )
    beta2: float = Field(
        0.999, ge=0, lt=1, description="Second decay rate of Adam; alpha of rmsprop. Not read by sgd and adafactor."
    )
    epsilon: PositiveFloat = Field(1e-8, description="Epsilon of Adam and rmsprop. Not read by sgd and adafactor.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are scaled down to this norm; 0: no clipping.")
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = Field(
        "none", description="balanced: rare labels get larger weights (n / (labels · count)); or label: weight."
    )
    freeze: Literal["none", "body"] | Annotated[int, Strict(), Ge(0)] = Field(
        "none", description="body: only the head is trained; N: the embeddings and the first N layers are frozen."
    )
    dropout: Literal["auto", "row_keyed", "pytorch", "off"] = Field(
        "auto",
        description="row_keyed: masks are a function of seed, epoch and row; pytorch: the model's own; off: none. auto: off in preference tuning, "
        "where dropout would make the model differ from its reference, else row_keyed.",
    )
    execution: Literal["auto", "plain"] = Field(
        "auto",
        description="auto: the fast path, if this machine has one; plain: without it. The update is the same within rounding.",
    )
    precision: Literal["auto", "bf16", "fp32", "fp64"] = Field(
        "auto", description="auto: bf16 autocast with fp32 weights if the machine is fast at it, else fp32."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    save_every: Every = Field("epoch", description="epoch, a number of steps, a time (10m), or never.")
    keep_checkpoints: PositiveInt = Field(
        2, description="Number of newest checkpoints to keep; the best one is kept too."
    )
    early_stopping: PositiveInt | None = Field(
        None,
        description="Stop after this many evaluations without a better score. An equal score with a lower loss becomes the best checkpoint, "
        "but does not count as a better score here.",
    )
    log_every: PositiveInt = Field(10, description="Steps between two records in metrics.jsonl.")
    log_to: list[Literal["tensorboard"]] = Field(
        default_factory=list, description="Trackers in addition to metrics.jsonl."
    )

    def unread(self) -> list[str]:
        """A line for every setting that was changed and that the chosen optimizer does not read."""
        changed = [
            name
            for name in _NOT_READ_BY.get(self.optimizer, ())
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        return [f"train.{name} has no effect: {self.optimizer} does not read it; leave it out" for name in changed]


class EvaluateConfig(Section):
    every: Every = Field("epoch", description="epoch, a number of steps, a time (10m), or never.")
    metric: str = Field(
        "auto",
        description="Metric on the validation split that chooses the best checkpoint. auto: f1_macro; f1_micro for multi-label.",
    )
    metrics: list[Annotated[str, named_plugin("metrics")]] = Field(
        default_factory=list,
        description="Names of plug-in metrics, in addition to the task's. Each of them may be evaluate.metric too.",
    )
    baselines: bool = Field(
        True, description="Score a majority and a TF-IDF + logistic-regression baseline on the same rows."
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Multi-label: probability from which on a label is predicted."
    )
    num_generated: NonNegativeInt = Field(
        32,
        description="Final scores: the model answers this many prompts, and its answers are compared with the expected ones.",
    )
    worst_rows: int = Field(
        20, ge=0, description="Number of wrong predictions with the highest scores that `evaluate` keeps."
    )
