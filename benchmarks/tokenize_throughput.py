"""How fast does text become a token store, beside datasets.Dataset.map, and are the ids the same?

    python benchmarks/tokenize_throughput.py [--rounds 3] [--tokenizers bert-base-uncased gpt2 …] [--megabytes 7 100]

  prepare   TextEncoder.encode_rows and SplitWriter: what `tunewright prepare` does with a text once it is read
  map       Dataset.map, batched, the fast tokenizer asked for nothing but input_ids
  map2      the same with num_proc=2
  batch     encode_batch_fast of the tokenizers library: ids as Python lists, nothing is written

Texts: the 5,000 IMDB reviews as they are (7 MB), and IMDB, wikitext2, gsm8k and tinyshakespeare together, their sentences drawn
again and again into documents of about 1,300 characters until the size is reached; in every tenth sentence one word is glued
from the halves of two others, so that new words keep coming as they do in real text. Every variant reads the same Arrow file in a
fresh process; at most 512 tokens a row. Each tokenizer is warmed up on 20 rows, loading it is not counted; a memo starts cold.
Ids are compared with those of `map`, all of them. Peak memory is that of the process and of its children, imports and input included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, imdb, in_own_process, machine

VARIANTS = ("prepare", "map", "map2", "batch")
TOKENIZERS = ("bert-base-uncased", "gpt2", "llama3", "qwen3", "t5")
MAX_LENGTH = 512
ROWS = 1_024
WARM_UP = 20


def corpus(megabytes: int) -> Iterator[str]:
    """Documents of that many megabytes in all. Up to 7: IMDB reviews as they are."""
    reviews = [row["text"] for row in imdb(5_000)]
    if megabytes <= 7:
        yield from reviews
        return
    documents = [*reviews, (DATA / "text/tinyshakespeare.txt").read_text(encoding="utf-8")]
    for path in ("text/wikitext2_valid.jsonl", "text/wikitext2_test.jsonl", "instruction/gsm8k_train_3000.jsonl"):
        for line in (DATA / path).read_text(encoding="utf-8").split("\n")[:-1]:
            documents.append(" ".join(json.loads(line).values()))
    sentences = [one for text in documents for one in re.split(r"(?<=[.!?\n])(?=\s)", text) if one]
    generator, size = random.Random(0), 0
    while size < megabytes * 1_000_000:
        drawn = [_varied(generator.choice(sentences), sentences, generator) for _ in range(14)]
        text = "".join(drawn).strip()
        size += len(text.encode())
        yield text


def _varied(sentence: str, sentences: list[str], generator: random.Random) -> str:
    words = sentence.split(" ")
    if generator.random() < 0.1:
        place, other = generator.randrange(len(words)), generator.choice(generator.choice(sentences).split(" "))
        words[place] = words[place][: len(words[place]) // 2] + other[len(other) // 2 :]
    return " ".join(words)


def write_corpus(path: Path, megabytes: int) -> tuple[int, int]:
    """(rows, bytes of text)"""
    import pyarrow as pa

    num_rows = num_bytes = 0
    texts = corpus(megabytes)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.schema([("text", pa.string())])) as writer:
        while batch := list(itertools.islice(texts, ROWS)):
            writer.write_batch(pa.record_batch({"text": batch}))
            num_rows, num_bytes = num_rows + len(batch), num_bytes + sum(len(text.encode()) for text in batch)
    return num_rows, num_bytes


def batches(path: Path) -> Iterator[list[str]]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            yield batch["text"].to_pylist()


def run_prepare(tokenizer: str, path: Path, folder: Path) -> Callable[[], Any]:
    from tunewright.batching.store import SplitWriter, finish_store
    from tunewright.pretrained.model_files import ModelFolder
    from tunewright.tokenization.encoder import load_encoder

    encoder = load_encoder(ModelFolder(tokenizer, DATA / "tokenizers" / tokenizer), max_length=MAX_LENGTH)
    encoder.encode(next(batches(path))[:WARM_UP])

    def work() -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        writer = SplitWriter(folder, "train", {}, type_ids=encoder.gives_type_ids(pair=False))
        begin = 0
        for texts in batches(path):
            row_ids = np.arange(begin, begin + len(texts))
            begin += len(texts)
            weights, sources = np.ones(len(texts), np.float32), np.zeros(len(texts), np.int16)
            writer.write(encoder.encode_rows(texts), row_ids=row_ids, sources=sources, lines=row_ids, weights=weights)
        writer.flush()
        store = finish_store(folder, "benchmark", {"train": writer.shards}, {"sources": ["benchmark"]})
        assert encoder.difference is None
        return lambda: _flat(store["train"].column("input_ids"))

    return work


def run_map(tokenizer: str, path: Path, folder: Path, num_proc: int | None = None) -> Callable[[], Any]:
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    plain = AutoTokenizer.from_pretrained(DATA / "tokenizers" / tokenizer)
    rows = datasets.Dataset.from_file(str(path))
    options = {
        "truncation": True, "max_length": MAX_LENGTH, "split_special_tokens": True, "return_attention_mask": False,
        "return_token_type_ids": False,
    }  # fmt: skip
    plain(rows[:WARM_UP]["text"], **options)

    def encode(batch: dict[str, list[str]]) -> Any:
        return plain(batch["text"], **options)

    def work() -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        done = rows.map(
            encode, batched=True, remove_columns=["text"], num_proc=num_proc, cache_file_name=str(folder / f"map{num_proc}.arrow"), load_from_cache_file=False,
            features=datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))}),
        )  # fmt: skip
        return lambda: _flat(done.data.column("input_ids"))

    return work


def run_batch(tokenizer: str, path: Path, folder: Path) -> Callable[[], Any]:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(DATA / "tokenizers" / tokenizer).backend_tokenizer
    plain.no_padding()
    plain.enable_truncation(MAX_LENGTH)
    plain.encode_special_tokens = True
    plain.encode_batch_fast(next(batches(path))[:WARM_UP])

    def work() -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        parts = []
        for texts in batches(path):
            ids = [encoding.ids for encoding in plain.encode_batch_fast(texts)]
            lengths = np.array([len(one) for one in ids])
            parts.append((np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(lengths.sum())), lengths))
        return lambda: tuple(np.concatenate(some) for some in zip(*parts, strict=True))

    return work


def _flat(column: Any) -> tuple[np.ndarray, np.ndarray]:
    chunks = [(chunk.flatten().to_numpy(), chunk.value_lengths().to_numpy()) for chunk in column.chunks]
    ids, lengths = (np.concatenate(some) for some in zip(*chunks, strict=True))
    return ids, lengths


def measure(variant: str, tokenizer: str, path: Path, folder: Path) -> dict[str, float]:
    setups = {
        "prepare": run_prepare,
        "batch": run_batch,
        "map": run_map,
        "map2": lambda *words: run_map(*words, num_proc=2),
    }
    work = setups[variant](tokenizer, path, folder)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    result = work()
    seconds, of_cpu = time.perf_counter() - begin, cpu_seconds() - begin_cpu
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    ids, lengths = result()
    np.save(folder / f"{variant}-ids.npy", ids.astype(np.int32))
    np.save(folder / f"{variant}-lengths.npy", lengths.astype(np.int32))
    return {"seconds": seconds, "cpu_seconds": of_cpu, "tokens": len(ids), "peak_megabytes": peak}


def cpu_seconds() -> float:
    """Of this process with all its threads, and of its finished children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def num_different(folder: Path, variant: str) -> int:
    """Ids that differ from those of `map`; rows of other lengths count whole."""
    ids, lengths = (np.load(folder / f"{variant}-{name}.npy", mmap_mode="r") for name in ("ids", "lengths"))
    of_map, lengths_map = (np.load(folder / f"map-{name}.npy", mmap_mode="r") for name in ("ids", "lengths"))
    if len(lengths) == len(lengths_map) and (lengths == lengths_map).all():
        return int((ids != of_map).sum())
    return max(len(ids), len(of_map))


def compare(tokenizer: str, megabytes: int, rounds: int) -> None:
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "texts.arrow"
        num_rows, num_bytes = write_corpus(path, megabytes)
        different = dict.fromkeys(VARIANTS, 0)
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            for variant in ("map", *(one for one in VARIANTS if one != "map")):
                words = ("--variant", variant, "--tokenizers", tokenizer, "--path", str(path), "--folder", str(folder))
                runs[variant].append(in_own_process(__file__, *words))
                different[variant] += num_different(folder, variant)
    print(f"\n{tokenizer}: {num_rows:,} rows, {num_bytes / 1e6:.1f} MB")
    print(
        f"{'':10}{'MB/s, median (spread)':>26}{'tokens/s':>14}{'x map':>8}{'CPU s':>9}{'peak MB':>10}{'ids that differ':>17}"
    )
    seconds_of_map = statistics.median(run["seconds"] for run in runs["map"])
    for variant in VARIANTS:
        speeds = [num_bytes / 1e6 / run["seconds"] for run in runs[variant]]
        seconds = statistics.median(run["seconds"] for run in runs[variant])
        peak = max(run["peak_megabytes"] for run in runs[variant])
        print(
            f"{variant:10}{f'{statistics.median(speeds):.2f} ({min(speeds):.2f} - {max(speeds):.2f})':>26}{runs[variant][0]['tokens'] / seconds:>14,.0f}"
            f"{seconds_of_map / seconds:>8.2f}{statistics.median(run['cpu_seconds'] for run in runs[variant]):>9.2f}{peak:>10,.0f}{different[variant]:>17,}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizers", nargs="+", default=TOKENIZERS)
    parser.add_argument("--megabytes", nargs="+", type=int, default=[7, 100])
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options.tokenizers[0], options.path, options.folder)))
        return
    print(machine())
    for megabytes in options.megabytes:
        for tokenizer in options.tokenizers:
            compare(tokenizer, megabytes, options.rounds)


if __name__ == "__main__":
    main()
