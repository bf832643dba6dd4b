"""Two halves of a step computed at the same time, half of the threads each.

A step of a small model is thousands of short operations. Threads that share each of them meet and wait after every one, and what
runs between them (Python, memory, small copies) runs on one. Two halves of the rows meet once a step, and each has a heap of its own.

    first, second = halve(lengths)
    computed = side_by_side(lambda backward: compute(first, backward), lambda backward: compute(second, backward), parameters)

The model is there once. The second half's gradient is kept apart, and added when both are done, by both threads: the sum does not
depend on which was faster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

import torch
from torch import nn

from tunewright.models.embedding import Later, gradients_later

Result = TypeVar("Result")
Backward = Callable[[torch.Tensor], object]
_SWITCH_SECONDS = 2e-4
"""After so long a thread that wants the interpreter is given it. Both want it for moments, thousands of times a step; Python's 5 ms cost 1 %."""


def side_by_side(
    first: Callable[[Backward], Result], second: Callable[[Backward], Result], parameters: Iterable[nn.Parameter]
) -> tuple[Result, Result, torch.Tensor]:
    """What both return, and the norm of the whole gradient. Each is given what it calls, in place of `loss.backward()`, to add a loss's gradient.

    `first` runs in the calling thread. What either raises is raised when both have ended.
    """
    apart = _Apart([parameter for parameter in parameters if parameter.requires_grad])
    mine, others = _both(lambda: first(torch.Tensor.backward), lambda: second(apart.backward))
    norms = _both(*(partial(apart.add_to, share) for share in apart.shares()))
    return mine, others, torch.stack(norms).norm()


def _both(first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
    """What both return, computed at the same time with half of the threads each."""
    num_threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    share = max(1, num_threads // 2)
    sys.setswitchinterval(_SWITCH_SECONDS)
    other = _second_thread().submit(_with_threads, share, second)
    torch.set_num_threads(share)
    try:
        mine = first()
    finally:
        failure = other.exception()  # waits
        torch.set_num_threads(num_threads)
        sys.setswitchinterval(interval)
    if failure is not None:
        raise failure
    return mine, other.result()


class _Apart:
    """Sums of gradients beside those in `parameter.grad`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.sums: dict[torch.Tensor, torch.Tensor] = {}
        self.of_tables = Later()

    def backward(self, loss: torch.Tensor) -> None:
        with gradients_later(self.of_tables):
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        taken = set[int]()
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is not None and parameter in self.sums:
                self.sums[parameter] += gradient
            elif gradient is not None:
                self.sums[parameter] = gradient if _is_alone(gradient, taken) else gradient.clone()

    def shares(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The parameters, about half of the numbers in each share."""
        shares: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        sizes = [0, 0]
        for parameter in sorted(self.parameters, key=torch.Tensor.numel, reverse=True):
            fewer = int(sizes[1] < sizes[0])
            shares[fewer].append(parameter)
            sizes[fewer] += parameter.numel()
        return shares

    def add_to(self, parameters: Iterable[nn.Parameter]) -> torch.Tensor:
        """To the gradients of these, whose norm is returned: taken while they are in the cache."""
        norms = [torch.zeros(())]
        for parameter in parameters:
            if (gradient := self.sums.get(parameter)) is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            self.of_tables.add_to(parameter)
            if parameter.grad is not None:
                norms.append(torch.linalg.vector_norm(parameter.grad))
        return torch.stack(norms).norm()


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
    return ThreadPoolExecutor(1, thread_name_prefix="second half")
