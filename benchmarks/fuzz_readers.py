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


# Whole files, written by others


_LETTERS = (
    "a",
    "b ",
    "é",
    "中",
    "😀",
    "\u2028",
    "\x85",
    "\ufeff",
    "\x0b",
    "'",
    "\\",
    "#",
    "|",
    ";",
    ",",
    "\t",
    '"',
    '""',
    "\n",
    "\r\n",
    "\r",
)
_CELLS = (
    "",
    "NA",
    "null",
    "007",
    "1e5",
    "2024-01-01",
    "True",
    "-",
    " a ",
    "=1+1",
    'he said "hi"',
    '"quoted"',
    "a, b",
    "[1, 2]",
    "{}",
)


def a_text(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(_CELLS)
    if kind < 0.6:
        return "plain words here and there "[: rng.randrange(1, 27)]
    return "".join(rng.choices(_LETTERS, k=rng.randrange(1, 12)))


def a_value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value."""
    kind = rng.random()
    if kind < 0.5 or depth > 2:
        return a_text(rng)
    if kind < 0.7:
        return rng.choice((None, True, False, 0, -1, 2**53 + 1, 10**30, 1.5, -0.0, 1e-300, 0.1))
    if kind < 0.85:
        return [a_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {a_text(rng): a_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def packed(content: bytes, path: Path, rng: random.Random) -> Path:
    """Writes the content plainly, as gzip or as zstd; gives the file."""
    import gzip

    import zstandard

    kind = rng.choice(("", "", ".gz", ".zst"))
    path = path.with_name(path.name + kind)
    if kind:
        content = gzip.compress(content, 1) if kind == ".gz" else zstandard.ZstdCompressor().compress(content)
    path.write_bytes(content)
    return path


def same_or_asked(path: Path, want: list[Any], **options: Any) -> str:
    """Reads a whole file: `same` where every row is what was written, `asked` where it is a question; else Failure."""
    from tunewright.errors import UserError
    from tunewright.reading import ReadOptions, open_source
    from tunewright.records import Row

    try:
        rows = list(open_source(str(path), ReadOptions(**options)).rows())
    except UserError as error:
        if path.name.startswith("a.tsv") and "data.quoting" in str(error):
            return "asked"
        raise Failure(f"{path.name} is refused: {error}") from None
    got = [row.fields if isinstance(row, Row) else row for row in rows]
    if repr(got) != repr(want):  # repr tells 1 from True and 1.0, and -0.0 from 0.0
        first = next((pair for pair in zip(got, want, strict=False) if repr(pair[0]) != repr(pair[1])), None)
        raise Failure(f"{path.name}: {len(got)} rows of {len(want)}; the first that differs: {first!r:.1500}")
    return "same"


class Objects:
    """Rows of any JSON values: the json module, pandas and pyarrow write them as lines, lists, Parquet and Arrow."""

    def write(self, rng: random.Random, folder: Path) -> tuple[Path, list[Any]]:
        import json

        keys = [f"k{number}" for number in range(rng.randrange(1, 4))]
        rows = [{"text": a_text(rng), **{key: a_value(rng) for key in keys}} for _ in range(rng.randrange(1, 30))]
        ascii_only = rng.random() < 0.5
        if rng.random() < 0.5:
            end = rng.choice(("\n", "\r\n"))
            lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
            text, name = end.join(lines) + rng.choice(("", end)), "a.jsonl"
        else:
            listed: Any = rows if rng.random() < 0.7 else {"version": 1, "data": rows}
            text, name = json.dumps(listed, ensure_ascii=ascii_only, indent=rng.choice((None, None, 1))), "a.json"
        mark = rng.choice(("", "", "\ufeff"))
        return packed((mark + text).encode(), folder / name, rng), rows

    def try_one(self, rng: random.Random, folder: Path) -> str:
        return same_or_asked(*self.write(rng, folder))


class Tables:
    """Cells of any text: the csv module in its dialects, pandas and pyarrow write them."""

    def write(self, rng: random.Random, folder: Path) -> tuple[Path, list[Any], dict[str, Any]]:
        import csv

        delimiter = rng.choice((",", ",", "\t", "\t", ";"))
        labels = ("x", "y", "z z")
        late = rng.random() < 0.3
        num_rows = rng.choice((3, 10, 50, 1_200 if late else 30))
        rows = [
            [a_text(rng) if not late or number > num_rows - 20 else f"plain row {number}", rng.choice(labels)]
            for number in range(num_rows)
        ]
        writer, end = rng.choice(("csv", "all", "pandas", "pyarrow")), rng.choice(("\n", "\r\n"))
        if writer in ("csv", "pandas"):  # a return that is not quoted would belong to the line end, or end the line
            rows = [[text.replace("\r", ""), label] for text, label in rows]
        sink = io.StringIO(newline="")
        if writer in ("csv", "all"):
            quoting = csv.QUOTE_ALL if writer == "all" else csv.QUOTE_MINIMAL
            csv.writer(sink, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(
                [["text", "label"], *rows]
            )
        elif writer == "pandas":
            import pandas

            pandas.DataFrame(rows, columns=["text", "label"]).to_csv(
                sink, sep=delimiter, index=False, lineterminator=end
            )
        else:
            import pyarrow as pa
            import pyarrow.csv

            binary, columns = io.BytesIO(), list(zip(*rows, strict=True))
            table = pa.table({"text": list(columns[0]), "label": list(columns[1])})
            pyarrow.csv.write_csv(table, binary, pyarrow.csv.WriteOptions(delimiter=delimiter))
            sink.write(binary.getvalue().decode())
        encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))
        options = {"encoding": encoding} if encoding == "utf-16" else {}
        name = "a.tsv" if delimiter == "\t" else "a.csv"
        path = packed(sink.getvalue().encode(encoding), folder / name, rng)
        return path, [dict(zip(("text", "label"), row, strict=True)) for row in rows], options

    def try_one(self, rng: random.Random, folder: Path) -> str:
        path, rows, options = self.write(rng, folder)
        return same_or_asked(path, rows, **options)


class Shards:
    """Columns of texts, numbers, lists and structs that pyarrow writes as Parquet, Arrow streams and Arrow files."""

    def write(self, rng: random.Random, folder: Path) -> tuple[Path, list[Any]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        num = rng.choice((1, 10, 1_500))
        drawn: dict[str, Callable[[], Any]] = {
            "text": lambda: a_text(rng),
            "number": lambda: rng.choice((0, -1, 2**62)),
            "float": lambda: rng.choice((0.5, -0.0, 1e300)),
            "flag": lambda: rng.random() < 0.5,
            "list": lambda: [a_text(rng) for _ in range(rng.randrange(3))],
            "turns": lambda: [{"role": "user", "content": a_text(rng)} for _ in range(rng.randrange(3))],
        }
        names = ["text", *rng.sample(list(drawn)[1:], rng.randrange(len(drawn)))]
        rows = [
            {name: drawn[name]() if name == "text" or rng.random() < 0.9 else None for name in names}
            for _ in range(num)
        ]
        table = pa.table({name: [row[name] for row in rows] for name in names})
        path = folder / rng.choice(("a.parquet", "a.arrow"))
        sink = io.BytesIO()
        if path.suffix == ".parquet":
            how = rng.choice(("none", "snappy", "zstd"))
            pq.write_table(table, sink, compression=how, row_group_size=rng.choice((3, 1_000)))
        else:
            new = rng.choice((pa.ipc.new_stream, pa.ipc.new_file))
            options = pa.ipc.IpcWriteOptions(compression=rng.choice((None, "lz4", "zstd")))
            with new(sink, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=rng.choice((7, 1_000)))
        return packed(sink.getvalue(), path, rng), rows

    def try_one(self, rng: random.Random, folder: Path) -> str:
        return same_or_asked(*self.write(rng, folder))


class Sentences:
    """Words and tags as CoNLL, by tabs or blanks."""

    def write(self, rng: random.Random, folder: Path) -> tuple[Path, list[Any]]:
        words = ("Ulm", "liegt", "é", "中", '"', "#", "O", ",", "B-LOC", "'s", "...", "\u2028x")
        tags = ("O", "O", "O", "B-LOC", "I-LOC", "B-PER")
        rows = [
            [(rng.choice(words), rng.choice(tags)) for _ in range(rng.randrange(1, 9))]
            for _ in range(rng.randrange(5, 30))
        ]
        rows[0] = [("Ulm", "B-LOC"), ("liegt", "O"), ("hier", "O")]
        between, end = rng.choice("\t "), rng.choice(("\n", "\r\n"))
        lines = (f"{word}{between}{tag}{end}" if word else end for row in rows for word, tag in [*row, ("", "")])
        path = packed("".join(lines).encode(), folder / "a.conll", rng)
        return path, [{"tokens": [word for word, _ in row], "ner_tags": [tag for _, tag in row]} for row in rows]

    def try_one(self, rng: random.Random, folder: Path) -> str:
        return same_or_asked(*self.write(rng, folder))


class Damaged:
    """Any of the files above, with faults."""

    def __init__(self) -> None:
        self.kinds = (Objects(), Tables(), Shards(), Sentences())

    def try_one(self, rng: random.Random, folder: Path) -> str:
        path = rng.choice(self.kinds).write(rng, folder)[0]
        path.write_bytes(damaged(path.read_bytes(), rng))
        return told_or_rows(path)


KINDS: dict[str, Callable[[], Any]] = {
    "columnar": Columnar, "damaged": Damaged, "objects": Objects, "sentences": Sentences, "shards": Shards, "tables": Tables,
}  # fmt: skip


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
