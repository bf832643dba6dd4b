"""A step computed by two threads, each for half of its rows, with half of torch's threads.

A step of a small model is thousands of short operations. Threads that share each of them meet and wait after every one, and what
runs between them (Python, memory, small copies) runs on one. Two halves of the rows meet once a step, and each has a heap of its own.

    first, second = halve(lengths)
    computed = run_both_backward(lambda backward: compute(first, backward), lambda backward: compute(second, backward), parameters)

The model is there once. The second thread's gradient stands in a `GradientBuffer`, and is added when both are done, by both threads:
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
"""After so long a thread that wants the interpreter is given it. Both want it for moments, thousands of times a step; Python's 5 ms cost 1 %."""
_BY_PARAMETER = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adafactor)


def run_both_backward(
    first: Callable[[Backward], Result], second: Callable[[Backward], Result], parameters: Iterable[nn.Parameter]
) -> tuple[Result, Result, torch.Tensor]:
    """What both return, and the norm of the whole gradient. Each is given what it calls, in place of `loss.backward()`, to add a loss's gradient.

    `first` runs in the calling thread. What either raises is raised when both have ended.
    """
    buffer = GradientBuffer([parameter for parameter in parameters if parameter.requires_grad])
    mine, others = run_both(lambda: first(torch.Tensor.backward), lambda: second(buffer.backward))
    norms = run_both(*(partial(buffer.add_to, share) for share in shares(buffer.parameters)))
    return mine, others, torch.stack(norms).norm()


def run_both(first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
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


Piece = TypeVar("Piece")


def map_on_two_threads(pieces: Sequence[Piece], compute: Callable[[Piece], Result]) -> list[Result]:
    """What `compute` gives of each piece, in order, two at a time with half of the threads each. Whoever is free takes the next one.

    What either raises ends both behind the piece that they are at, and is raised.
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
    """Positions into `lengths` in two parts, the one of fewer tokens first; up to 32 rows no other two parts are closer.

    Of more rows the 32 longest are parted so, and the others, longest first, each go to the part that is smaller by then.
    """
    order = np.argsort(-lengths, kind="stable").tolist()
    longest, others = order[:_HALVED_EXACTLY], order[_HALVED_EXACTLY:]
    sums = [1]  # bit n of sums[k]: some of the first k rows have n tokens together
    for position in longest:
        sums.append(sums[-1] | sums[-1] << int(lengths[position]))
    half = int(lengths[longest].sum()) // 2
    left = (sums[-1] & ((2 << half) - 1)).bit_length() - 1  # the most tokens that are no more than half
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
    """About half of the numbers in each."""
    dealt: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    sizes = [0, 0]
    for parameter in sorted(parameters, key=torch.Tensor.numel, reverse=True):
        fewer = int(sizes[1] < sizes[0])
        dealt[fewer].append(parameter)
        sizes[fewer] += parameter.numel()
    return dealt


class SharedOptimizer:
    """An optimizer's step taken by both threads, each for its share of the parameters. The numbers are those of `optimizer.step()`.

    The two threads that computed the gradient do it, not OpenMP's: theirs spin for a moment on the cores that the next step wants.
    """

    @staticmethod
    def can_share(optimizer: torch.optim.Optimizer) -> bool:
        """Is it one that looks at each parameter by itself, and does nobody else wait for its steps? Others may need all at once."""
        hooks = (*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks)
        return type(optimizer) in _BY_PARAMETER and not hooks

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._whole = optimizer
        self._of_shares = [
            _of_share(optimizer, share)
            for share in shares(p for group in optimizer.param_groups for p in group["params"])
        ]

    def step_and_clear(self) -> None:
        """The step with the rates and the scale that the whole optimizer has now; then the gradients are zeros."""
        for one in self._of_shares:
            one.grad_scale = getattr(self._whole, "grad_scale", None)  # type: ignore[attr-defined]
            for group, now in zip(one.param_groups, self._whole.param_groups, strict=True):
                group.update(now | {"params": group["params"]})
        run_both(*(partial(_step_and_clear, one) for one in self._of_shares))


def _of_share(optimizer: torch.optim.Optimizer, share: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The same optimizer, with the same state, of these parameters only."""
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
    """Sums of gradients beside those in `parameter.grad`."""

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
    return ThreadPoolExecutor(1, thread_name_prefix="second thread")
