"""What does an adapter cost, and what does it save? Full fine-tuning, frozen body, LoRA, prefix tuning and IA3 on banking77.

    python benchmarks/adapters.py [--epochs 3] [--seeds 1] [--limit ROWS] [--only lora prefix]

all-MiniLM, 77 intents, each run in a process of its own with the defaults of its kind; accuracy on the 3,080 test rows, share of
weights that learn (the head of 29,645 apart), real tokens a second over the last epoch, peak memory of the process, one checkpoint.
The bar: LoRA within 2 points of full fine-tuning at no more than 5 % of its weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import DATA, in_own_process, machine, median_and_spread

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen body": {"freeze": "body"},
    "lora": {"adapter": "lora"},
    "prefix": {"adapter": "prefix"},
    "prompt": {"adapter": "prompt"},
    "ia3": {"adapter": "ia3"},
}
BAR_POINTS, BAR_SHARE = 2.0, 0.05


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, default=10**9, help="training rows, to try the script itself")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--run", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(measured(given.run[0], int(given.run[1]), given.epochs, given.limit)))
        return
    print(machine())
    print(f"{'':<12} {'accuracy':>9} {'learn':>8} {'tokens/s':>24} {'memory':>9} {'checkpoint':>11}")
    found = {}
    for name in given.only:
        words = ["--epochs", str(given.epochs), "--limit", str(given.limit), "--run", name]
        runs = [in_own_process(__file__, *words, str(seed)) for seed in range(given.seeds)]
        found[name] = one = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        speeds = median_and_spread([run["tokens_per_second"] for run in runs])
        print(
            f"{name:<12} {one['accuracy']:>9.4f} {one['share']:>8.2%} {speeds:>24} {one['memory_mb']:>6,.0f} MB "
            f"{one['checkpoint_mb']:>8,.1f} MB",
            flush=True,
        )
    if {"full", "lora"} <= set(found):
        lost = 100 * (found["full"]["accuracy"] - found["lora"]["accuracy"])
        holds = lost <= BAR_POINTS and found["lora"]["share"] <= BAR_SHARE
        print(f"lora loses {lost:.2f} points ({'holds' if holds else 'misses'} the bar of {BAR_POINTS})")


def measured(variant: str, seed: int, epochs: float, limit: int) -> dict[str, float]:
    from tunewright import train
    from tunewright.config.load import parse_config
    from tunewright.runs.setup import build_components

    changes = VARIANTS[variant]
    data = DATA / "classification/banking77"
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config({
            "data": {"train": str(data / "train.jsonl"), "test": str(data / "test.jsonl"), "limit": {"train": limit}},
            "adapter": changes.get("adapter", "none"),
            "train": {"epochs": epochs, "seed": seed, "freeze": changes.get("freeze", "none")},
            "evaluate": {"baselines": False}, "output": f"{folder}/run",
        })  # fmt: skip
        learned, of_all = shares(build_components(config))
        run = train(config)
        records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
        newest = max((run.folder / "checkpoints").glob("step-*"))
        return {
            "accuracy": run.scores["test"]["metrics"]["accuracy"],
            "share": learned / of_all,
            "tokens_per_second": statistics.median(speeds[-max(1, len(speeds) // 3) :]),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "checkpoint_mb": sum(file.stat().st_size for file in Path(newest).iterdir()) / 2**20,
        }


def shares(parts: Any) -> tuple[int, int]:
    """(weights that learn, all weights), the head's and its unused copy left out."""
    body = [
        parameter
        for name, parameter in parts.model.named_parameters()
        if "classifier" not in name and ".original_module." not in name
    ]
    return sum(p.numel() for p in body if p.requires_grad), sum(p.numel() for p in body)


if __name__ == "__main__":
    sys.exit(main())
