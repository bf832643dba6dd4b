"""The training loop: a generator that makes one optimizer step after the other and yields what happened.

    for step in training_steps(model, task, store["train"], encoder, plan, optimizer, execution=execution):
        print(step.number, step.loss)

Saving, logging, evaluation and progress are left to the caller. An update is defined by its rows: the loss is a sum over
the step's rows divided by the step's weight, and dropout masks belong to rows. How a step is computed is up to the execution
(`execution/base.py`), and changes time and memory only. The learning rate is a function of the step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright import hints
from tunewright.batching.micro_batches import rows_of
from tunewright.batching.row_context import row_context
from tunewright.batching.schedule import BatchSchedule
from tunewright.batching.store import SplitStore
from tunewright.errors import UserError
from tunewright.execution.base import Backward, Execution
from tunewright.records import Batch
from tunewright.tasks.base import Task, Weights
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.out_of_memory import within_memory
from tunewright.training.signals import interrupt_long_step

_CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. loss: per unit of weight, summed over terms. number counts from 1."""

    number: int
    epoch: float
    samples: int
    loss: float
    terms: dict[str, float]
    grad_norm: float
    learning_rate: float
    num_tokens: int
    num_padded_tokens: int
    seconds: float


Loss = Callable[[Any, Batch, torch.Tensor], tuple[dict[str, tuple[torch.Tensor, Any]], Any]]


def training_steps(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    plan: BatchSchedule,
    optimizer: torch.optim.Optimizer,
    *,
    execution: Execution,
    max_grad_norm: float = 1.0,
    start_samples: int = 0,
    learning_rate: Callable[[int], float] | None = None,
    loss: Loss | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Step]:
    """Train from `start_samples` to the plan's end, one `Step` at a time.

    execution: the one that prepared the model. max_grad_norm: gradients are scaled down to it; 0: no clipping.
    learning_rate: step (from 0) -> the rate, after setting it on the optimizer; None leaves the optimizer alone.
    loss: `(model, batch, weights) -> ({term: (sum, weight)}, outputs)` instead of the task's own.
    say: called with a line if the device's memory was full and a step is repeated in smaller micro-batches.
    The optimizer's step is complete when its `Step` is yielded. Raises UserError when the loss is no longer a finite number;
    that step is not applied.
    """
    weights, weighed = Weights(np.zeros(0), {}), -1
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    num_learning = sum(parameter.requires_grad for parameter in model.parameters())
    for step in range(plan.step_at(start_samples), plan.num_steps):
        began = time.perf_counter()
        epoch, positions = plan.rows_of_step(step)
        model.train()
        if epoch != weighed:
            weights, weighed = task.for_epoch(seed=plan.seed, epoch=epoch).weights(split), epoch
        gradient = partial(
            accumulate_gradient, model, task, split, encoder, positions, weights,
            seed=plan.seed, epoch=epoch, step=step, execution=execution, loss=loss,
        )  # fmt: skip
        longest = int(split.lengths[positions].max())
        done = within_memory(gradient, execution, longest=longest, clear=optimizer.zero_grad, say=say)
        if not math.isfinite(done.loss):
            raise _not_finite("the loss", done.loss, step, split, positions)
        known = done.grad_norm if len(trained) == num_learning else None
        norm = _clip(optimizer, trained, known, max_grad_norm)
        if not math.isfinite(norm):
            raise _not_finite("the gradient", norm, step, split, positions)
        rate = learning_rate(step) if learning_rate else optimizer.param_groups[0]["lr"]
        execution.step(optimizer)
        execution.after_step()
        yield Step(
            number=step + 1,
            epoch=plan.samples_before(step + 1) / plan.num_rows,
            samples=plan.samples_before(step + 1),
            loss=done.loss,
            terms=done.terms,
            grad_norm=norm,
            learning_rate=rate,
            num_tokens=done.num_tokens,
            num_padded_tokens=done.num_padded_tokens,
            seconds=time.perf_counter() - began,
        )


@dataclass(frozen=True)
class Accumulated:
    """Losses and token counts of a step whose gradient is in the parameters. grad_norm: if it is known already."""

    loss: float
    terms: dict[str, float]
    num_tokens: int
    num_padded_tokens: int
    grad_norm: torch.Tensor | None = None


def accumulate_gradient(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    positions: np.ndarray,
    weights: Weights,
    *,
    seed: int,
    epoch: int,
    step: int,
    execution: Execution,
    loss: Loss | None = None,
) -> Accumulated:
    """Forward and backward over the rows at `positions`, in micro-batches; gradients are added to those that are there.

    weights: from `task.for_epoch(seed, epoch).weights(split)`. With several ranks every rank computes its own share of the same
    micro-batches, and DistributedDataParallel averages; the losses returned are those of the whole step.
    """
    task = task.for_epoch(seed=seed, epoch=epoch)
    lengths = split.lengths[positions]
    totals = {term: float(of_rows[positions].sum()) or 1.0 for term, of_rows in weights.terms.items()}
    compute_loss = loss or (lambda model, batch, weights: task.loss(model, batch, weights=weights))

    def compute(pieces: Sequence[np.ndarray], backward: Backward) -> torch.Tensor:
        """The sum of every term, and padded tokens, float64 on the host."""
        num_padded, of_pieces = 0, []
        with execution.autocast():
            for number, piece in enumerate(pieces):
                if execution.num_ranks == 1:
                    interrupt_long_step()
                present = (
                    piece if len(piece) else np.argmin(lengths, keepdims=True)
                )  # a rank without rows runs one at weight zero
                rows = positions[present]
                batch = task.collate(split, rows, encoder, execution.padding).to(execution.device)
                own_seed = _micro_batch_seed(seed, step, number * execution.num_ranks + execution.rank)
                _seed_generator(execution.device, own_seed)
                context = rows_of(batch, encoder, seed=seed, epoch=epoch)
                last = number == len(pieces) - 1
                with row_context(context), _sync_gradients(model, last):
                    terms, _ = compute_loss(model, batch, torch.from_numpy(weights.rows[rows] * bool(len(piece))))
                    part = torch.stack([total / totals[term] for term, (total, _) in terms.items()]).sum()
                    with torch.autocast(execution.device.type, enabled=False):
                        backward(part * execution.num_ranks)
                of_pieces.append(torch.stack([terms[term][0].detach() for term in totals]))
                num_padded += execution.num_computed(batch.lengths, batch.width) * bool(len(piece))
        return torch.cat([torch.stack(of_pieces).cpu().double().sum(0), torch.tensor([num_padded])])

    with execution.autocast():
        task = task.for_step(model, split, positions, encoder, execution)
        sums, grad_norm = execution.run(compute, execution.split(lengths), model.parameters())
    *of_terms, num_padded = execution.summed(sums).tolist()
    means = {term: value / totals[term] for term, value in zip(totals, of_terms, strict=True)}
    return Accumulated(sum(means.values()), means, int(lengths.sum()), int(num_padded), grad_norm)


def _sync_gradients(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """DistributedDataParallel adds gradients over ranks in the last micro-batch only."""
    return contextlib.nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()  # type: ignore[operator]


def _clip(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], total: torch.Tensor | None, max_norm: float
) -> float:
    """The norm of the gradient, which is scaled to `max_norm` if it is larger. total: the norm, if it is known.

    A fused optimizer scales while it steps, which saves one pass over memory on a CPU.
    """
    if total is None:
        total = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = float(total)
    too_large = bool(max_norm) and max_norm < norm < math.inf
    if getattr(optimizer, "_step_supports_amp_scaling", False) and _scales_on_cpu(total):
        optimizer.grad_scale = (total + _CLIP_EPS) / max_norm if too_large else None  # type: ignore[attr-defined]
    elif too_large:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
    return norm


def _scales_on_cpu(total: torch.Tensor) -> bool:
    return total.device.type == "cpu" and total.dtype == torch.float32  # in which the scale is taken


def _seed_generator(device: torch.device, seed: int) -> None:
    """`torch.manual_seed` seeds every backend, which takes a millisecond; on a CPU its own generator is enough."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _micro_batch_seed(seed: int, step: int, number: int) -> int:
    """A seed for torch's generator, for what a model itself draws from it: a resumed run repeats it, another division into micro-batches does not."""
    words = np.random.SeedSequence([seed, step, number]).generate_state(2, dtype=np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def _not_finite(what: str, value: float, step: int, split: SplitStore, positions: np.ndarray) -> UserError:
    rows = ", ".join(split.address(int(position)) for position in positions[:16])
    return UserError(
        f"{what} is {value} at step {step + 1}; the step was not applied", where="training", found=f"rows {rows}",
        hint=f"Lower train.learning_rate, or look at those rows: `{hints.explain()}`.",
    )  # fmt: skip
