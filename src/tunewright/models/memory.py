"""Keep freed memory in the process: large tensors come and go with every micro-batch of training on a CPU.

glibc returns blocks over 128 KB to the system when they are freed, and the next one is paged in and zeroed again. Asking it
to keep them is worth about a third of the time of an attention layer (`benchmarks/attention.py`); it changes no value.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more
_TRIM_THRESHOLD = 2**31 - 1


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tell glibc's allocator to reuse what is freed. True where it did (Linux with glibc), False elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))
