"""Do the readers ever change a row in silence, or end by a traceback or a signal, whatever stands in a file?

    python benchmarks/fuzz_readers.py [--minutes 60] [--files 0] [--seed 0] [--only columnar]

Each file is drawn from (seed, number). Its rows are written by somebody else's writer and read by us in a child process:
  whole     every value must come back exactly, in order, or be asked about
  damaged   bytes flipped, cut, moved, lengths and offsets exchanged: told, or rows and rejects, in seconds; nothing else
A number that failed is printed; `--seed S --only KIND --from N --files 1` draws the same file again. Ends with 1 where something failed.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import io
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SLOW_SECONDS = 5.0
MOST_MEGABYTES = 2_000
_INT32 = (0, 1, -1, -5, 3, 7, 100, 255, 2**16, 2**30, 2**31 - 1, -(2**31))
_INT64 = (0, 1, -1, -8, 8, 2**33, 2**40, 2**62, 2**63 - 1, -(2**63))


class Failure(Exception):
    """What a reader must not do."""


# Damage


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with one to sixteen faults."""
    content = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        _hurt(content, rng)
        if not content:
            content += b"x"
    return bytes(content)


def _hurt(content: bytearray, rng: random.Random) -> None:
    at, kind = rng.randrange(len(content)), rng.random()
    if kind < 0.35:
        content[at] ^= 1 << rng.randrange(8)
    elif kind < 0.45:
        content[at] = rng.randrange(256)
    elif kind < 0.75:
        _overwrite(content, at & ~3, struct.pack("<i", rng.choice((*_INT32, rng.randrange(-(2**31), 2**31)))))
    elif kind < 0.85:
        _overwrite(content, at & ~7, struct.pack("<q", rng.choice((*_INT64, rng.randrange(2**20)))))
    elif kind < 0.9:
        del content[at : at + rng.randrange(1, 64)]
    elif kind < 0.93:
        content[at:at] = rng.randbytes(rng.randrange(1, 16))
    elif kind < 0.96:
        other, size = rng.randrange(len(content)), rng.randrange(1, 64)
        content[at : at + size] = content[other : other + size]
    else:
        del content[at:]


def _overwrite(content: bytearray, at: int, word: bytes) -> None:
    if at + len(word) <= len(content):
        content[at : at + len(word)] = word


# Columnar files


def columnar_tables() -> list[Any]:
    """Tables that together have every type a data set may have."""
    import pyarrow as pa

    words = pa.table({"text": ["a b", "c d é"] * 20, "label": ["x", "y"] * 20})
    tagged = pa.table(
        {"tokens": [["Ulm", "liegt"]] * 50, "ner_tags": [[1, 0]] * 50, "text": ["longer text here " * 10] * 50}
    )
    times = [datetime.datetime(2020, 1, 1), None, datetime.datetime(2021, 1, 1)]
    columns: dict[str, Any] = {
        "text": ["a", None, "ü"] * 30,
        "n": pa.array([1, None, 3] * 30, pa.int64()),
        "tags": [["a", "b"], [], None] * 30,
        "coded": pa.array(["p", "q", "p"] * 30).dictionary_encode(),
        "struct": [{"a": "x", "b": 1}, None, {"a": None, "b": 2}] * 30,
        "float": [1.5, 2.5, None] * 30,
        "bool": [True, None, False] * 30,
        "time": times * 30,
        "span": [datetime.timedelta(1), None, datetime.timedelta(2)] * 30,
        "decimal": [decimal.Decimal("1.25"), None, decimal.Decimal("3.50")] * 30,
        "bytes": [b"\xff", b"a", None] * 30,
        "turns": [[{"role": "user", "content": "hi"}], [{"role": "a", "content": "yo"}], []] * 30,
        "large": pa.array(["l", None, "m"] * 30, pa.large_string()),
        "large_list": pa.array([["q"], None, []] * 30, pa.large_list(pa.string())),
        "pairs": pa.array([[1, 2], [3, 4], None] * 30, pa.list_(pa.int32(), 2)),
        "map": pa.array([[("k", 1)], [], None] * 30, pa.map_(pa.string(), pa.int32())),
        "view": pa.array(["a view longer than twelve", "v", None] * 30, pa.string_view()),
        "coded_list": pa.array([["p"], ["q", "p"], None] * 30, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        "null": pa.nulls(90),
        "runs": pa.RunEndEncodedArray.from_arrays([30, 60, 90], ["r", "s", "t"]),
    }
    return [words, tagged, pa.table(columns)]


def columnar_files() -> list[tuple[str, bytes]]:
    """(name, content) of the tables as Arrow streams, Arrow files and Parquet, in all compressions."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: list[tuple[str, bytes]] = []
    for table in columnar_tables():
        for compression in (None, "lz4", "zstd"):
            options = pa.ipc.IpcWriteOptions(compression=compression)
            for new in (pa.ipc.new_stream, pa.ipc.new_file):
                sink = io.BytesIO()
                with new(sink, table.schema, options=options) as writer:
                    writer.write_table(table, max_chunksize=30)
                found.append(("a.arrow", sink.getvalue()))
        flat = table.drop_columns([name for name in table.column_names if name == "runs"])
        pages: tuple[dict[str, Any], ...] = (
            {}, {"data_page_version": "2.0"}, {"use_dictionary": False},
            {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}, {"store_schema": False},
        )  # fmt: skip
        for compression in ("none", "snappy", "zstd", "gzip"):
            for how in pages:
                sink = io.BytesIO()
                pq.write_table(flat, sink, compression=compression, row_group_size=30, **how)
                found.append(("a.parquet", sink.getvalue()))
    return found


class Columnar:
    """Damaged Arrow and Parquet."""

    def __init__(self) -> None:
        self.files = columnar_files()

    def try_one(self, rng: random.Random, folder: Path) -> str:
        name, raw = rng.choice(self.files)
        (folder / name).write_bytes(damaged(raw, rng))
        return told_or_rows(folder / name)


def told_or_rows(path: Path) -> str:
    """Reads a file that may be damaged: `told` or `rows`. Whatever else is raised is a failure of ours."""
    from tunewright.errors import UserError
    from tunewright.reading import open_source

    try:
        for row in open_source(str(path)).rows():
            repr(row)
    except UserError:
        return "told"
    return "rows"


KINDS: dict[str, Callable[[], Any]] = {"columnar": Columnar}


# The child process, and the one that watches it


def work(kind: str, seed: int, start: int, stop: int, seconds: float) -> None:
    """Tries the numbers from `start` on; says each before it is tried, so that a signal has a number."""
    begun, outcomes, tool = time.monotonic(), Counter[str](), KINDS[kind]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, stop):
            if time.monotonic() - begun > seconds:
                break
            print("try", number, flush=True)
            at = time.process_time()
            try:
                outcomes[tool.try_one(random.Random(f"{kind} {seed} {number}"), Path(folder))] += 1
            except Exception:
                outcomes["failed"] += 1
                print("failed", number, repr(traceback.format_exc()[-3000:]), flush=True)
            took = time.process_time() - at
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            if took > SLOW_SECONDS or peak > MOST_MEGABYTES:
                print("failed", number, repr(f"{took:.1f} s, {peak} MB"), flush=True)
                break
    print("end", number, repr(dict(outcomes)), flush=True)


def watch(kind: str, seed: int, start: int, stop: int, seconds: float) -> Iterator[str]:
    """Runs children over the numbers until the time is over; yields what failed, and at last a line of counts."""
    begun, outcomes = time.monotonic(), Counter[str]()
    while start < stop and (left := seconds - (time.monotonic() - begun)) > 0:
        words = [kind, str(seed), str(start), str(min(stop, start + 5_000)), str(left)]
        child = subprocess.Popen(
            [sys.executable, __file__, "--work", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stderr is not None
        ended = False
        for line in child.stdout:
            what, number, *rest = line.split(maxsplit=2)
            start = int(number) + 1
            if what == "failed":
                yield f"{kind} {seed} {number}: {eval(rest[0])}"  # a repr of ours
            if what == "end":
                ended = True
                outcomes.update(eval(rest[0]))
        if child.wait() or not ended:
            outcomes["signals"] += 1
            yield f"{kind} {seed} {start - 1}: the child ended with {child.returncode}: {child.stderr.read()[-500:]}"
    yield f"{kind}: {dict(outcomes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--files", type=int, default=0, help="files of each kind; 0: as many as there is time for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="start", type=int, default=0)
    parser.add_argument("--only", choices=sorted(KINDS))
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        kind, *numbers, seconds = given.work
        work(kind, *map(int, numbers), float(seconds))
        return
    kinds = [given.only] if given.only else sorted(KINDS)
    failed = 0
    for kind in kinds:
        stop = given.start + given.files if given.files else 2**62
        for line in watch(kind, given.seed, given.start, stop, 60 * given.minutes / len(kinds)):
            print(line, flush=True)
            failed += not line.startswith(f"{kind}: ")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
