"""The training loop: a generator that makes one optimizer step after the other and yields what happened.

    for step in training_steps(model, task, store["train"], encoder, plan, optimizer, settings=settings):
        print(step.number, step.loss)

Saving, logging, evaluation and progress stay with whoever drives it. An update is defined by its rows: the loss is a sum over
the step's rows divided by the step's weight, so micro-batches, devices and ranks change time and memory only; dropout masks
belong to rows (`execution/row_dropout.py`). The learning rate is a function of the step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright import hints
from tunewright.batching.micro_batches import FIXED_COST_TOKENS, cut, halve, rows_of
from tunewright.batching.padding import LONGEST, Padding, rounded_up
from tunewright.batching.row_context import row_context
from tunewright.batching.schedule import BatchSchedule
from tunewright.batching.store import SplitStore
from tunewright.errors import UserError
from tunewright.execution.cpu.memory import give_back_fragments
from tunewright.execution.cpu.shape_buckets import shape_tokens
from tunewright.execution.cpu.two_threads import Backward, SharedOptimizer, side_by_side
from tunewright.records import Batch
from tunewright.tasks.base import Task, Weights
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.signals import break_off_long_step

_BF16_FIXED_COST_TOKENS = 128  # on a CPU: where products take half the time, all else weighs twice as much
_LEAST_TOKENS_IN_HALVES = 768
"""Of a step: 800 tokens of short texts took as long in halves as whole, 1,300 of instructions nine tenths of the time."""
_LEAST_BALANCE = 0.85
"""Of the tokens of two halves: with less, the thread that is done waits longer than was gained."""
_CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_
_GPU_FIXED_COST_TOKENS = 2_048  # launching a model's kernels takes as long as computing about this many tokens


@dataclass(frozen=True)
class Settings:
    """How a step is computed; none of it changes the update beyond rounding.

    precision: bf16 (autocast, weights stay fp32), fp32 or fp64. in_halves: two threads compute a long step (`halves.py`).
    flat: the model computes rows end to end, without padding (`execution/cpu/unpadding.py`).
    """

    seed: int = 0
    token_budget: int = 1024
    precision: str = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_grad_norm: float = 1.0
    padding: str = "longest"
    rank: int = 0
    num_ranks: int = 1
    in_halves: bool = False
    flat: bool = False

    def cut(self, lengths: np.ndarray, *, num_ranks: int = 1) -> list[np.ndarray]:
        """A step's rows as micro-batches for this device; see `batching.micro_batches.cut`."""
        return cut(
            lengths,
            self.token_budget,
            num_ranks=num_ranks,
            fixed_cost=self._fixed_cost,
            multiple=self._multiple,
            flat=self.flat,
        )

    @property
    def _fixed_cost(self) -> int:
        """What a micro-batch costs beside its tokens, in tokens."""
        if self.device.type != "cpu":
            return _GPU_FIXED_COST_TOKENS
        return _BF16_FIXED_COST_TOKENS if self.precision == "bf16" else FIXED_COST_TOKENS

    @property
    def _multiple(self) -> int:
        """What the tokens of a micro-batch are filled up to."""
        return shape_tokens(torch.bfloat16 if self.precision == "bf16" else torch.float32, self.device)

    @property
    def row_padding(self) -> Padding:
        """How wide the rows of a micro-batch are made."""
        return LONGEST if self.flat else Padding(self.padding == "max_length", self._multiple)

    def num_computed(self, lengths: np.ndarray, width: int) -> int:
        """Positions that the layers compute for a micro-batch of rows of these lengths, padded to `width` or flat."""
        if self.flat:
            return rounded_up(int(lengths.sum()), self._multiple)
        return len(lengths) * width

    def halves(self, lengths: np.ndarray) -> list[list[np.ndarray]]:
        """A step's rows as the micro-batches of each half; none where the step is too short, or a row too long for halves."""
        if not self.in_halves or lengths.sum() <= min(self.token_budget, _LEAST_TOKENS_IN_HALVES):
            return []
        parts = halve(lengths)  # the fewer tokens first: the thread that computes them has more to do besides
        fewer, more = (int(lengths[part].sum()) for part in parts)
        if fewer < _LEAST_BALANCE * more:
            return []
        return [[part[piece] for piece in self.cut(lengths[part])] for part in parts]

    def micro_batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """A step's rows as micro-batches, by whichever thread they are computed."""
        return [piece for half in self.halves(lengths) for piece in half] or self.cut(lengths)

    def share(self, pieces: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Those of the micro-batches that this rank computes."""
        return pieces[self.rank :: self.num_ranks]

    def gathered(self, parts: list[Any]) -> list[Any]:
        """What all ranks found, in the order of the ranks; each rank must ask."""
        if self.num_ranks == 1:
            return parts
        everyone: list[Any] = [None] * self.num_ranks
        torch.distributed.all_gather_object(everyone, parts)
        return [part for of_rank in everyone for part in of_rank]


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
    settings: Settings,
    start_samples: int = 0,
    learning_rate: Callable[[int], float] | None = None,
    loss: Loss | None = None,
) -> Iterator[Step]:
    """Train from `start_samples` to the plan's end, one `Step` at a time.

    learning_rate: step (from 0) -> the rate, after setting it on the optimizer; None leaves the optimizer alone.
    loss: `(model, batch, weights) -> ({term: (sum, weight)}, outputs)` instead of the task's own.
    The optimizer's step is complete when its `Step` is yielded. Raises UserError when the loss stops being a number; the
    step that did it is not applied.
    """
    weights, weighed = Weights(np.zeros(0), {}), -1
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    num_learning = sum(parameter.requires_grad for parameter in model.parameters())
    shared = SharedOptimizer(optimizer) if settings.in_halves and SharedOptimizer.can_share(optimizer) else None
    for step in range(plan.step_at(start_samples), plan.num_steps):
        began = time.perf_counter()
        epoch, positions = plan.rows_of_step(step)
        model.train()
        if epoch != weighed:
            weights, weighed = task.for_epoch(seed=settings.seed, epoch=epoch).weights(split), epoch
        done = accumulate_gradient(
            model, task, split, encoder, positions, weights, epoch=epoch, step=step, settings=settings, loss=loss
        )
        if not math.isfinite(done.loss):
            raise _not_finite("the loss", done.loss, step, split, positions)
        known = done.grad_norm if len(trained) == num_learning else None
        norm = _clip(optimizer, trained, known, settings.max_grad_norm)
        if not math.isfinite(norm):
            raise _not_finite("the gradient", norm, step, split, positions)
        rate = learning_rate(step) if learning_rate else optimizer.param_groups[0]["lr"]
        if shared and done.in_halves:
            shared.step_and_clear()
        else:
            optimizer.step()
            optimizer.zero_grad(set_to_none=settings.device.type != "cpu")  # on a CPU new memory costs more than zeros
        give_back_fragments()
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
    """Losses and token counts of a step whose gradient stands in the parameters. grad_norm: where it is known already."""

    loss: float
    terms: dict[str, float]
    num_tokens: int
    num_padded_tokens: int
    grad_norm: torch.Tensor | None = None

    @property
    def in_halves(self) -> bool:
        return self.grad_norm is not None


def accumulate_gradient(
    model: nn.Module,
    task: Task,
    split: SplitStore,
    encoder: TextEncoder,
    positions: np.ndarray,
    weights: Weights,
    *,
    epoch: int,
    step: int,
    settings: Settings,
    loss: Loss | None = None,
) -> Accumulated:
    """Forward and backward over the rows at `positions`, in micro-batches; gradients are added to what is there.

    weights: what `task.for_epoch(seed, epoch).weights(split)` says. With several ranks every rank computes its own micro-batches of the same
    cut, and DistributedDataParallel averages; the losses returned are those of the whole step.
    """
    task = task.for_epoch(seed=settings.seed, epoch=epoch)
    lengths = split.lengths[positions]
    totals = {term: float(of_rows[positions].sum()) or 1.0 for term, of_rows in weights.terms.items()}
    compute_loss = loss or (lambda model, batch, weights: task.loss(model, batch, weights=weights))

    def compute(pieces: Sequence[np.ndarray], backward: Backward) -> torch.Tensor:
        """The sum of every term, and padded tokens."""
        sums = torch.zeros(len(totals) + 1, dtype=torch.float64, device=settings.device)
        with autocast(settings):
            for number, piece in enumerate(pieces):
                if settings.num_ranks == 1:
                    break_off_long_step()
                present = (
                    piece if len(piece) else np.argmin(lengths, keepdims=True)
                )  # a rank without rows runs one at weight zero
                rows = positions[present]
                batch = make_batch(task, split, rows, encoder, settings)
                seed = _micro_batch_seed(settings.seed, step, number * settings.num_ranks + settings.rank)
                _seed_generator(settings.device, seed)
                context = rows_of(batch, encoder, seed=settings.seed, epoch=epoch)
                last = number == len(pieces) - 1
                with row_context(context), _sync_gradients(model, last):
                    terms, _ = compute_loss(model, batch, torch.from_numpy(weights.rows[rows] * bool(len(piece))))
                    part = torch.stack([total / totals[term] for term, (total, _) in terms.items()]).sum()
                    with torch.autocast(settings.device.type, enabled=False):
                        backward(part * settings.num_ranks)
                sums[:-1] += torch.stack([terms[term][0].detach().double() for term in totals])
                sums[-1] += settings.num_computed(batch.lengths, batch.width) * bool(len(piece))
        return sums

    with autocast(settings):
        task = task.for_step(model, split, positions, encoder, settings)
        if halves := settings.halves(lengths):
            first, second = (partial(compute, half) for half in halves)
            *sums_of_halves, grad_norm = side_by_side(first, second, model.parameters())
            sums = torch.stack(sums_of_halves).sum(0)
        else:
            mine = settings.share(settings.cut(lengths, num_ranks=settings.num_ranks))
            sums, grad_norm = compute(mine, torch.Tensor.backward), None
    if settings.num_ranks > 1:
        torch.distributed.all_reduce(sums)
    *of_terms, num_padded = sums.tolist()
    means = {term: value / totals[term] for term, value in zip(totals, of_terms, strict=True)}
    return Accumulated(sum(means.values()), means, int(lengths.sum()), int(num_padded), grad_norm)


def make_batch(task: Task, split: SplitStore, rows: np.ndarray, encoder: TextEncoder, settings: Settings) -> Batch:
    """The rows at these positions as one padded batch on the device."""
    return task.collate(split, rows, encoder, settings.row_padding).to(settings.device)


def autocast(settings: Settings) -> contextlib.AbstractContextManager[Any]:
    """One context over all micro-batches of a step: the bf16 copies of the weights are made once."""
    return torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.precision == "bf16")


def _sync_gradients(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """DistributedDataParallel adds gradients over ranks in the last micro-batch only."""
    return contextlib.nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()  # type: ignore[operator]


def _clip(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], total: torch.Tensor | None, max_norm: float
) -> float:
    """The norm of the gradient, which is scaled to `max_norm` where it is larger. total: the norm, where it is known.

    A fused optimizer scales while it steps: on a CPU one pass over memory less.
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
    """`torch.manual_seed` asks every backend that torch knows, which takes a millisecond; on a CPU its own is enough."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _micro_batch_seed(seed: int, step: int, number: int) -> int:
    """A seed for torch's generator, for what a model draws from it by itself: resuming repeats it, another cut does not."""
    words = np.random.SeedSequence([seed, step, number]).generate_state(2, dtype=np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def _not_finite(what: str, value: float, step: int, split: SplitStore, positions: np.ndarray) -> UserError:
    rows = ", ".join(split.address(int(position)) for position in positions[:16])
    return UserError(
        f"{what} is {value} at step {step + 1}; the step was not applied", where="training", found=f"rows {rows}",
        hint=f"Lower train.learning_rate, or look at those rows: `{hints.explain()}`.",
    )  # fmt: skip
