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
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run, exported = make_run(folder)
        seconds: dict[str, list[tuple[float, float]]] = {}
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
                }
                for call, words in calls.items():
                    took, answer = timed(words, cache)
                    seconds.setdefault(f"{name} | {call}", []).append(took)
                    answers.add(answer)
        if len(answers) != 1:
            raise SystemExit(f"not one answer: {answers}")
        print(machine())
        print("\n| folder | call | seconds | of the processor |\n|---|---|---:|---:|")
        for call, found in seconds.items():
            print(f"| {call} | {spread([clock for clock, _ in found])} | {spread([cpu for _, cpu in found])} |")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def make_run(folder: Path) -> tuple[Path, Path]:
    """(a run, the folder exported from it)."""
    import tunewright as tw
    from tunewright.exporters import export_run

    data = folder / "data.jsonl"
    shutil.copy(SAMPLES / "customer_messages.jsonl", data)
    values = {
        "data": {"train": str(data), "max_length": 64}, "train": {"max_steps": 2},
        "evaluate": {"baselines": False}, "output": str(folder / "run"),
    }  # fmt: skip
    run = tw.train(values).folder
    exported = export_run(run, to="merged", output=folder / "exported")
    time.sleep(3)  # what was written just now is not remembered: it could change within one tick of the clock
    return run, exported


def model_of(folder: Path) -> Path:
    return folder / "model" if (folder / "model").is_dir() else folder


def timed(words: list[str], cache: Path) -> tuple[tuple[float, float], str]:
    """(seconds of the whole process by the clock and of the processor, the label that it answered)."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    answer = done.stdout.strip().splitlines()[-1]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (took, cpu), str(json.loads(answer)["label"]) if answer.startswith("{") else answer


if __name__ == "__main__":
    main()
