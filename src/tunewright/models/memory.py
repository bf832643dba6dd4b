"""Keep freed memory in the process, in large pages: big tensors come and go with every micro-batch of training on a CPU.

glibc gives large blocks back to the system when they are freed; the next one is then mapped, faulted in page by page and zeroed
again, which is dear on a virtual machine. Here the allocator is asked to
keep what is freed in one heap, and the kernel to back that heap with 2 MB pages. No value changes.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h
_MADV_HUGEPAGE = 14  # mman.h
_LARGE_PAGE = 2 * 2**20
_LARGEST_RESERVE = 8 * 2**30


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Set glibc's allocator up for large tensors. True where it did (Linux with glibc), False elsewhere. Idempotent."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_TRIM_THRESHOLD, -1), (_M_MMAP_MAX, 0), (_M_ARENA_MAX, 1))
    accepted = [libc.mallopt(name, value) for name, value in settings]
    _use_large_pages(libc)
    return all(accepted)


def _use_large_pages(libc: ctypes.CDLL) -> None:
    """Stretch the heap, untouched, mark it for large pages, and give it back to the allocator: address space, not memory."""
    import psutil

    size = min(_LARGEST_RESERVE, psutil.virtual_memory().available // 2)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if not block:
        return
    start = -(-block // _LARGE_PAGE) * _LARGE_PAGE
    libc.madvise(start, (block + size - start) // _LARGE_PAGE * _LARGE_PAGE, _MADV_HUGEPAGE)
    libc.free(block)
