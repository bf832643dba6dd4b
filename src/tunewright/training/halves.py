"""Two halves of a step computed at the same time, half of the threads each.

A step of a small model is thousands of short operations. Threads that share each of them meet and wait after every one, and what
runs between them (Python, memory, small copies) runs on one. Two halves of the rows meet once a step, and each has a heap of its own.

    first, second = deal(lengths, 2)
    computed = side_by_side(lambda backward: compute(first, backward), lambda backward: compute(second, backward), parameters)

The model is there once. The second half's gradient is kept apart, and added when both are done: the sum does not depend on
which thread was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn

from tunewright.models.embedding import RowGradients, table_gradients_in
from tunewright.models.memory import keep_freed_memory_of_thread

Result = TypeVar("Result")
Backward = Callable[[torch.Tensor], object]


def side_by_side(
    first: Callable[[Backward], Result], second: Callable[[Backward], Result], parameters: Iterable[nn.Parameter]
) -> tuple[Result, Result]:
    """What both return. Each is given what it calls, in place of `loss.backward()`, to add a loss's gradient.

    `first` runs in the calling thread. What either raises is raised when both have ended.
    """
    apart = _Apart([parameter for parameter in parameters if parameter.requires_grad])
    num_threads = torch.get_num_threads()
    share = max(1, num_threads // 2)
    other = _second_thread().submit(_with_threads, share, lambda: second(apart.backward))
    torch.set_num_threads(share)
    try:
        mine = first(torch.Tensor.backward)
    finally:
        failure = other.exception()  # waits
        torch.set_num_threads(num_threads)
    if failure is not None:
        raise failure
    apart.add()
    return mine, other.result()


class _Apart:
    """Sums of gradients beside those in `parameter.grad`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.sums: dict[torch.Tensor, torch.Tensor] = {}
        self.of_tables: list[RowGradients] = []

    def backward(self, loss: torch.Tensor) -> None:
        with table_gradients_in(self.of_tables):
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        taken = set[int]()
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is not None and parameter in self.sums:
                self.sums[parameter] += gradient
            elif gradient is not None:
                self.sums[parameter] = gradient if _is_alone(gradient, taken) else gradient.clone()

    def add(self) -> None:
        """To the gradients of the parameters."""
        for parameter, gradient in self.sums.items():
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        for of_table in self.of_tables:
            of_table.add()


def _is_alone(gradient: torch.Tensor, taken: set[int]) -> bool:
    """May it be added to in place? Not where two parameters were given one tensor, or parts of one."""
    memory = gradient.untyped_storage()
    place = memory.data_ptr()
    if place in taken:
        return False
    taken.add(place)
    return gradient.is_contiguous() and memory.nbytes() == gradient.nbytes


def _with_threads(number: int, work: Callable[[], Result]) -> Result:
    torch.get_num_threads()  # a thread takes over the process's number when it first asks; then its own can be set
    torch.set_num_threads(number)
    return work()


@lru_cache(maxsize=1)
def _second_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="second half", initializer=keep_freed_memory_of_thread)
