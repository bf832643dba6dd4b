"""kill -9 at random moments, some of them while a checkpoint is written: the resumed run ends with the same weights, bit for bit.

TUNEWRIGHT_KILLS=20 python -m pytest tests/runs/test_killed_runs_resume.py    does it twenty times (four by default).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import messages, write_jsonl

KILLS = int(os.environ.get("TUNEWRIGHT_KILLS", "4"))


def start(config: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tunewright.cli.main", "train", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(tiny_bert, tmp_path):
    write_jsonl(tmp_path / "data.jsonl", messages(400))
    values = {
        "model": str(tiny_bert), "data": {"train": str(tmp_path / "data.jsonl"), "max_length": 48},
        "train": {"epochs": 4, "batch_size": 4, "save_every": 2, "log_every": 1, "learning_rate": 1e-3},
        "evaluate": {"baselines": False, "every": 25}, "output": str(tmp_path / "straight"),
    }  # fmt: skip
    for name in ("straight", "killed"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**values, "output": str(tmp_path / name)}))
    straight = start(tmp_path / "straight.yaml")
    assert straight.wait(300) == 0, straight.stdout.read()
    total = steps_done(tmp_path / "straight")

    chance, run = random.Random(0), tmp_path / "killed"
    in_checkpoint = 0
    for kill in range(KILLS):
        process = start(tmp_path / "killed.yaml")
        goal = steps_done(run) + chance.randint(1, max(2, total // (2 * KILLS)))
        while process.poll() is None and steps_done(run) < goal:
            time.sleep(0.002)
        if kill % 4 == 0:  # while a checkpoint is being written
            while process.poll() is None and not list((run / "checkpoints").glob(".tmp-step-*")):
                pass
            in_checkpoint += 1
        else:
            time.sleep(chance.random() * 0.05)
        assert process.poll() is None, f"finished before kill {kill}: {process.stdout.read()}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = start(tmp_path / "killed.yaml")
    assert last.wait(300) == 0, last.stdout.read()
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("straight", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert in_checkpoint >= KILLS // 4
    assert steps_done(run) == total
