"""One run, one folder: nobody else writes there, and what is deleted under its feet is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.tasks.test_contract import values_for
from tunewright.errors import UserError
from tunewright.runs.reporter import Reporter
from tunewright.runs.train import train


class Deletes(Reporter):
    """Deletes a folder after a step."""

    def __init__(self, *paths: Path, after: int) -> None:
        self.paths, self.after = paths, after

    def step(self, step, num_steps) -> None:
        if step.number == self.after:
            for path in self.paths:
                shutil.rmtree(path)


@pytest.mark.parametrize("kind", ["classification", "clm", "sft", "kto"])
@pytest.mark.parametrize(
    ("what", "said"), [(".store", "the token store was deleted"), ("run", "the run folder was deleted")]
)
def test_what_is_deleted_while_a_run_goes_on_is_said(run_values, tmp_path, kind, what, said):
    values = values_for(kind, run_values, tmp_path)
    values["train"] = {**values["train"], "epochs": 1}
    with pytest.raises(UserError, match=f"{said}.*same command again"):
        train(values, reporter=Deletes(tmp_path / what, after=2))
    if what == "run":
        assert not (tmp_path / "run").exists(), "half a folder would block the next start"
    assert train(values).num_steps > 2


@pytest.mark.parametrize("ranks", [{}, {"RANK": "0", "WORLD_SIZE": "1"}], ids=["alone", "one rank"])
def test_a_folder_in_which_another_process_trains_is_refused(run_values, tmp_path, monkeypatch, ranks):
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    with FileLock(tmp_path / ".run.lock"), pytest.raises(UserError, match="another process is training this run"):
        train(run_values)


@pytest.mark.slow
def test_all_ranks_of_a_second_launcher_end_with_a_sentence(run_values, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(run_values))
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29871", "-m", "tunewright"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *words, "train", str(tmp_path / "c.yaml")]
    with FileLock(tmp_path / ".run.lock"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert (
        done.stderr.count("another process is training this run") >= 1
        and 'Traceback (most recent call last):\n  File "<frozen' in done.stderr
    )
    assert "exitcode  : 2" in done.stderr
    assert not (tmp_path / "run").exists()
