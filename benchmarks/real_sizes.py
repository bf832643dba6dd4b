"""Does every phase of a run grow no faster than its data, and does memory stay small, at 100,000 rows a task?

    python benchmarks/real_sizes.py [--rows 25000,100000] [--tasks classification,ner,mlm,clm,sft,preference]

For each task a file of that many rows is written (seeded words, drawn as natural language draws them: few often, most rarely) and
trained on for `train.max_steps=5`, so that everything but the steps has its real size: reading, tokenizing, scoring validation and
test, baselines, golden examples. Small random models, a real tokenizer. Each run has a process of its own.

Seconds of each phase are measured from outside: a thread looks at the main thread's stack a hundred times a second and books the time
since its last look on the innermost function that names a phase (PHASES). `growth` is a phase's time at the most rows over its time at
the fewest, divided by the same ratio of the rows: 1 is linear, less is better, and more than 1.3 is reported as growing faster than the
data where the phase takes a second or more. Peak memory is the process's own (ru_maxrss), imports and model included.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from common import DATA, in_own_process, machine

TASKS = ("classification", "ner", "mlm", "clm", "sft", "preference")
PHASES = {
    "_fingerprint": "hash the files",
    "first_pass": "read and survey",
    "assign_rows": "split",
    "encode_splits": "tokenize and store",
    "facts_of": "duplicates and leaks",
    "match_tokenizer": "tokenizer checks",
    "open_inputs": "detect columns",
    "with_reference": "reference pass",
    "build_model": "load the model",
    "training_steps": "training steps",
    "evaluate_split": "score validation and test",
    "worst": "worst rows",
    "fit_and_score": "baselines, fit",
    "baselines": "baselines, fit",
    "read_again": "read sources again",
    "save_weights": "golden examples, save",
    "save_trained": "golden examples, save",
    "_save": "checkpoints",
    "_resume": "checkpoints",
}
"""Name of a function of ours -> the phase that time inside it belongs to; of nested ones the innermost counts."""
OTHER = "imports and the rest"
LOOK_EVERY_SECONDS = 0.01
FASTER_THAN_DATA = 1.3
MEMORY_BAR_MB = 2_000
NUM_WORDS, NUM_LABELS = 20_000, 12


def words_of(seed: int) -> tuple[list[str], list[float]]:
    """A vocabulary of invented words, and how often each is drawn (Zipf's law, exponent 1)."""
    draw = random.Random(seed)
    syllables = [first + vowel + last for first in "bdfgklmnprstv" for vowel in "aeiou" for last in ("", "n", "r", "s")]
    words = sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(2 * NUM_WORDS)})
    draw.shuffle(words)
    words = words[:NUM_WORDS]
    return words, [1 / rank for rank in range(1, len(words) + 1)]


def rows_of(task: str, num_rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a task, all different: texts of 5 to 120 words, half of them below 25, as reviews and messages are."""
    draw = random.Random(f"{task} {seed}")
    words, weights = words_of(seed)
    pool = draw.choices(words, weights=weights, k=2_000_000)

    def text(number: int, longest: int = 120) -> str:
        length = min(longest, max(5, round(draw.lognormvariate(3.1, 0.7))))
        start = draw.randrange(len(pool) - length)
        return f"{' '.join(pool[start : start + length])} {number}."

    for number in range(num_rows):
        if task == "classification":
            yield {"text": text(number), "label": f"topic {number % NUM_LABELS}"}
        elif task == "ner":
            tokens = text(number, 60).split()
            tags = ["B-NAME" if draw.random() < 0.08 else "O" for _ in tokens]
            yield {"tokens": tokens, "ner_tags": tags}
        elif task in ("mlm", "clm"):
            yield {"text": f"{text(number)} {text(number)}"}
        elif task == "sft":
            yield {"prompt": text(number, 60), "completion": text(number, 60)}
        else:
            yield {"prompt": text(number, 40), "chosen": text(number, 30), "rejected": text(number + 1, 30)}


def config_of(task: str, data: str, output: str) -> dict[str, Any]:
    decoder = task in ("clm", "sft", "preference")
    return {
        "task": task,
        "model": {
            "name": "scratch:llama-tiny" if decoder else "scratch:bert-tiny",
            "tokenizer": str(DATA / "tokenizers" / ("minimind" if decoder else "bert-base-uncased")),
        },
        "data": {"train": data, "max_length": 256, "on_bad_rows": "skip"},
        "train": {"max_steps": 5},
        "output": output,
    }


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""Seconds that pass, or that this process computed (all of its threads): the second also tells on a machine that is busy."""


class StackClock:
    """Seconds by phase, from looks at the main thread's stack."""

    def __init__(self, clock: str) -> None:
        self._now = CLOCKS[clock]
        self.seconds: Counter[str] = Counter()
        self._main = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> StackClock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        last = self._now()
        while not self._stopped.wait(LOOK_EVERY_SECONDS):
            now = self._now()
            self.seconds[phase_of(sys._current_frames()[self._main])] += now - last
            last = now


def phase_of(frame: FrameType | None) -> str:
    while frame is not None:
        code = frame.f_code
        if code.co_name in PHASES and "tunewright" in code.co_filename:
            return PHASES[code.co_name]
        frame = frame.f_back
    return OTHER


def run_one(task: str, num_rows: int, clock_name: str) -> dict[str, Any]:
    """Train in this process: seconds of each phase, all seconds, megabytes at most, megabytes of data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in rows_of(task, num_rows):
                file.write(json.dumps(row) + "\n")
        now = CLOCKS[clock_name]
        begin = now()
        with StackClock(clock_name) as clock:
            import tunewright as tw

            tw.train(config_of(task, str(path), f"{folder}/run"))
        return {
            "phases": dict(clock.seconds),
            "seconds": now() - begin,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "data_mb": path.stat().st_size / 2**20,
        }


def print_table(task: str, sizes: list[int], runs: list[dict[str, Any]]) -> list[str]:
    """One task's phases, a column for each size; gives what does not hold."""
    problems = []
    names = sorted(runs[-1]["phases"], key=lambda name: -runs[-1]["phases"][name])
    growth_of_rows = sizes[-1] / sizes[0]
    print(f"\n| {task} | {' | '.join(f'{size:,} rows' for size in sizes)} | growth |")
    print(f"|---|{'---:|' * (len(sizes) + 1)}")
    for name in [*names, "all"]:
        seconds = [run["seconds"] if name == "all" else run["phases"].get(name, 0.0) for run in runs]
        growth = seconds[-1] / max(seconds[0], LOOK_EVERY_SECONDS) / growth_of_rows
        print(f"| {name} | {' | '.join(f'{one:.1f} s' for one in seconds)} | {growth:.2f} |")
        if growth > FASTER_THAN_DATA and seconds[-1] >= 1 and len(sizes) > 1:
            problems.append(f"{task}: {name} grows {growth:.2f} times as fast as its data")
    for name, key in (("data", "data_mb"), ("peak memory", "peak_mb")):
        print(f"| {name} | {' | '.join(f'{run[key]:,.0f} MB' for run in runs)} | |", flush=True)
    if runs[-1]["peak_mb"] > MEMORY_BAR_MB:
        problems.append(f"{task}: {runs[-1]['peak_mb']:,.0f} MB at the peak, more than {MEMORY_BAR_MB:,}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="25000,100000", help="sizes, fewest first")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--one", nargs=2, metavar=("TASK", "ROWS"), help="one run in this process, as JSON")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor: unmoved by what else runs")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one[0], int(options.one[1]), options.clock)))
        return
    print(machine())
    sizes = sorted(int(size) for size in options.rows.split(","))
    problems = []
    for task in options.tasks.split(","):
        runs = [in_own_process(__file__, "--clock", options.clock, "--one", task, str(size)) for size in sizes]
        problems += print_table(task, sizes, runs)
    print("\n" + ("\n".join(problems) if problems else "No phase grows faster than its data; memory stays below 2 GB."))


if __name__ == "__main__":
    main()
