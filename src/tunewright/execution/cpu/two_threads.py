"""A step computed by two threads, each for half of its rows, with half of torch's threads.

A step of a small model is thousands of short operations. Threads that share each operation synchronize after every one, and the work
between them (Python, memory, small copies) runs on one thread. Two halves of the rows synchronize once per step, each with its own heap.

    first, second = halve(lengths)
    computed = run_both_backward(lambda backward: compute(first, backward), lambda backward: compute(second, backward), parameters)

Both use the same model. The second thread's gradient is kept in a `GradientBuffer`, and is added by both threads when both are done:
the sum does not depend on which was faster.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import lru_cache, partial
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from tunewright.execution.cpu.embedding import DeferredGradients, deferred_gradients

Result = TypeVar("Result")
Backward = Callable[[torch.Tensor], object]
_HALVED_EXACTLY = 32
_SWITCH_SECONDS = 2e-4
"""The interpreter's switch interval. Both threads need the interpreter for moments, thousands of times per step; Python's 5 ms cost 1 %."""
_BY_PARAMETER = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adafactor)


def run_both_backward(
    first: Callable[[Backward], Result], second: Callable[[Backward], Result], parameters: Iterable[nn.Parameter]
) -> tuple[Result, Result, torch.Tensor]:
    """The results of both, and the norm of the whole gradient. The argument of each is what it calls in place of `loss.backward()`.

    `first` runs in the calling thread. An exception of either is raised when both have ended.
    """
    buffer = GradientBuffer([parameter for parameter in parameters if parameter.requires_grad])
    mine, others = run_both(lambda: first(torch.Tensor.backward), lambda: second(buffer.backward))
    norms = run_both(*(partial(buffer.add_to, share) for share in shares(buffer.parameters)))
    return mine, others, torch.stack(norms).norm()


def run_both(first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
    """The results of both, computed at the same time with half of the threads each."""
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


Piece = TypeVar("Piece")


def map_on_two_threads(pieces: Sequence[Piece], compute: Callable[[Piece], Result]) -> list[Result]:
    """The results of `compute` for each piece, in order, two at a time with half of the threads each. The thread that is free takes the next.

    An exception of either ends both after their current piece, and is raised.
    """
    found: list[Result | None] = [None] * len(pieces)
    left, stopped = iter(range(len(pieces))), threading.Event()
    taking = threading.Lock()

    def take() -> None:
        try:
            while not stopped.is_set():
                with taking:
                    number = next(left, None)
                if number is None:
                    return
                found[number] = compute(pieces[number])
        except BaseException:
            stopped.set()
            raise

    run_both(take, take)
    return cast(list[Result], found)


def halve(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions into `lengths` in two parts, the one with fewer tokens first; with up to 32 rows the parts are as equal as possible.

    With more rows this is done for the 32 longest; then the others, longest first, are each added to the smaller part.
    """
    order = np.argsort(-lengths, kind="stable").tolist()
    longest, others = order[:_HALVED_EXACTLY], order[_HALVED_EXACTLY:]
    sums = [1]  # bit n of sums[k]: a subset of the first k rows has n tokens in total
    for position in longest:
        sums.append(sums[-1] | sums[-1] << int(lengths[position]))
    half = int(lengths[longest].sum()) // 2
    left = (sums[-1] & ((2 << half) - 1)).bit_length() - 1  # the largest sum that is at most half
    parts: tuple[list[int], list[int]] = ([], [])
    for position, reached in zip(reversed(longest), reversed(sums[:-1]), strict=True):
        taken = not reached >> left & 1
        parts[not taken].append(position)
        left -= int(lengths[position]) * taken
    tokens = [int(lengths[part].sum()) for part in parts]
    for position in others:
        smaller = int(tokens[1] < tokens[0])
        parts[smaller].append(position)
        tokens[smaller] += int(lengths[position])
    first, second = (np.array(part, dtype=np.int64) for part in parts)
    return (first, second) if tokens[0] <= tokens[1] else (second, first)


def shares(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters in two lists, each with about half of the numbers."""
    dealt: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    sizes = [0, 0]
    for parameter in sorted(parameters, key=torch.Tensor.numel, reverse=True):
        fewer = int(sizes[1] < sizes[0])
        dealt[fewer].append(parameter)
        sizes[fewer] += parameter.numel()
    return dealt


class SharedOptimizer:
    """An optimizer's step computed by both threads, each for its share of the parameters, with the results of `optimizer.step()`.

    The two threads that computed the gradient do it, not OpenMP's, which then spin for a moment on the cores that the next step needs.
    """

    @staticmethod
    def can_share(optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimizer updates each parameter independently and has no hooks on its steps. Others may need all parameters at once."""
        hooks = (*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks)
        return type(optimizer) in _BY_PARAMETER and not hooks

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._whole = optimizer
        self._of_shares = [
            _of_share(optimizer, share)
            for share in shares(p for group in optimizer.param_groups for p in group["params"])
        ]

    def step_and_clear(self) -> None:
        """A step with the current rates and scale of the whole optimizer; then the gradients are set to zero."""
        for one in self._of_shares:
            one.grad_scale = getattr(self._whole, "grad_scale", None)  # type: ignore[attr-defined]
            for group, now in zip(one.param_groups, self._whole.param_groups, strict=True):
                group.update(now | {"params": group["params"]})
        run_both(*(partial(_step_and_clear, one) for one in self._of_shares))


def _of_share(optimizer: torch.optim.Optimizer, share: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The same optimizer with the same state, for these parameters only."""
    mine = set(share)
    one = copy(optimizer)
    one.param_groups = [
        {**group, "params": [parameter for parameter in group["params"] if parameter in mine]}
        for group in optimizer.param_groups
    ]
    return one


def _step_and_clear(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)  # on a CPU new memory costs more than zeros


class GradientBuffer:
    """Sums of gradients, separate from those in `parameter.grad`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.sums: dict[torch.Tensor, torch.Tensor] = {}
        self.of_tables = DeferredGradients()

    def backward(self, loss: torch.Tensor) -> None:
        with deferred_gradients(self.of_tables):
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        taken = set[int]()
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is not None and parameter in self.sums:
                self.sums[parameter] += gradient
            elif gradient is not None:
                self.sums[parameter] = gradient if _is_alone(gradient, taken) else gradient.clone()

    def add_to(self, parameters: Iterable[nn.Parameter]) -> torch.Tensor:
        """Add to the gradients of these parameters; returns their norm, computed while they are in the cache."""
        norms = [torch.zeros(())]
        for parameter in parameters:
            if (gradient := self.sums.get(parameter)) is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            self.of_tables.add_to(parameter)
            if parameter.grad is not None:
                norms.append(torch.linalg.vector_norm(parameter.grad))
        return torch.stack(norms).norm()


def _is_alone(gradient: torch.Tensor, taken: set[int]) -> bool:
    """Whether it can be changed in place: not if two parameters have the same tensor, or parts of one."""
    memory = gradient.untyped_storage()
    place = memory.data_ptr()
    if place in taken:
        return False
    taken.add(place)
    return gradient.is_contiguous() and memory.nbytes() == gradient.nbytes


def _with_threads(number: int, work: Callable[[], Result]) -> Result:
    torch.get_num_threads()  # a thread gets the process's number at the first call; then its own can be set
    torch.set_num_threads(number)
    return work()


@lru_cache(maxsize=1)
def _second_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="second thread")
