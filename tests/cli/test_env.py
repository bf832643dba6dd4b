"""`tunewright env`, what a run says of libraries that are newer than was tested, and completion."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

from tunewright import __version__
from tunewright.cli import env
from tunewright.runs import environment


def test_env_prints_versions_processor_and_no_paths(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("HF_HOME", "/somewhere/private")
    env.run(as_json=True)
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert found["schema"] == 1 and found["tunewright"] == __version__
    assert {"torch", "transformers", "numpy"} <= found["packages"].keys()
    assert found["variables"]["OMP_NUM_THREADS"] == "2" and found["cpu"]["precision"] in ("bf16", "fp32")
    env.run()
    printed += capsys.readouterr().out
    assert "private" not in printed and str(Path.home()) not in printed and os.uname().nodename not in printed
    assert len(getpass.getuser()) < 4 or getpass.getuser() not in printed


def test_a_newer_minor_version_is_told_and_a_patch_is_not(monkeypatch):
    installed = {"transformers": "5.99.0.dev1", "numpy": "2.4.99", "torch": "2.13.1+cu130"}
    monkeypatch.setattr(environment, "_installed", installed.get)
    monkeypatch.setattr(
        environment, "TESTED", {"transformers": "5.24", "numpy": "2.4", "torch": "2.13", "peft": "0.21"}
    )
    assert environment.newer_than_tested() == ["transformers 5.99.0.dev1 (tested up to 5.24)"]
    assert str(environment.untested_line()).startswith("Newer than what was tested: transformers 5.99.0.dev1")
    monkeypatch.setattr(environment, "_installed", {"torch": "2.9.0"}.get)
    assert environment.untested_line() is None


def test_env_answers_without_a_torch_that_can_be_imported(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    env.run(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert "cannot be imported" in found["cpu"]["torch"] and found["packages"]["torch"]


def test_the_shells_completion_knows_the_verbs():
    environment_ = {
        **os.environ,
        "_TUNEWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": "tunewright ver",
        "COMP_CWORD": "1",
    }
    code = "import sys; sys.argv = ['tunewright']; from tunewright.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment_, timeout=60)
    assert done.stdout.split() == ["verify"], done.stderr
