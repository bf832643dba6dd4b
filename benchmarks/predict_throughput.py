"""How many reviews a second does prediction take in, beside transformers.pipeline at its best batch size?

    python benchmarks/predict_throughput.py [--rounds 3] [--rows 2000]

IMDB reviews at 256 tokens with a classifier fine-tuned from all-MiniLM-L6-v2 (trained once for the purpose, 40 steps). Every variant runs
in a fresh process on the same rows, every round. Labels must be equal wherever the pipeline's margin exceeds 0.01, and in fp32
scores within 1e-5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import imdb, in_own_process, machine, median_and_spread

BATCH_SIZES = (1, 4, 8, 16, 32)


def train_once(folder: Path) -> Path:
    import tunewright as tw

    data = folder / "imdb.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in imdb(1_000)), encoding="utf-8")
    values = {
        "data": {"train": str(data), "max_length": 256, "test_ratio": 0, "validation_ratio": 0},
        "train": {"max_steps": 40, "save_every": "never"}, "evaluate": {"baselines": False}, "output": str(folder / "run"),
    }  # fmt: skip
    return tw.train(values).folder


def reviews(rows: int) -> list[str]:
    return [row["text"] for row in imdb(1_000 + rows)[1_000:]]


def run_pipeline(run: str, batch_size: int, rows: int) -> dict[str, Any]:
    from transformers import pipeline

    classify = pipeline("text-classification", model=f"{run}/model", device="cpu", top_k=None)
    texts = reviews(rows)
    classify(texts[:8], truncation=True, batch_size=batch_size)
    began = time.perf_counter()
    results = classify(texts, truncation=True, batch_size=batch_size)
    seconds = time.perf_counter() - began
    return {
        "rows_per_second": rows / seconds,
        "scores": [{one["label"]: one["score"] for one in row} for row in results],
    }


def run_tunewright(run: str, precision: str, rows: int) -> dict[str, Any]:
    from tunewright.prediction import load

    model = load(run, precision=precision)
    texts = reviews(rows)
    model.predict(texts[:8])
    began = time.perf_counter()
    results = model.predict(texts)
    seconds = time.perf_counter() - began
    return {
        "rows_per_second": rows / seconds,
        "scores": [one.scores for one in results],
        "precision": model.execution.precision,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--variant", nargs=3, metavar=("KIND", "RUN", "SETTING"))
    options = parser.parse_args()
    if options.variant:
        kind, run, setting = options.variant
        result = (
            run_pipeline(run, int(setting), options.rows)
            if kind == "pipeline"
            else run_tunewright(run, setting, options.rows)
        )
        print(json.dumps(result))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        run = str(train_once(Path(folder)))
        trial = {
            size: in_own_process(__file__, "--rows", "200", "--variant", "pipeline", run, str(size))
            for size in BATCH_SIZES
        }
        best = max(trial, key=lambda size: trial[size]["rows_per_second"])
        print(
            "pipeline, 200 rows, by batch size: "
            + ", ".join(f"{size}: {one['rows_per_second']:.0f}" for size, one in trial.items())
        )
        variants = [("pipeline", str(best)), ("tunewright", "auto"), ("tunewright", "fp32")]
        results: dict[tuple[str, str], list[dict[str, Any]]] = {variant: [] for variant in variants}
        for _ in range(options.rounds):
            for kind, setting in variants:
                results[kind, setting].append(
                    in_own_process(__file__, "--rows", str(options.rows), "--variant", kind, run, setting)
                )
    speeds = {variant: [one["rows_per_second"] for one in runs] for variant, runs in results.items()}
    theirs = statistics.median(speeds[variants[0]])
    labels = sorted(results[variants[0]][0]["scores"][0])
    reference = np.array([[row[label] for label in labels] for row in results[variants[0]][0]["scores"]])
    top = np.sort(reference, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.01
    for variant in variants:
        one = results[variant][0]
        scores = np.array([[row[label] for label in labels] for row in one["scores"]])
        differing = int((scores.argmax(1) != reference.argmax(1))[clear].sum())
        print(
            f"{' '.join(variant):18}{one.get('precision', 'fp32'):6}{median_and_spread(speeds[variant]):>22} reviews/s  "
            f"ratio {statistics.median(speeds[variant]) / theirs:.2f}  labels differing where clear: {differing}  "
            f"largest score difference {np.abs(scores - reference).max():.1e}"
        )


if __name__ == "__main__":
    main()
