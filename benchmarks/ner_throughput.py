"""Does finding entities train as fast as classifying the same rows?

    python benchmarks/ner_throughput.py [--rounds 3]

The sentences of ncbi_disease with all-MiniLM, 16 in every step: once with their tags, once as texts with one of two labels. Each run
is a process of its own, in turn, every round; the first five steps are not counted. The bar: within 10 % of each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import DATA, in_own_process, machine, median_and_spread, recorder_of_steps

STEPS, WARM_UP, BATCH = 60, 5, 16
BAR = 0.9


def rows_of(task: str) -> list[dict[str, Any]]:
    """The same sentences for both."""
    lines = (DATA / "ner/ncbi_disease/train.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    if task == "ner":
        return [{"tokens": row["tokens"], "ner_tags": row["ner_tags"]} for row in rows]
    return [
        {"text": " ".join(row["tokens"]), "label": "some" if any(tag != "O" for tag in row["ner_tags"]) else "none"}
        for row in rows
    ]


def measured(task: str) -> dict[str, float]:
    import tunewright as tw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(task)), encoding="utf-8")
        recorder = recorder_of_steps()
        values = {
            "task": task,
            "data": {"train": str(path), "validation_ratio": 0, "test_ratio": 0, "limit": STEPS * BATCH},
            "train": {"max_steps": STEPS, "batch_size": BATCH, "save_every": "never"},
            "evaluate": {"baselines": False}, "output": f"{folder}/run",
        }  # fmt: skip
        tw.train(values, reporter=recorder)
    counted = recorder.steps[WARM_UP:]
    return {"speed": sum(step.num_tokens for step in counted) / sum(step.seconds for step in counted)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", choices=("ner", "classification"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(measured(given.run)))
        return
    print(machine())
    speeds: dict[str, list[float]] = {"ner": [], "classification": []}
    for _ in range(given.rounds):
        for task, of_task in speeds.items():
            of_task.append(in_own_process(__file__, "--run", task)["speed"])
    for task, of_task in speeds.items():
        print(f"{task:<16}{median_and_spread(of_task):>30} real tokens/s")
    ratio = statistics.median(speeds["ner"]) / statistics.median(speeds["classification"])
    print(f"ner is {ratio:.2f}x classification ({'holds' if ratio >= BAR else 'misses'} the bar of {BAR})")


if __name__ == "__main__":
    main()
