"""The heap keeps what is freed, and gives its holes back once they hold more than is used."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HOLES = """
import psutil, torch
from tunewright.execution.cpu import memory

assert not memory.give_back_fragments()  # the allocator is as it was
assert memory.keep_freed_memory()
memory._TOLERATED_HOLES = 2**26
held = lambda: psutil.Process().memory_info().rss / 2**20



def leave_holes(number):
    blocks = [torch.ones(2**20 + 4096 * n) for n in range(number)]  # 4 MB and a little more each time
    return blocks[::8]


used = [torch.ones(2**20 + 4096 * n) for n in range(50)]
assert not memory.give_back_fragments()  # all of it is used
kept = leave_holes(200)
full = held()
assert not memory.give_back_fragments()  # what the first step frees
assert held() > full - 10

del kept
kept = leave_holes(200)  # a step like the one before
assert not memory.give_back_fragments()
kept += leave_holes(500)  # one that needs much more
full = held()
assert memory.give_back_fragments()
assert full - held() > 500, (full, held())
assert all(bool((block == 1).all()) for block in kept)
assert not memory.give_back_fragments()
del kept
kept = leave_holes(500)
assert [memory.give_back_fragments() for _ in range(100)] == [False] * 98 + [True, False]
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_holes_are_given_back():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


THREADS = """
import resource, threading, torch
from tunewright.execution.cpu import memory

assert memory.keep_freed_memory()
torch.set_num_threads(1)  # another one would take its share of the faults
faults = lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
found, sizes = [], [2**20 + 4096 * n for n in range(40)]  # 4 MB and a little more each: 160 MB, several parts of a heap


def compute():
    for _ in range(5):
        before = faults()
        del [torch.ones(size) for size in sizes][:]
        found.append(faults() - before)


def work():
    compute()
    mine.append(torch.empty(2**20).data_ptr())


mine = [torch.empty(2**20).data_ptr()]
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert sum(found[1:]) < found[0] / 5, found  # given back they would be faulted in again
assert found[-1] < 1_000, found
assert abs(mine[1] - mine[0]) > 8 * 2**30, mine  # another heap
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_a_thread_keeps_what_it_frees_in_a_heap_of_its_own():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
