"""The fuzzer of the readers, a few seconds of it: no row changed in silence, no traceback, no signal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"


@pytest.mark.parametrize(
    ("kind", "files"),
    [("columnar", 300), ("damaged", 100), ("objects", 100), ("sentences", 50), ("shards", 10), ("tables", 60)],
)
def test_nothing_but_rows_and_user_errors(kind, files):
    command = [sys.executable, str(FUZZER), "--only", kind, "--files", str(files), "--seed", "30"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{kind}: " in done.stdout and "failed" not in done.stdout, done.stdout
