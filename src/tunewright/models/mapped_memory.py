"""Pages of memory-mapped weights, given back to the system once they were copied. Linux; elsewhere nothing happens.

mapped = mapped_files(".safetensors")      [(140_190_000_000, 140_190_090_912_256)]: addresses, from and up to
give_back(loaded, mapped)                  its pages need no memory any more; read again, they come from the file

Only pages of a file are given back: those of other memory would be empty afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import torch

_DONT_NEED = 4  # MADV_DONTNEED of Linux
Range = tuple[int, int]


def mapped_files(ending: str) -> list[Range]:
    """Where files of such a name are mapped into this process, as addresses."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].endswith(ending):
            start, _, end = words[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def give_back(loaded: torch.Tensor, mapped: list[Range]) -> None:
    """Let the system take the pages that lie wholly within a tensor which nobody reads any more."""
    if not sys.platform.startswith("linux") or not loaded.is_contiguous():
        return
    start = loaded.data_ptr()
    end = start + loaded.numel() * loaded.element_size()
    if any(first <= start and end <= last for first, last in mapped):
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONT_NEED)
