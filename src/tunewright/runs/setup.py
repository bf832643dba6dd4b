"""Config -> everything a training loop needs, put together: store, task, encoder, model, plan, optimizer, settings.

parts = build_components(config)
for step in training_steps(parts.model, parts.task, parts.rows, parts.encoder, parts.plan, parts.optimizer, settings=parts.settings):
    ...
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
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
from tunewright.execution.cpu.cls_only_last_layer import compute_first_position_only
from tunewright.execution.cpu.embedding import add_table_gradients_in_place
from tunewright.execution.cpu.memory import keep_freed_memory
from tunewright.execution.cpu.norms import emit_bf16_from_norms, install_fused_rms_norm
from tunewright.execution.cpu.unpadding import lay_rows_flat
from tunewright.execution.row_dropout import switch_off_dropout
from tunewright.models.heads import head_parameters
from tunewright.models.loading import (
    choose_device,
    draws_randomly,
    install_row_keyed_dropout_and_attention,
    resolve_precision,
)
from tunewright.preparation import TRAIN, Inputs, Prepared, prepare
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder, for_computing, load_encoder
from tunewright.training.engine import Settings
from tunewright.training.optimizer import Schedule, build_optimizer, freeze, learning_rates, parameter_groups
from tunewright.training.reference import with_reference

_CPU_TOKENS, _FLAT_CPU_TOKENS, _GPU_TOKENS = 1_024, 1_536, 16_384
_LARGEST_SECOND_GRADIENT = 2**30  # bytes: what two halves of a step may take beside the gradient
_LONGEST_WAIT = timedelta(days=2)
"""For a rank that prepares a large data set alone; one that dies is noticed by the launcher."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class Processes:
    """This process among the ranks of `accelerate launch` or `torchrun`; one alone otherwise."""

    device: torch.device
    rank: int = 0
    num_ranks: int = 1
    accelerator: Any = None

    @classmethod
    def start(cls, device_name: str) -> Processes:
        os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)  # would scale our gradients
        device = choose_device(device_name)
        num_ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        if num_ranks == 1:
            return cls(device)
        from accelerate import Accelerator, InitProcessGroupKwargs

        patience = InitProcessGroupKwargs(timeout=_LONGEST_WAIT)
        accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu", kwargs_handlers=[patience])
        atexit.register(accelerator.end_training)  # a group left to the interpreter's teardown can abort it
        return cls(accelerator.device, rank, num_ranks, accelerator)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block, then the others do."""
        if not self.is_main:
            torch.distributed.barrier()
        yield
        if self.num_ranks > 1 and self.is_main:
            torch.distributed.barrier()

    def agreed(self, number: int) -> int:
        """The largest `number` of all ranks: a signal or a clock must not divide them."""
        if self.num_ranks == 1:
            return number
        shared = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return int(shared)


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
    settings: Settings

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
    """Put a run together. UserError for everything the user can mend. opened: is shown the files' decisions first.

    processes: where they have been started.
    """
    train = config.train
    processes = processes or Processes.start(train.device)
    keep_freed_memory()
    with processes.main_first():
        prepared = prepare(config, say=say, opened=opened)
    rows, encoder = prepared.store[TRAIN], for_computing(encoder_of(config, prepared), prepared.model)
    task = prepared.task()
    if train.class_weights != "none" and not task.has_classes:
        raise UserError("only classification weighs labels", where="train.class_weights", hint="Leave it at none.")
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
    model, fresh = task.build_model(source, seed=train.seed, dtype=dtype)
    model.config.pad_token_id = encoder.pad_token_id
    dropout = train.dropout if train.dropout != "auto" else "fast" if task.uses_dropout else "off"
    if dropout == "off":
        switch_off_dropout(model)
        if processes.device.type == "cpu" and draws_randomly(model):
            say("The model may still drop out: it draws by itself, and not in modules.")
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
            say(f"Added tokens stay at the mean of their pieces: an adapter leaves the embeddings as they are.{able}")
    if train.gradient_checkpointing:
        _recompute_activations(model)
    alone = processes.num_ranks == 1
    exact = flat = False
    if processes.device.type == "cpu":
        install_fused_rms_norm(model)
        exact = _make_cpu_model_exact(model, stock_dropout=dropout == "stock", alone=alone, say=say)
        padded = train.gradient_checkpointing or task.is_packed or config.data.padding == "max_length"
        flat = exact and not padded and lay_rows_flat(model)
        if precision == "bf16" and adapter is None:  # an adapter may drop what it takes before it rounds
            emit_bf16_from_norms(model)
    model.to(processes.device)
    for line in task.model_warnings(model):
        say(line)
    plan = BatchSchedule(len(rows), train.batch_size, train.seed, train.epochs, train.max_steps)
    factor = task.rate_factor * (adapter.rate_factor if adapter else 1.0)
    rates = learning_rates(train, model.config.get_text_config().hidden_size, factor=factor)
    on_cpu = _FLAT_CPU_TOKENS if flat else _CPU_TOKENS
    usual_tokens = _GPU_TOKENS if processes.device.type == "cuda" else on_cpu
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
        settings=Settings(
            seed=train.seed,
            token_budget=usual_tokens if train.micro_batch_tokens == "auto" else train.micro_batch_tokens,
            precision=precision,
            device=processes.device,
            max_grad_norm=train.max_grad_norm,
            padding=config.data.padding,
            rank=processes.rank,
            num_ranks=processes.num_ranks,
            in_halves=exact
            and alone
            and not train.gradient_checkpointing
            and torch.get_num_threads() > 1
            and _gradient_bytes(model) <= _LARGEST_SECOND_GRADIENT,
            flat=flat,
        ),
    )
    if not task.needs_reference:
        return parts
    return replace(parts, task=with_reference(task, model, prepared.store, encoder, parts.settings, say=say))


def _gradient_bytes(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def _recompute_activations(model: Any) -> None:
    """UserError for a model that cannot."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except (ValueError, NotImplementedError):
        raise UserError(
            "this model cannot compute activations again",
            where="train.gradient_checkpointing",
            found=str(model.config.model_type),
            hint="Leave it at false; train.micro_batch_tokens lowers memory too.",
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


def _make_cpu_model_exact(model: Any, *, stock_dropout: bool, alone: bool, say: Log) -> bool:
    """Whether all that is random in the model belongs to rows."""
    if alone:
        add_table_gradients_in_place(model)
    if stock_dropout:
        return False
    reason = install_row_keyed_dropout_and_attention(model)
    if reason and draws_randomly(model):
        say(
            f"Stock dropout is used ({reason}): masks then depend on how a step is cut into micro-batches, "
            "and training is slower."
        )
        return False
    if reason is None:
        compute_first_position_only(getattr(model, "get_base_model", lambda: model)())
    return True
