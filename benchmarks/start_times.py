"""How long does a prediction of one text take from the first import on, and what of it is the check of the files?

    python benchmarks/start_times.py [--rounds 5]

`tunewright predict` of one text on a run folder that nobody touched, and on a folder that was exported from it: the first call
(nothing is remembered of the files, every byte is hashed), a second call (their hashes are remembered), and with --no-check. Beside
them plain transformers: the same folder loaded and the text classified. Every call is a process of its own, the calls of a round
come in turn, and the table shows medians with the smallest and the largest: seconds by the clock, and of the processor, which
other work on the machine disturbs less.

The model is all-MiniLM-L6-v2 with a head (91 MB), trained for two steps. Each round begins with an empty memory of hashes, in a
cache folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from common import machine
from interrupted import SAMPLES

TEXT = "The parcel has not arrived, and nobody answers."
PLAIN = """
import sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
with torch.inference_mode():
    logits = model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0]
print(model.config.id2label[int(logits.argmax())])
"""
PIPELINE = """
import sys
from transformers import pipeline
folder, text = sys.argv[1:]
print(pipeline("text-classification", model=folder)(text)[0]["label"])
"""
TOKENIZER = """
import sys
from transformers import AutoTokenizer
folder, text = sys.argv[1:]
print(AutoTokenizer.from_pretrained(folder).tokenize(text))
"""


class Cost(NamedTuple):
    """Seconds by the clock, seconds of the processor, megabytes at the most."""

    clock: float
    cpu: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # In a process of its own: a process that is started counts what the one that starts it held at that moment.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
            run, exported = apart.submit(make_run, folder).result()
        seconds: dict[str, list[Cost]] = {}
        answers = set()
        for _ in range(asked.rounds):
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            for name, of in (("run folder", run), ("exported folder", exported)):
                ours = [sys.executable, "-m", "tunewright", "predict", str(of), TEXT, "--json"]
                calls = {
                    "first call": ours,
                    "second call": ours,
                    "--no-check": [*ours, "--no-check"],
                    "plain transformers": [sys.executable, "-c", PLAIN, str(model_of(of)), TEXT],
                    "plain pipeline": [sys.executable, "-c", PIPELINE, str(model_of(of)), TEXT],
                }
                for call, words in calls.items():
                    took, answer = timed(words, cache)
                    seconds.setdefault(f"{name} | {call}", []).append(took)
                    answers.add(answer)
            for call, words in other_verbs(run, folder).items():
                seconds.setdefault(f"run folder | {call}", []).append(timed(words, cache)[0])
        if len(answers) != 1:
            raise SystemExit(f"not one answer: {answers}")
        print(machine())
        print("\n| folder | call | seconds | of the processor | peak memory (MB) |\n|---|---|---:|---:|---:|")
        for call, found in seconds.items():
            clock, cpu, memory = zip(*found, strict=True)
            print(f"| {call} | {spread(clock)} | {spread(cpu)} | {max(memory):.0f} |")


def other_verbs(run: Path, folder: Path) -> dict[str, list[str]]:
    """Verbs that need no weights, beside what a tokenizer costs alone. `check` reads its file anew: its store is in a folder of its own."""
    shutil.rmtree(folder / "checked", ignore_errors=True)
    ours = [sys.executable, "-m", "tunewright"]
    checked = [*ours, "check", str(run / "config.yaml"), f"output={folder / 'checked' / 'run'}"]
    return {
        "check, no store": checked,
        "check, store there": checked,
        "tokenizer show": [*ours, "tokenizer", "show", TEXT, "--model", str(run)],
        "plain AutoTokenizer": [sys.executable, "-c", TOKENIZER, str(model_of(run)), TEXT],
    }


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def make_run(folder: Path) -> tuple[Path, Path]:
    """(a run, the folder exported from it)."""
    import tunewright as tw
    from tunewright.exporters import export

    data = folder / "data.jsonl"
    shutil.copy(SAMPLES / "customer_messages.jsonl", data)
    values = {
        "data": {"train": str(data), "max_length": 64}, "train": {"max_steps": 2},
        "evaluate": {"baselines": False}, "output": str(folder / "run"),
    }  # fmt: skip
    run = tw.train(values).folder
    exported = export(run, "merged", output=folder / "exported")
    time.sleep(3)  # what was written just now is not remembered: it could change within one tick of the clock
    return run, exported


def model_of(folder: Path) -> Path:
    return folder / "model" if (folder / "model").is_dir() else folder


def timed(words: list[str], cache: Path) -> tuple[Cost, str]:
    """(what the whole process cost, the label that it answered)."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as failed:
        process = subprocess.Popen(words, stdout=said, stderr=failed, env=environment)
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone: the maximum of all children would hide it
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - began
        for stream in (said, failed):
            stream.seek(0)
        if process.returncode not in (0, 1):  # 1: `check` has findings
            raise SystemExit(f"{' '.join(words)} failed:\n{failed.read()[-3000:]}")
        lines = said.read().strip().splitlines()
    answer = lines[-1] if lines else ""
    cost = Cost(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    return cost, str(json.loads(answer)["label"]) if answer.startswith("{") else answer


if __name__ == "__main__":
    main()
