"""A step that does not fit into the device's memory is computed again in smaller micro-batches: the update stays the same.

done = within_memory(compute, execution, longest=512, clear=optimizer.zero_grad, say=print)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from tunewright.errors import UserError
from tunewright.execution.base import Execution

Result = TypeVar("Result")
_MESSAGES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Of errors that are no `torch.OutOfMemoryError`: Apple's GPUs, and libraries that allocate for themselves."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left. Not the host: where that is full the system ends the process."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def within_memory(
    compute: Callable[[], Result],
    execution: Execution,
    *,
    longest: int,
    clear: Callable[[], object],
    say: Callable[[str], object],
) -> Result:
    """The result of `compute`; when the device's memory is full, `execution.token_budget` is halved and it is computed again.

    longest: tokens of the longest row, which cannot be cut. clear: frees what was computed of it. UserError where micro-batches cannot
    become smaller; with several ranks at once, because the others do not repeat the step.
    """
    while True:
        try:
            return compute()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if execution.num_ranks > 1 or execution.token_budget <= longest:
                raise _does_not_fit(execution, longest) from None
        clear()
        release_memory(execution.device)
        before = execution.token_budget
        execution.token_budget = max(longest, before // 2)
        say(
            f"The device's memory is full: micro-batches of {execution.token_budget:,} tokens from here on, not {before:,}. The updates are the same."
        )


def release_memory(device: torch.device) -> None:
    """Give freed memory back to the device, so that pieces of another size fit."""
    empty = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if device.type != "cpu" and empty is not None:
        empty()


def _does_not_fit(execution: Execution, longest: int) -> UserError:
    if execution.num_ranks > 1:
        return UserError(
            f"rank {execution.rank} has no memory left on its device", where="train.micro_batch_tokens",
            found=f"micro-batches of {execution.token_budget:,} tokens",
            hint=f"Set train.micro_batch_tokens={max(longest, execution.token_budget // 2)}.",
        )  # fmt: skip
    return UserError(
        "one row at a time does not fit into the device's memory", where="data.max_length", found=f"{longest:,} tokens",
        hint="Set train.gradient_checkpointing=true or adapter=lora, lower data.max_length, or choose a smaller model.",
    )  # fmt: skip
