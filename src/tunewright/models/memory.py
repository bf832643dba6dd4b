"""Keep freed memory in the process, in large pages: big tensors come and go with every micro-batch of training on a CPU.

glibc gives large blocks back to the system when they are freed; the next one is then mapped, faulted in page by page and zeroed
again, which is dear on a virtual machine. Here the allocator is asked to
keep what is freed, and the kernel to back its heaps with 2 MB pages. No value changes.

    keep_freed_memory()            once, before a model is built
    keep_freed_memory_of_thread()  at the start of another thread that computes, before it asks for memory
    give_back_fragments()          after every step, acts seldom: blocks of ever other sizes leave holes that nothing fits into

A thread has a heap of its own: two that take turns at one lock wait for each other hundreds of times a step.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import psutil

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_MADV_HUGEPAGE = 14  # mman.h
_LARGE_PAGE = 2 * 2**20
_LARGEST_RESERVE = 8 * 2**30
_PART_OF_THREAD = 64 * 2**20
"""A thread's heap is made of parts of this size (glibc's HEAP_MAX_SIZE), and given back part by part unless padded by more."""
_HEADER = 64 * 2**10  # more than what a part and a block need for themselves
_LARGEST_THREAD_RESERVE = 2 * 2**30
_TOLERATED_HOLES = 2**30
_CALLS_BETWEEN, _GROWTH, _NOTICED_GROWTH = 100, 1.25, 1.02


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Set glibc's allocator up for large tensors. True where it did (Linux with glibc), False elsewhere. Idempotent."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 2 * _PART_OF_THREAD), (_M_MMAP_MAX, 0))
    accepted = [libc.mallopt(name, value) for name, value in settings]
    _use_large_pages(libc, [min(_LARGEST_RESERVE, psutil.virtual_memory().available // 2)])
    return all(accepted)


def keep_freed_memory_of_thread() -> None:
    """Large pages for the heap of the calling thread, too. Without `keep_freed_memory` there is nothing to do."""
    if keep_freed_memory.cache_info().currsize and keep_freed_memory():
        reserve = min(_LARGEST_THREAD_RESERVE, psutil.virtual_memory().available // 8)
        _use_large_pages(ctypes.CDLL(None), [_PART_OF_THREAD - _HEADER] * (reserve // _PART_OF_THREAD))


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
    return bool(trim(usage.at_end))  # what was reserved at the heap's end stays, with its large pages


def _usage() -> _Usage | None:
    if not keep_freed_memory.cache_info().currsize or not keep_freed_memory():
        return None
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)  # glibc 2.33
    if told is None:
        return None
    told.restype = _Usage
    return told()


def _use_large_pages(libc: ctypes.CDLL, sizes: Sequence[int]) -> None:
    """Stretch the heap by untouched blocks, mark them for large pages, and give them back to the allocator: address space, not memory."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    blocks = [(libc.malloc(size), size) for size in sizes]
    for block, size in blocks:
        if block:
            start = -(-block // _LARGE_PAGE) * _LARGE_PAGE
            libc.madvise(start, (block + size - start) // _LARGE_PAGE * _LARGE_PAGE, _MADV_HUGEPAGE)
    for block, _ in blocks:
        libc.free(block)
