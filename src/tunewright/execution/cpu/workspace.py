"""Memory that a thread reuses, so that it stays in the cache.

Temporary results of computations in pieces (`execution/cpu/attention.py`) are written here: newly allocated memory is not in the cache.
"""

from __future__ import annotations

import math
import threading

import torch

Slot = int | str
_MOST_BYTES = 16 << 20
_MOST_VIEWS = 256


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.slots: dict[tuple[Slot, torch.dtype], torch.Tensor] = {}
        self.views: dict[tuple[Slot, torch.dtype, tuple[int, ...]], torch.Tensor] = {}


_of_thread = _OfThread()


def scratch(slot: Slot, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A contiguous, uninitialized CPU tensor, valid until this thread requests the slot again. Very large ones are not kept."""
    view = _of_thread.views.get((slot, dtype, shape))  # most shapes recur in the next layer
    return _new_view(slot, shape, dtype) if view is None else view


def _new_view(slot: Slot, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = math.prod(shape)
    if size * dtype.itemsize > _MOST_BYTES:
        return torch.empty(shape, dtype=dtype)
    slots, views = _of_thread.slots, _of_thread.views
    held = slots.get((slot, dtype))
    with torch.inference_mode(False):  # memory allocated in prediction must be usable in training too
        if held is None or held.numel() < size:
            views.clear()  # they would keep the smaller buffer alive
            held = slots[slot, dtype] = torch.empty(size, dtype=dtype)
        elif len(views) >= _MOST_VIEWS:
            views.clear()
        view = views[slot, dtype, shape] = held[:size].view(shape)
    return view


def in_dtype(dtype: torch.dtype, x: torch.Tensor, slot: Slot) -> torch.Tensor:
    """x itself, or a copy in scratch memory if it has another dtype."""
    return x if x.dtype == dtype else scratch(slot, x.shape, dtype).copy_(x)
