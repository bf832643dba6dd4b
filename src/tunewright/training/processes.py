"""This process among the ranks that a launcher started.

processes = Processes.start("auto")
processes.rank, processes.num_ranks, processes.device       # 0, 1, device("cpu") for a single process
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from tunewright.models.device import choose_device

_LONGEST_WAIT = timedelta(days=2)
"""Enough for one rank to prepare a large data set while the others wait; the launcher notices a rank that dies."""


@dataclass(frozen=True)
class Processes:
    """This process among the ranks of `accelerate launch` or `torchrun`; otherwise a single one."""

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
        atexit.register(
            accelerator.end_training
        )  # destroying the process group in the interpreter's teardown can abort it
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

    def all_reduce_max(self, number: int) -> int:
        """The largest `number` of all ranks, so that all act alike on a signal or on the time."""
        if self.num_ranks == 1:
            return number
        shared = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return int(shared)
