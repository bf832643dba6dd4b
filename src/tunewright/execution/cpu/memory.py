"""Keep freed memory in the process: every micro-batch of training on a CPU allocates and frees large tensors.

glibc returns large blocks to the system when they are freed; the next one is then mapped, faulted in page by page and zeroed
again, which is slow on a virtual machine. Here the allocator is configured to keep freed memory. No value changes.

    keep_freed_memory()      once, before a model is built
    give_back_fragments()    after every step, but rarely acts: blocks of always different sizes leave holes in the heap

The page size is the system's default. With 2 MB pages (madvise), a virtual machine gets pages that its host had reclaimed, and
clearing one takes 4.6 ms instead of 0.7 ms for 512 small ones.
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import psutil

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_TOP_PAD = 2**27
"""More than a part of a thread's heap (64 MB, glibc's HEAP_MAX_SIZE): with less padding, each free part is returned to the system."""
_TOLERATED_HOLES = 2**30
_CALLS_BETWEEN, _GROWTH, _NOTICED_GROWTH = 100, 1.25, 1.02


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Configure glibc's allocator for large tensors. True if it did (Linux with glibc), False elsewhere. Idempotent."""
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = ((_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD), (_M_MMAP_MAX, 0))
    accepted = [ctypes.CDLL(None).mallopt(name, value) for name, value in settings]
    return all(accepted)


class _Usage(ctypes.Structure):
    """Values of glibc's mallinfo2, in bytes: used, free in holes and at the end of the heap, free at its end."""

    _fields_: ClassVar[Any] = [
        (name, ctypes.c_size_t)
        for name in ("arena", "holes", "small", "mapped_blocks", "mapped", "x", "small_free", "used", "free", "at_end")
    ]


@dataclass
class _LastTime:
    held: int = 0  # bytes of the process when holes were first found, or last returned
    calls: int = 0  # since then
    most: int = 0  # bytes, the largest value when holes were counted


_last_time = _LastTime()


def give_back_fragments() -> bool:
    """Return the pages of the heap's holes to the system, if the process holds a gigabyte more than it uses, and at least twice as much.

    A step uses the memory that the one before it freed, and has to fault in every page that was returned (a seventh of a step of
    16 reviews). So the holes found first are assumed to belong to a step, and pages are returned only after a hundred calls, or
    when a quarter more is held; then not again until one of these is the case once more.
    True if it did. Without `keep_freed_memory` there is nothing to do.
    """
    _last_time.calls += 1
    held = psutil.Process().memory_info().rss
    if held <= _TOLERATED_HOLES or (held <= _NOTICED_GROWTH * _last_time.most and _last_time.calls < _CALLS_BETWEEN):
        return False  # counting the holes takes milliseconds
    _last_time.most = held
    usage = _usage()
    if usage is None or held - usage.used <= max(_TOLERATED_HOLES, usage.used):
        _last_time.calls = 0
        return False
    if _last_time.calls < _CALLS_BETWEEN and held <= _GROWTH * _last_time.held:
        return False
    first = not _last_time.held
    _last_time.held, _last_time.calls = held, 0
    if first:
        return False
    trim = ctypes.CDLL(None).malloc_trim
    trim.argtypes = [ctypes.c_size_t]
    return bool(trim(usage.at_end))  # what is free at the heap's end stays


def _usage() -> _Usage | None:
    if not keep_freed_memory.cache_info().currsize or not keep_freed_memory():
        return None
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)  # glibc 2.33
    if told is None:
        return None
    told.restype = _Usage
    return told()
