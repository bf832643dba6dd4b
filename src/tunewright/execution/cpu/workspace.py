"""Memory that a thread uses again and again, and that therefore stays in its cache.

What is computed piece by piece (`execution/cpu/attention.py`) and not kept is written here: memory fresh from the heap was last used long
ago and has to be fetched first.
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
    """A contiguous CPU tensor with anything in it, valid until this thread asks for the slot again. Very large ones are not held."""
    view = _of_thread.views.get((slot, dtype, shape))  # most shapes come again in the next layer
    return _new_view(slot, shape, dtype) if view is None else view


def _new_view(slot: Slot, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = math.prod(shape)
    if size * dtype.itemsize > _MOST_BYTES:
        return torch.empty(shape, dtype=dtype)
    slots, views = _of_thread.slots, _of_thread.views
    held = slots.get((slot, dtype))
    with torch.inference_mode(False):  # what prediction made must do for training too
        if held is None or held.numel() < size:
            views.clear()  # they would keep the smaller memory
            held = slots[slot, dtype] = torch.empty(size, dtype=dtype)
        elif len(views) >= _MOST_VIEWS:
            views.clear()
        view = views[slot, dtype, shape] = held[:size].view(shape)
    return view


def in_dtype(dtype: torch.dtype, x: torch.Tensor, slot: Slot) -> torch.Tensor:
    """x itself, or a copy in scratch memory where it is of another dtype."""
    return x if x.dtype == dtype else scratch(slot, x.shape, dtype).copy_(x)
