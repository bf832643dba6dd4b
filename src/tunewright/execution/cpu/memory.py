"""Keep freed memory in the process: big tensors come and go with every micro-batch of training on a CPU.

glibc gives large blocks back to the system when they are freed; the next one is then mapped, faulted in page by page and zeroed
again, which is dear on a virtual machine. Here the allocator is asked to keep what is freed. No value changes.

    keep_freed_memory()      once, before a model is built
    give_back_fragments()    after every step, acts seldom: blocks of ever other sizes leave holes that nothing fits into

Pages are the system's own. Asked for 2 MB ones (madvise), a virtual machine gives those that its host took back long ago, and
clearing one takes 4.6 ms there instead of 0.7 for 512 small ones.
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
"""More than a part of a thread's heap (64 MB, glibc's HEAP_MAX_SIZE): padded by less, each part that is free is given back."""
_TOLERATED_HOLES = 2**30
_CALLS_BETWEEN, _GROWTH, _NOTICED_GROWTH = 100, 1.25, 1.02


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Set glibc's allocator up for large tensors. True where it did (Linux with glibc), False elsewhere. Idempotent."""
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = ((_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD), (_M_MMAP_MAX, 0))
    accepted = [ctypes.CDLL(None).mallopt(name, value) for name, value in settings]
    return all(accepted)


class _Usage(ctypes.Structure):
    """What glibc's mallinfo2 tells, in bytes: used, free in holes and at the end of the heap, free at its end."""

    _fields_: ClassVar[Any] = [
        (name, ctypes.c_size_t)
        for name in ("arena", "holes", "small", "mapped_blocks", "mapped", "x", "small_free", "used", "free", "at_end")
    ]


@dataclass
class _LastTime:
    held: int = 0  # bytes of the process when holes were first found, or last given back
    calls: int = 0  # since then
    most: int = 0  # bytes, the most there were when holes were counted


_last_time = _LastTime()


def give_back_fragments() -> bool:
    """Give the pages of the heap's holes back to the system, where the process holds a gigabyte more than it uses, and twice as much.

    A step needs again what the one before it freed, and pays for every page of it that was given back (a seventh of a step of
    16 reviews). So what the first such call finds is taken for a step's own, and pages are given back after a hundred calls, or
    when a quarter more is held; then not again until either holds once more.
    True where it did. Without `keep_freed_memory` there is nothing to do.
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
