"""The plain execution: computes a step if there is no faster path. It does not choose the rows of the step.

    execution = Execution(token_budget=512)
    pieces = execution.split(lengths)             # rows of 12 250 31 30 248 tokens: [[[1 4], [2 3 0]]]
    sums, norm = execution.run(compute, pieces, model.parameters())
    execution.step(optimizer)
    execution.after_step()

Every execution gives the same gradient within rounding, dropout included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import nn

from tunewright.batching.micro_batches import FIXED_COST_TOKENS, cut
from tunewright.batching.padding import Padding

Backward = Callable[[torch.Tensor], object]
Compute = Callable[[Sequence[np.ndarray], Backward], torch.Tensor]
"""(micro-batches to compute one after the other in a thread, what to call in place of `loss.backward()`) -> the sums of their losses."""
Result = TypeVar("Result")
AUTO, PLAIN = "auto", "plain"
ROW_KEYED, PYTORCH, OFF = "row_keyed", "pytorch", "off"
_GPU_FIXED_COST_TOKENS = 2_048  # launching a model's kernels takes as long as computing about this many tokens


@dataclass
class Execution:
    """token_budget: padded tokens computed at a time. precision: bf16 (autocast, weights stay fp32), fp32 or fp64.

    to_max_length: rows are padded to the model's length. rank, num_ranks: this process among those that share the step.
    """

    name: ClassVar[str] = "plain"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    token_budget: int = 1_024
    to_max_length: bool = False
    rank: int = 0
    num_ranks: int = 1

    def split(self, lengths: np.ndarray) -> list[list[np.ndarray]]:
        """This rank's micro-batches of a step's rows, which are given by their lengths: positions, grouped by the thread that computes them."""
        return [self.cut(lengths, num_ranks=self.num_ranks)[self.rank :: self.num_ranks]]

    def split_forward(self, lengths: np.ndarray) -> list[np.ndarray]:
        """The same for a pass without gradient, in which a rank may have fewer micro-batches than others."""
        return self.cut(lengths)[self.rank :: self.num_ranks]

    def cut(self, lengths: np.ndarray, *, num_ranks: int = 1) -> list[np.ndarray]:
        """The micro-batches of all ranks; see `batching.micro_batches.cut`."""
        cost = FIXED_COST_TOKENS if self.device.type == "cpu" else _GPU_FIXED_COST_TOKENS
        return cut(lengths, self.token_budget, num_ranks=num_ranks, fixed_cost=cost)

    @property
    def padding(self) -> Padding:
        """How the rows of a micro-batch are padded."""
        return Padding(self.to_max_length)

    def num_computed(self, lengths: np.ndarray, width: int) -> int:
        """Positions that the layers compute for a micro-batch of rows of these lengths, padded to `width`."""
        return len(lengths) * width

    def run(
        self, compute: Compute, pieces: Sequence[Sequence[np.ndarray]], parameters: Iterable[nn.Parameter]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Add the gradients of a step's micro-batches to `parameter.grad`: (sums of `compute`, the gradient's norm if it is known)."""
        (mine,) = pieces
        return compute(mine, torch.Tensor.backward), None

    def forward(self, compute: Callable[[np.ndarray], Result], pieces: Sequence[np.ndarray]) -> list[Result]:
        """The results of `compute` for each micro-batch of a pass without gradient, in order. It may run in several threads."""
        return [compute(piece) for piece in pieces]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights by the gradients, and clear the gradients."""
        optimizer.step()
        optimizer.zero_grad(set_to_none=self.device.type != "cpu")  # on a CPU new memory costs more than zeros

    def after_step(self) -> None:
        """Called after each step, and after each micro-batch without gradient."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """One context over all micro-batches of a step: the bf16 copies of the weights are made once."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def summed(self, numbers: torch.Tensor) -> torch.Tensor:
        """float64 numbers on the host -> their sums over all ranks; each rank must call it."""
        if self.num_ranks == 1:
            return numbers
        numbers = numbers.to(self.device)
        torch.distributed.all_reduce(numbers)
        return numbers.cpu()

    def gathered(self, parts: list[Any]) -> list[Any]:
        """The parts of all ranks, in the order of the ranks; each rank must call it."""
        if self.num_ranks == 1:
            return parts
        everyone: list[Any] = [None] * self.num_ranks
        torch.distributed.all_gather_object(everyone, parts)
        return [part for of_rank in everyone for part in of_rank]


@dataclass(frozen=True)
class Wanted:
    """The settings that an execution is chosen by.

    execution: auto or plain. dropout: row_keyed, pytorch or off. token_budget: None if the execution chooses it.
    """

    execution: str = AUTO
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    is_training: bool = True
    dropout: str = ROW_KEYED
    token_budget: int | None = None
    to_max_length: bool = False
    recomputes_activations: bool = False
    is_packed: bool = False
    has_adapter: bool = False
    rank: int = 0
    num_ranks: int = 1

    def values(self, usual_tokens: int) -> dict[str, Any]:
        """The arguments of every `Execution`."""
        return {
            "device": self.device,
            "precision": self.precision,
            "token_budget": self.token_budget or usual_tokens,
            "to_max_length": self.to_max_length,
            "rank": self.rank,
            "num_ranks": self.num_ranks,
        }


def usual_tokens(wanted: Wanted) -> int:
    """The padded tokens that a plain execution computes at a time, unless the settings say otherwise."""
    training, forward = (1_024, 2_048) if wanted.device.type == "cpu" else (16_384, 32_768)
    return training if wanted.is_training else forward
