"""A run of version 0.1, made before keys and states were renamed, is still used, scored, verified, exported and gone on with.

tests/runs/schema1.tar.xz      reviews.csv  old.yaml  bert/  tokenizer/  run/ (finished, its last checkpoint kept)  .store/
"""

import json
import tarfile
from pathlib import Path

import pytest
import yaml

import tunewright as tw
from tunewright.cli import main
from tunewright.config.load import load_config
from tunewright.config.renamed import RenamedKeys
from tunewright.exporters import export
from tunewright.verification import verify

ARCHIVE = Path(__file__).with_name("schema1.tar.xz")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A folder with what the archive holds, which is gone into."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(monkeypatch, capsys, *words):
    """(exit code, stdout, stderr) of a command."""
    monkeypatch.setattr("sys.argv", ["tunewright", *words])
    code = main.run()
    return code, *capsys.readouterr()


def test_the_archive_is_small_and_of_schema_1(old):
    assert ARCHIVE.stat().st_size < 100_000
    assert json.loads((old / "run/model/tunewright.json").read_text())["schema"] == 1
    assert "schema" not in yaml.safe_load((old / "run/config.yaml").read_text())


def test_its_model_predicts_and_is_scored(old, monkeypatch, capsys):
    golden = json.loads(Path("run/model/golden.json").read_text())["examples"][0]["text"]
    code, out, err = command(monkeypatch, capsys, "predict", "run", golden, "--json")
    assert (code, json.loads(out)["label"] in ("good", "bad")) == (0, True), err
    code, out, err = command(monkeypatch, capsys, "evaluate", "run", "--json")
    assert code == 0 and err.count("train.keep is now train.keep_checkpoints") == 1, err
    before = json.loads(Path("run/scores.json").read_text())["splits"]["test"]["metrics"]
    assert json.loads(out)["metrics"] == pytest.approx(before, rel=1e-4)
    assert json.loads(out)["rows"] == 4


def test_it_is_verified_and_exported(old):
    assert all(check.broken is None for check in verify("run"))
    folder = export("run", to="merged", output="out")
    assert (folder / "model.safetensors").is_file()


def test_training_goes_on_from_its_checkpoint(old):
    with pytest.warns(RenamedKeys, match=r"old.yaml: train.keep is now train.keep_checkpoints"):
        result = tw.train("old.yaml", ["train.epochs=6"])
    steps = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert result.num_steps == 48 and [one["step"] for one in steps if "loss_sum" in one or "samples" in one][-1] == 48
    assert [point["step"] for point in result.history] == [8, 16, 24, 32, 40, 48]
    written = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (written["schema"], written["train"]["keep_checkpoints"], written["train"]["epochs"]) == (2, 1, 6.0)
    assert json.loads(Path("run/model/tunewright.json").read_text())["schema"] == 2


def test_it_is_finished_for_its_own_config(old):
    with pytest.warns(RenamedKeys):
        assert tw.train("old.yaml").already_finished
        assert load_config("run/config.yaml", of_run=True).train.keep_checkpoints == 1
