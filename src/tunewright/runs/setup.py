"""Config -> everything a training loop needs, put together: store, task, encoder, model, plan, optimizer, execution.

parts = build_components(config)
for step in training_steps(parts.model, parts.task, parts.rows, parts.encoder, parts.plan, parts.optimizer, execution=parts.execution):
    ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tunewright.adapters import base as adapters
from tunewright.adapters.config import adapter_of
from tunewright.artifacts.adapter_folder import load_adapter_weights, resolve_base
from tunewright.batching.schedule import BatchSchedule
from tunewright.batching.store import SplitStore
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.execution import before_models, prepare_model
from tunewright.execution.base import OFF, ROW_KEYED, Execution, Wanted
from tunewright.execution.row_dropout import switch_off_dropout
from tunewright.execution.row_keyed import draws_randomly
from tunewright.models.device import resolve_precision
from tunewright.models.heads import head_parameters
from tunewright.preparation import TRAIN, Inputs, Log, Prepared, prepare
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder, for_computing, load_encoder
from tunewright.training.optimizer import Schedule, build_optimizer, freeze, learning_rates, parameter_groups
from tunewright.training.processes import Processes
from tunewright.training.reference import with_reference


@dataclass(frozen=True)
class TrainingComponents:
    """What a loop needs. fresh: names of parameters that start untrained. rates: peak learning rates of body and fresh head."""

    config: RunConfig
    processes: Processes
    prepared: Prepared
    task: Task
    encoder: TextEncoder
    model: Any
    fresh: list[str]
    plan: BatchSchedule
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    rates: tuple[float, float]
    execution: Execution

    @property
    def rows(self) -> SplitStore:
        """The training split."""
        return self.prepared.store[TRAIN]


def build_components(
    config: RunConfig,
    *,
    say: Log = lambda _: None,
    opened: Callable[[Inputs], None] = lambda _: None,
    processes: Processes | None = None,
) -> TrainingComponents:
    """Put a run together. UserError for everything the user can correct. opened: is shown the files' decisions first.

    processes: where they have been started.
    """
    train = config.train
    processes = processes or Processes.start(train.device)
    before_models(train.execution)
    with processes.main_first():
        prepared = prepare(config, say=say, opened=opened)
    rows, encoder = prepared.store[TRAIN], for_computing(encoder_of(config, prepared), prepared.model)
    task = prepared.task()
    if train.class_weights != "none" and not task.has_classes:
        raise UserError(
            "only classification supports class weights", where="train.class_weights", hint="Set it to none."
        )
    task = task.fit_training_statistics(rows, config)
    precision = resolve_precision(train.precision, processes.device)
    adapter = adapter_of(config.adapter)
    whole = torch.float64 if precision == "fp64" else torch.float32
    source, kept = resolve_base(config, prepared.model)
    adapters.refuse_quantized(config)
    adapters.refuse_added_tokens(config)
    if adapter is not None:
        adapters.refuse(adapter, adapters.situation_of(config, source, task=prepared.manifest["task"]))
    stays = adapter is not None or (train.freeze == "body" and source.preset is None)
    dtype = adapters.base_dtype(precision) if stays else whole  # weights that do not learn keep their checkpoint's
    with phase("loading the model"):
        model, fresh = task.build_model(source, seed=train.seed, dtype=dtype)
    model.config.pad_token_id = encoder.pad_token_id
    dropout = train.dropout if train.dropout != "auto" else ROW_KEYED if task.uses_dropout else OFF
    if dropout == OFF:
        switch_off_dropout(model)
        if processes.device.type == "cpu" and draws_randomly(model):
            say("Dropout may stay on: this model applies it outside of dropout modules.")
    heads = head_parameters(model, fresh)
    if adapter is None:
        freeze(model, train.freeze, heads)
        if stays:
            adapters.cast_trainable_to_fp32(model)
    else:
        adapters.round_base(model, fresh, config.model.bits, processes.device, whole=False)
        trained_rows = adapters.added_rows(config, encoder.tokenizer)
        model, heads = _adapted(adapter, model, fresh, train.seed, kept, say, rows=trained_rows)
        if config.model.add_tokens and not trained_rows:
            able = " adapter.train_added_tokens=true trains them." if adapter.trains_added_tokens else ""
            say(f"Added tokens keep the mean embedding of their pieces: the adapter does not train embeddings.{able}")
    if train.gradient_checkpointing:
        _recompute_activations(model)
    wanted = Wanted(
        train.execution, processes.device, precision, rank=processes.rank, num_ranks=processes.num_ranks,
        dropout=dropout,
        token_budget=None if train.micro_batch_tokens == "auto" else train.micro_batch_tokens,
        to_max_length=config.data.padding == "max_length",
        recomputes_activations=train.gradient_checkpointing,
        is_packed=task.is_packed,
        has_adapter=adapter is not None,
    )  # fmt: skip
    with phase("preparing the model"):
        execution = prepare_model(model, wanted, say=say)
        model.to(processes.device)
    for line in task.model_warnings(model):
        say(line)
    plan = BatchSchedule(len(rows), train.batch_size, train.seed, train.epochs, train.max_steps)
    factor = task.rate_factor * (adapter.rate_factor if adapter else 1.0)
    rates = learning_rates(train, model.config.get_text_config().hidden_size, factor=factor)
    parts = TrainingComponents(
        config=config,
        processes=processes,
        prepared=prepared,
        task=task,
        encoder=encoder,
        model=model,
        fresh=fresh,
        plan=plan,
        optimizer=build_optimizer(parameter_groups(model, heads, train, rates), train),
        schedule=Schedule.of(train, plan.num_steps),
        rates=rates,
        execution=execution,
    )
    if not task.needs_reference:
        return parts
    return replace(parts, task=with_reference(task, model, prepared.store, encoder, execution, say=say))


def _recompute_activations(model: Any) -> None:
    """UserError for a model that cannot."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except (ValueError, NotImplementedError):
        raise UserError(
            "this model does not support gradient checkpointing",
            where="train.gradient_checkpointing",
            found=str(model.config.model_type),
            hint="Set it to false; a smaller train.micro_batch_tokens saves memory too.",
        ) from None


def encoder_of(config: RunConfig, prepared: Prepared) -> TextEncoder:
    """The encoder that the store was made with, padding as the config says."""
    return load_encoder(
        prepared.model,
        max_length=prepared.manifest["max_length"],
        truncation_side=config.data.truncation_side,
        padding_side=config.data.padding_side,
    )


def _adapted(
    adapter: Any, model: Any, fresh: list[str], seed: int, kept: Path | None, say: Log, *, rows: list[int]
) -> tuple[Any, list[str]]:
    """(the model with its adapter, names of the head's parameters); says what learns. kept: a run whose adapter goes on."""
    model, heads = adapters.attach(adapter, model, fresh, seed=seed, rows=rows)
    if kept is not None:
        load_adapter_weights(kept, model, heads)
    for line in (adapters.summary(adapter, model, heads), *adapter.remarks(heads)):
        say(line)
    return model, heads
