"""The CPU fast path: the results of the plain execution in less time. The public part of this folder, imported only by `execution/__init__.py`.

    execution = prepare_model(model, wanted)        CpuExecution(two_threads=True, unpadded=True, …)

Its changes of a model are installed only if an equivalence check shows that the results stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from tunewright.batching.micro_batches import FIXED_COST_TOKENS, cut
from tunewright.batching.padding import LONGEST, Padding, rounded_up
from tunewright.execution.base import PYTORCH, Compute, Execution, Result, Wanted
from tunewright.execution.cpu import attention
from tunewright.execution.cpu.cls_only_last_layer import install_cls_only_last_layer
from tunewright.execution.cpu.dropout import FastRowDropout
from tunewright.execution.cpu.embedding import add_table_gradients_in_place
from tunewright.execution.cpu.memory import give_back_fragments
from tunewright.execution.cpu.memory import keep_freed_memory as keep_freed_memory
from tunewright.execution.cpu.norms import emit_bf16_from_norms, install_fused_rms_norm
from tunewright.execution.cpu.output_rows import CpuOutputKernels
from tunewright.execution.cpu.shape_buckets import shape_tokens
from tunewright.execution.cpu.two_threads import SharedOptimizer, halve, map_on_two_threads, run_both_backward
from tunewright.execution.cpu.unpadding import install_unpadding
from tunewright.execution.output_rows import install_output_kernels
from tunewright.execution.row_keyed import (
    draws_randomly,
    install_row_keyed_dropout_and_attention,
    pytorch_dropout_message,
)

_TOKENS, _UNPADDED_TOKENS, _FORWARD_TOKENS = 1_024, 1_536, 2_048
_BF16_FIXED_COST_TOKENS = 128  # where products take half the time, everything else counts twice as much
_LEAST_TOKENS_FOR_TWO = 768
"""Of a step: with 800 tokens of short texts two threads took as long as one, with 1,300 of instructions nine tenths of the time."""
_LEAST_BALANCE = 0.85
"""Ratio of the tokens of the two halves: if it is smaller, the thread that finishes first waits longer than was gained."""
_LARGEST_SECOND_GRADIENT = 2**30  # bytes: the most that two threads may need in addition to the gradient


@dataclass
class CpuExecution(Execution):
    """two_threads: a long step is computed by two. unpadded: the model's layers compute rows end to end, without padding."""

    name: ClassVar[str] = "cpu"
    two_threads: bool = False
    unpadded: bool = False

    def __post_init__(self) -> None:
        self._ran_on_two = False
        self._shared: tuple[torch.optim.Optimizer, SharedOptimizer | None] | None = None

    def split(self, lengths: np.ndarray) -> list[list[np.ndarray]]:
        return self._on_two_threads(lengths) or super().split(lengths)

    def _on_two_threads(self, lengths: np.ndarray) -> list[list[np.ndarray]]:
        """The micro-batches of each thread; none if the step is too short, or one row too long for equal halves."""
        if not self.two_threads or lengths.sum() <= min(self.token_budget, _LEAST_TOKENS_FOR_TWO):
            return []
        parts = halve(lengths)  # the half with fewer tokens first: the thread that computes it has other work too
        fewer, more = (int(lengths[part].sum()) for part in parts)
        if fewer < _LEAST_BALANCE * more:
            return []
        return [[part[piece] for piece in self.cut(lengths[part])] for part in parts]

    def cut(self, lengths: np.ndarray, *, num_ranks: int = 1) -> list[np.ndarray]:
        cost = _BF16_FIXED_COST_TOKENS if self.precision == "bf16" else FIXED_COST_TOKENS
        return cut(
            lengths, self.token_budget, num_ranks=num_ranks, fixed_cost=cost, multiple=self._multiple,
            unpadded=self.unpadded,
        )  # fmt: skip

    @property
    def _multiple(self) -> int:
        """The tokens of a micro-batch are padded to a multiple of this."""
        return shape_tokens(torch.bfloat16 if self.precision == "bf16" else torch.float32, self.device)

    @property
    def padding(self) -> Padding:
        return LONGEST if self.unpadded else Padding(self.to_max_length, self._multiple)

    def num_computed(self, lengths: np.ndarray, width: int) -> int:
        return rounded_up(int(lengths.sum()), self._multiple) if self.unpadded else super().num_computed(lengths, width)

    def run(
        self, compute: Compute, pieces: Sequence[Sequence[np.ndarray]], parameters: Iterable[nn.Parameter]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._ran_on_two = len(pieces) > 1
        if not self._ran_on_two:
            return super().run(compute, pieces, parameters)
        first, second = (partial(compute, of_thread) for of_thread in pieces)
        *sums, norm = run_both_backward(first, second, parameters)
        return torch.stack(sums).sum(0), norm

    def forward(self, compute: Callable[[np.ndarray], Result], pieces: Sequence[np.ndarray]) -> list[Result]:
        if not self.two_threads or len(pieces) < 2:
            return super().forward(compute, pieces)

        def alone(piece: np.ndarray) -> Result:
            with torch.no_grad(), self.autocast():  # torch's modes are thread-local
                return compute(piece)

        return map_on_two_threads(pieces, alone)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        shared = self._shared_step(optimizer) if self._ran_on_two else None
        if shared is None:
            super().step(optimizer)
        else:
            shared.step_and_clear()

    def _shared_step(self, optimizer: torch.optim.Optimizer) -> SharedOptimizer | None:
        if self._shared is None or self._shared[0] is not optimizer:
            self._shared = (optimizer, SharedOptimizer(optimizer) if SharedOptimizer.can_share(optimizer) else None)
        return self._shared[1]

    def after_step(self) -> None:
        give_back_fragments()


def prepare_model(model: Any, wanted: Wanted, *, say: Callable[[str], object]) -> CpuExecution:
    """As `execution.prepare_model`, on a CPU and in one process."""
    attention.register()
    install_output_kernels(model, CpuOutputKernels())
    if not wanted.is_training:
        install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout)
        install_cls_only_last_layer(model)
        return CpuExecution(**wanted.values(_FORWARD_TOKENS))
    install_fused_rms_norm(model)
    add_table_gradients_in_place(model)
    by_row = wanted.dropout != PYTORCH and _keyed_by_row(model, say)
    keeps_padding = wanted.recomputes_activations or wanted.is_packed or wanted.to_max_length
    unpadded = by_row and not keeps_padding and install_unpadding(model)
    if (
        wanted.precision == "bf16" and not wanted.has_adapter
    ):  # an adapter may apply dropout to its input before it is rounded
        emit_bf16_from_norms(model)
    return CpuExecution(
        **wanted.values(_UNPADDED_TOKENS if unpadded else _TOKENS),
        unpadded=unpadded,
        two_threads=by_row
        and not wanted.recomputes_activations
        and torch.get_num_threads() > 1
        and _gradient_bytes(model) <= _LARGEST_SECOND_GRADIENT,
    )


def _keyed_by_row(model: Any, say: Callable[[str], object]) -> bool:
    """Whether everything random in the model is row-keyed."""
    reason = install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout)
    if reason and draws_randomly(model):
        say(pytorch_dropout_message(reason))
        return False
    if reason is None:
        install_cls_only_last_layer(getattr(model, "get_base_model", lambda: model)())
    return True


def _gradient_bytes(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
