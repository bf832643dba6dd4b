"""Every example runs on small data with a small model: part of `make docs-test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small import EXAMPLES, small_values, with_parameters

LISTED = Path(__file__).parents[1] / "docs" / "examples.md"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    values = small_values(tmp_path / "data")[path.stem]
    script = tmp_path / path.name
    script.write_text(with_parameters(path.read_text(encoding="utf-8"), values), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.strip()


def test_every_example_is_listed() -> None:
    listed = LISTED.read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if path.name not in listed] == []


def test_an_unknown_parameter_is_refused() -> None:
    script = EXAMPLES[0].read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="sets no COLOUR"):
        with_parameters(script, {"COLOUR": "red"})
