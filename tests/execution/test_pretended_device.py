"""The laws off the CPU, on a pretended device: one device, no float64, few waits, and a gradient that no cut changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import messages, write_jsonl
from tests.tasks.test_contract import PREFERENCE, values_for

KINDS = ["classification", "multi_label", "ner", "regression", "sft", "clm", "mlm", "next_sentence", *PREFERENCE]
ADAPTED = ["lora", "prefix", "prompt", "ia3"]
NAMES = [*KINDS, *(f"sft {adapter}" for adapter in ADAPTED), "classification lora", "sft checkpointing"]


@pytest.fixture(scope="module")
def reports(tiny_bert: Path, tiny_gpt: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of every configuration, made in one process."""
    folder = tmp_path_factory.mktemp("pretended")
    configs = {name: _values(name, tiny_bert, tiny_gpt, folder / name.replace(" ", "-")) for name in NAMES}
    (folder / "configs.json").write_text(json.dumps(configs), encoding="utf-8")
    command = [sys.executable, "-m", "tests.execution.pretended", str(folder / "configs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


def _values(name: str, bert: Path, gpt: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    kind, *rest = name.split()
    rows = [row for row in messages() if row["label"] in ("order_status", "return_item")][:40]
    write_jsonl(folder / "data.jsonl", rows)
    base = {
        "model": str(bert),
        "data": {"train": str(folder / "data.jsonl"), "max_length": 48},
        "train": {"epochs": 1, "batch_size": 8},
        "evaluate": {"baselines": False},
        "output": str(folder / "run"),
    }
    values = values_for(kind, base, folder)
    if rest == ["checkpointing"]:
        return {**values, "train": {**values["train"], "gradient_checkpointing": True}}
    if rest:
        model = str(bert if kind == "classification" else gpt)
        return {**values, "model": model, "adapter": {"name": rest[0]}}
    return values


@pytest.mark.parametrize("name", NAMES)
def test_a_step_on_a_device(reports, name):
    found = reports[name]
    assert "error" not in found, found["trace"]
    assert found["strays"] == []
    assert found["float64"] == {}
    # A fresh encoder says almost the same of both answers: their gradients cancel, and rounding stands out (as in test_contract).
    tolerance = 2e-6 * (50 if name == "judge" else 1)
    assert found["exact"] < tolerance, "gradient against fp64 on the CPU, without dropout"
    assert found["cuts"] < tolerance, "two cuts, with dropout"
    assert sum(found["waits"].values()) <= found["micro_batches"], found["waits"]
