"""Does the time and memory of every reader grow as the data do, and how fast is it beside a peer?

    python benchmarks/reading.py [--rounds 3] [--megabytes 5 20 80] [--only csv …]

Each format at each size in a process of its own; CPU seconds are the best of the rounds, so that other work on the machine counts
little. `growth` is how much more time the last size took than the first, over how much larger it is: 1.0 is linear, what lies
clearly above 1.2 is not. `peak` is the memory of the process at the last size beyond that of one that has imported the reader.
Peers: the csv and json modules, pandas, pyarrow and text files of Python, on the same files; theirs hold texts in memory or types
that they guess, ours are rows with line numbers, each checked.
Hard shapes have no peer: one huge line in a packed file, hundreds of thousands of columns or keys, a quote or a sentence that never ends.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import in_own_process, machine

MEGA = 1_000_000
_WORDS = [f"word{number}" for number in range(5_000)]


def texts(num_bytes: int) -> Iterator[str]:
    """Texts of 5 to 60 words, that many bytes in all."""
    generator, size = random.Random(0), 0
    while size < num_bytes:
        text = " ".join(generator.choices(_WORDS, k=generator.randrange(5, 60)))
        size += len(text)
        yield text


def _jsonl(path: Path, size: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps({"text": text, "label": "a"}) + "\n" for text in texts(size))


def _json(path: Path, size: int) -> None:
    path.write_text(json.dumps([{"text": text, "label": "a"} for text in texts(size)]))


def _table(delimiter: str, quote: bool) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        with path.open("w") as file:
            file.write(delimiter.join(("text", "label")) + "\n")
            for number, text in enumerate(texts(size)):
                cell = '"' + text.replace(" ", ' ""', 1) + '"" end"' if quote and number % 3 == 0 else text
                file.write(f"{cell}{delimiter}a\n")

    return write


def _text(path: Path, size: int) -> None:
    with path.open("w") as file:
        file.writelines(text + "\n" for text in texts(size))


def _conll(path: Path, size: int) -> None:
    with path.open("w") as file:
        for text in texts(size):
            file.writelines(f"{word} O\n" for word in text.split())
            file.write("Ulm B-LOC\n\n")


def _words_table(path: Path, size: int) -> None:
    with path.open("w") as file:
        file.write("Sentence #,Word,Tag\n")
        for number, text in enumerate(texts(size)):
            file.writelines(f"Sentence: {number},{word},O\n" for word in text.split())
            file.write(f"Sentence: {number},Ulm,B-LOC\n")


def _doccano(path: Path, size: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps({"text": text, "label": [[0, 5, "A"]]}) + "\n" for text in texts(size))


def _label_studio(path: Path, size: int) -> None:
    value = {"start": 0, "end": 5, "labels": ["A"]}
    rows = [{"data": {"text": text}, "annotations": [{"result": [{"value": value}]}]} for text in texts(size)]
    path.write_text(json.dumps(rows))


def _columnar(path: Path, size: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": list(texts(size))})
    table = table.append_column("label", pa.array(["a"] * table.num_rows))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=1_000)


def _packed(inner: Callable[[Path, int], None]) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        import zstandard

        inner(path, size)
        raw = path.read_bytes()
        path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else zstandard.ZstdCompressor().compress(raw))

    return write


def _one_line(path: Path, size: int) -> None:
    path.write_bytes(b'{"text": "' + b"x " * (size // 2) + b'"}\n{"text": "b"}\n')


def _wide_table(path: Path, size: int) -> None:
    num = size // 40
    rows = ["text,label," + ",".join(f"c{number}" for number in range(num))]
    rows += ["a b,x," + ",".join(["some cell"] * num) for _ in range(3)]
    path.write_text("\n".join(rows) + "\n")


def _wide_json(path: Path, size: int) -> None:
    num = size // 60
    row = json.dumps({"text": "a b", **{f"k{number}": "some value" for number in range(num)}})
    path.write_text(f"{row}\n" * 3)


def _deep_json(path: Path, size: int) -> None:
    path.write_text("[" + '{"a":' * (size // 6) + "1" + "}" * (size // 6) + "]")


def _open_quote(path: Path, size: int) -> None:
    path.write_text('text,label\n"a quote that never closes,x\n' + 'a ""word"",x\n' * (size // 13))


def _open_sentence(path: Path, size: int) -> None:
    path.write_text("Ulm B-LOC\n" * (size // 10))


FORMATS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "jsonl": (".jsonl", _jsonl),
    "json": (".json", _json),
    "csv": (".csv", _table(",", False)),
    "csv-quoted": (".csv", _table(",", True)),
    "tsv": (".tsv", _table("\t", False)),
    "tsv-quoted": (".tsv", _table("\t", True)),
    "text": (".txt", _text),
    "conll": (".conll", _conll),
    "words-table": (".csv", _words_table),
    "doccano": (".jsonl", _doccano),
    "label-studio": (".json", _label_studio),
    "parquet": (".parquet", _columnar),
    "arrow": (".arrow", _columnar),
    "jsonl-gz": (".jsonl.gz", _packed(_jsonl)),
    "jsonl-zst": (".jsonl.zst", _packed(_jsonl)),
    "one-line-gz": (".jsonl.gz", _packed(_one_line)),
    "one-line-zst": (".jsonl.zst", _packed(_one_line)),
    "wide-table": (".csv", _wide_table),
    "wide-json": (".jsonl", _wide_json),
    "deep-json": (".json", _deep_json),
    "open-quote": (".csv", _open_quote),
    "open-sentence": (".conll", _open_sentence),
}


def _peer_json(path: Path) -> int:
    if path.suffix == ".json":
        return len(json.loads(path.read_text()))
    with path.open() as file:
        return sum(1 for line in file if json.loads(line))


def _peer_csv(path: Path) -> int:
    import csv

    with path.open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def _peer_pandas(path: Path) -> int:
    import pandas

    return len(pandas.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False))


def _peer_text(path: Path) -> int:
    with path.open() as file:
        return sum(1 for _ in file)


def _peer_arrow(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return len(pq.read_table(path).to_pylist())
    with pa.memory_map(str(path)) as file:
        return len(pa.ipc.open_stream(file).read_all().to_pylist())


def _peer_gzip(path: Path) -> int:
    with gzip.open(path, "rt") as file:
        return sum(1 for line in file if json.loads(line))


PEERS: dict[str, tuple[str, Callable[[Path], int]]] = {
    **dict.fromkeys(("jsonl", "json", "doccano", "label-studio"), ("json", _peer_json)),
    **dict.fromkeys(("csv", "tsv", "words-table"), ("csv", _peer_csv)),
    **dict.fromkeys(("csv-quoted", "tsv-quoted"), ("pandas", _peer_pandas)),
    **dict.fromkeys(("text", "conll"), ("open()", _peer_text)),
    **dict.fromkeys(("parquet", "arrow"), ("pyarrow", _peer_arrow)),
    "jsonl-gz": ("gzip, json", _peer_gzip),
}


def ours(path: Path) -> int:
    from tunewright.reading import ReadOptions, open_source

    return sum(1 for _ in open_source(str(path), ReadOptions(max_row_bytes=2**30)).rows())


def one(who: str, name: str, path: str) -> dict[str, float]:
    """Reads the file once; CPU seconds, rows and the memory it took beyond the imports."""
    if who == "ours":
        import tunewright.reading.formats.columnar
        import tunewright.reading.formats.json_array  # noqa: F401

    read = ours if who == "ours" else PEERS[name][1]
    if Path(path).suffix in (".parquet", ".arrow"):
        import pyarrow.parquet  # noqa: F401
    before, begun = most_megabytes(), time.process_time()
    rows = read(Path(path))
    took = time.process_time() - begun
    return {"seconds": took, "rows": rows, "megabytes": most_megabytes() - before}


def most_megabytes() -> float:
    """The peak of this process alone: `ru_maxrss` keeps that of the one which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def best(who: str, name: str, path: Path, rounds: int) -> dict[str, float]:
    runs = [in_own_process(__file__, "--one", who, name, str(path)) for _ in range(rounds)]
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[5, 20, 80])
    parser.add_argument("--only", nargs="+", choices=sorted(FORMATS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    print(machine(), file=sys.stderr)
    sizes = " | ".join(f"{size:g} MB" for size in given.megabytes)
    print(f"| format | MB/s at {sizes} | growth | peak | peer | times its speed |")
    print("|---|" + "---|" * (len(given.megabytes) + 4))
    for name in given.only or FORMATS:
        suffix, write = FORMATS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{suffix}"
            runs, peer = [], None
            for size in given.megabytes:
                write(path, int(size * MEGA))
                runs.append(best("ours", name, path, given.rounds))
            if name in PEERS:
                peer = best("peer", name, path, given.rounds)
        growth = (runs[-1]["seconds"] / runs[0]["seconds"]) / (given.megabytes[-1] / given.megabytes[0])
        speeds = " | ".join(f"{size / run['seconds']:.0f}" for size, run in zip(given.megabytes, runs, strict=True))
        beside = f"{PEERS[name][0]} | {peer['seconds'] / runs[-1]['seconds']:.2f}" if peer else "- | -"
        print(f"| {name} | {speeds} | {growth:.2f} | {runs[-1]['megabytes']:.0f} MB | {beside} |", flush=True)


if __name__ == "__main__":
    main()
