"""What is opened is what was saved: every changed, lost, exchanged or added file is told; unhurt folders are read once."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.test_cli import tunewright as command
from tests.conftest import messages, write_jsonl
from tunewright.artifacts.model_folder import open_saved
from tunewright.artifacts.run_files import changed_run_files
from tunewright.errors import UserError
from tunewright.files import known_hashes, manifests
from tunewright.files.atomic import json_text
from tunewright.files.manifests import changed_files, check_unchanged, write_manifest
from tunewright.prediction import load
from tunewright.runs.train import train

LABELS = ("order_status", "return_item")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own; files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", -(10**12))
    monkeypatch.setattr(manifests, "_HASHES", {})


def values_of(folder: Path, tiny_bert: Path, **more) -> dict:
    rows = [row for row in messages() if row["label"] in LABELS][:24]
    write_jsonl(folder / "data.jsonl", rows)
    return {
        "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 24},
        "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32"}, "evaluate": {"baselines": False},
        "output": str(folder / "run"), **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tiny_bert, tmp_path_factory):
    """Two runs that differ in their seed, each with a merged adapter."""
    found = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        values = values_of(folder, tiny_bert, adapter="lora")
        found.append(train({**values, "train": {**values["train"], "seed": seed}}).folder)
    return found


@pytest.fixture
def run(runs, tmp_path):
    return Path(shutil.copytree(runs[0], tmp_path / "run"))


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were read to hash them."""
    names: list[str] = []
    real = manifests.file_sha256
    for module in (manifests, known_hashes):
        monkeypatch.setattr(module, "file_sha256", lambda path: names.append(path.name) or real(path))
    return names


def told(run: Path) -> str:
    """What opening a run says: its error, or its notes."""
    said: list[str] = []
    try:
        open_saved(run).check(say=said.append)
    except UserError as error:
        return f"error: {error}"
    return " ".join(said)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


# Every file, every damage


def files_of(run: Path) -> list[str]:
    every = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    return sorted(name for name in every if not name.startswith("checkpoints") and name != "rejected.jsonl")


def test_a_flipped_bit_a_cut_and_a_lost_file_are_told_whatever_the_file(run):
    assert told(run) == ""
    for name in files_of(run):
        path = run / name
        before = path.read_bytes()
        for damage in (flip, cut, Path.unlink):
            damage(path)
            assert told(run), (name, damage.__name__)
            if name.startswith("model/") and not (damage is Path.unlink and name.endswith("tunewright.json")):
                assert told(run).startswith("error: "), (name, damage.__name__)
            path.write_bytes(before)
    assert told(run) == ""


def test_a_file_of_another_run_is_told(run, runs):
    for name in files_of(run):
        other, before = runs[1] / name, (run / name).read_bytes()
        if other.read_bytes() != before:
            shutil.copyfile(other, run / name)
            assert told(run), name
            (run / name).write_bytes(before)
    shutil.rmtree(run / "model")
    shutil.copytree(runs[1] / "model", run / "model")
    assert told(run).startswith("error: ")


@pytest.mark.parametrize(
    "name", ["model-00002.safetensors", "chat_template.jinja", "adapter_config.json", "custom_generate/generate.py"]
)
def test_a_file_that_came_later_is_told(run, name):
    (run / "model" / name).parent.mkdir(exist_ok=True)
    (run / "model" / name).write_text("{}")
    assert told(run) == (
        f"error: {run / 'model' / name}: this file was added later. Restore the saved file, or train again. "
        f"`tunewright verify {run}` gives details; --no-check uses the folder as it is."
    )


def test_no_single_bit_of_a_manifest_goes_unnoticed(tmp_path):
    (tmp_path / "a.json").write_text("1")
    write_manifest(tmp_path)
    path = tmp_path / "manifest.json"
    before = path.read_bytes()
    assert changed_files(tmp_path) == []
    for place in range(len(before)):
        for bit in range(8):
            data = bytearray(before)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            assert changed_files(tmp_path), (place, bit)


def test_a_manifests_names_do_not_lead_out_of_its_folder(tmp_path):
    (tmp_path / "secret").write_text("s")
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "a.json").write_text("1")
    write_manifest(inner)
    sha = manifests.file_sha256(tmp_path / "secret")
    listed = json.loads((inner / "manifest.json").read_text())
    for name in ("../secret", str(tmp_path / "secret"), "", "a.json/../../secret"):
        (inner / "manifest.json").write_text(json_text({**listed, "files": {**listed["files"], name: sha}}))
        assert name in changed_files(inner)


# What is adapted and cannot be merged


def test_an_adapter_that_is_used_on_its_base_is_checked_with_it(tiny_bert, tmp_path):
    run = train(values_of(tmp_path, tiny_bert, adapter="prefix")).folder
    assert told(run) == ""
    for name in (
        "base/model.safetensors",
        "base/config.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ):
        before = (run / name).read_bytes()
        flip(run / name)
        assert told(run).startswith("error: "), name
        (run / name).write_bytes(before)
    assert load(run).predict(["hello"])[0].label in LABELS


def test_parts_of_a_merged_run_may_be_deleted(run):
    shutil.rmtree(run / "base")
    shutil.rmtree(run / "adapter")
    assert told(run) == "" and load(run).predict(["hello"])[0].label in LABELS


# Verbs


def test_every_verb_tells_and_no_check_goes_on(run, tmp_path):
    flip(run / "model" / "golden.json")
    for words in (["predict", "run", "hi"], ["evaluate", "run"], ["export", "run", "--to", "merged", "-o", "out"]):
        refused = command(*words, cwd=tmp_path)
        assert refused.returncode == 2 and "golden.json" in refused.stderr and "--no-check" in refused.stderr, words
    assert command("predict", "run", "hi", "--no-check", cwd=tmp_path).returncode == 0
    assert command("evaluate", "run", "--no-check", cwd=tmp_path).returncode == 0
    assert command("verify", "run", cwd=tmp_path).returncode == 1
    with pytest.raises(UserError, match=r"golden\.json"):
        load(run)
    assert load(run, check=False).predict(["hi"])[0].label in LABELS
    started = command("train", str(tmp_path / "x.jsonl"), "model.name=run", cwd=tmp_path)
    assert started.returncode == 2


def test_a_run_that_is_trained_from_is_checked_too(run, tmp_path):
    write_jsonl(tmp_path / "data.jsonl", messages(24))
    words = [
        "train",
        "data.jsonl",
        "model.name=run",
        "train.max_steps=1",
        "evaluate.baselines=false",
        "data.max_length=16",
    ]
    flip(run / "model" / "model.safetensors")
    refused = command(*words, "output=o", cwd=tmp_path)
    assert refused.returncode == 2 and "model.safetensors" in refused.stderr and "remove" in refused.stderr
    (run / "model" / "manifest.json").unlink()
    assert command(*words, "output=o", cwd=tmp_path).returncode == 0


def test_a_model_without_a_manifest_is_used_and_that_is_said(run, tmp_path):
    (run / "model" / "manifest.json").unlink()
    (run / "manifest.json").unlink()
    done = command("predict", "run", "hi", cwd=tmp_path)
    assert done.returncode == 0 and "has no manifest.json" in done.stderr


# Memory


def test_what_was_hashed_once_is_not_read_again(run, tmp_path, hashed, monkeypatch):
    open_saved(run).check()
    assert "model.safetensors" in hashed
    hashed.clear()
    open_saved(run).check()
    assert hashed == []
    monkeypatch.setattr(manifests, "_HASHES", {})  # another process
    open_saved(run).check()
    assert hashed == []
    os.utime(run / "model" / "model.safetensors")
    open_saved(run).check()
    assert hashed == ["model.safetensors"]
    hashed.clear()
    open_saved(run).check(remember=False)
    assert "model.safetensors" in hashed
    assert not [path for path in run.rglob("*") if "hashes" in str(path)]
    assert list((tmp_path / "cache" / "tunewright" / "hashes").glob("*.json"))


def test_a_file_of_the_same_size_and_time_is_told(run):
    path = run / "model" / "model.safetensors"
    assert told(run) == ""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert told(run).startswith("error: ")


def test_what_was_touched_a_moment_ago_is_not_remembered(run, hashed, monkeypatch):
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 10**12)
    open_saved(run).check()
    hashed.clear()
    open_saved(run).check()
    assert "model.safetensors" in hashed


@pytest.mark.parametrize("place", ["a file", "nonsense", "no home"])
def test_a_cache_that_cannot_be_used_is_no_error(run, tmp_path, monkeypatch, place):
    if place == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif place == "no home":
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        open_saved(run).check()
        for path in (tmp_path / "cache" / "tunewright" / "hashes").glob("*.json"):
            path.write_text('{"schema": 1, "files": [1, {"a": 2}]')
        monkeypatch.setattr(manifests, "_HASHES", {})
    assert told(run) == ""
    flip(run / "model" / "config.json")
    assert told(run).startswith("error: ")


# What stands beside the model


def test_what_a_run_leaves_is_sealed_and_every_reader_tells_of_a_change(run, tmp_path):
    assert changed_run_files(run) == []
    scores = run / "scores.json"
    scores.write_text(re.sub(r'("accuracy": )(\d)', r"\g<1>9\2", scores.read_text()))
    assert changed_run_files(run) == ["scores.json"]
    listed = command("runs", "--folder", ".", cwd=tmp_path)
    assert "scores.json has changed since it was written" in listed.stdout
    verified = command("verify", "run", cwd=tmp_path)
    assert verified.returncode == 1 and f"{run.name}/scores.json has changed" in verified.stdout
    card = command("export", "run", "--to", "hub-folder", "-o", "card", cwd=tmp_path)
    assert card.returncode == 2 and "scores.json" in card.stderr and not (tmp_path / "card").exists()
    merged = command("export", "run", "--to", "merged", "-o", "merged", cwd=tmp_path)
    assert merged.returncode == 0 and "scores.json has changed" in merged.stderr
    as_it_is = command("export", "run", "--to", "hub-folder", "-o", "card", "--no-check", cwd=tmp_path)
    assert as_it_is.returncode == 0
    assert "scores.json has changed since the run wrote it" in (tmp_path / "card" / "README.md").read_text()
    again = command("train", "run", cwd=tmp_path)
    assert again.returncode == 0 and "scores.json has changed" in again.stderr


def test_lines_that_are_appended_later_are_told_and_stop_nothing(run, tmp_path):
    with open(run / "metrics.jsonl", "a") as file:
        file.write("mine\n")
    done = command("predict", "run", "hi", cwd=tmp_path)
    assert done.returncode == 0 and "metrics.jsonl has changed" in done.stderr
    assert command("export", "run", "--to", "hub-folder", "-o", "card", cwd=tmp_path).returncode == 0


def test_a_changed_config_stops_what_reads_by_it(run, tmp_path):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("encoding: utf-8", "encoding: latin-1"))
    for words in (["predict", "run", "hi"], ["evaluate", "run"]):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 2 and "config.yaml" in done.stderr


def test_a_longer_run_is_sealed_anew(tiny_bert, tmp_path):
    values = values_of(tmp_path, tiny_bert)
    run = train(values).folder
    first = (run / "manifest.json").read_text()
    train({**values, "train": {**values["train"], "max_steps": 3}})
    assert (run / "manifest.json").read_text() != first
    assert changed_run_files(run) == [] and told(run) == ""


def test_a_resumed_run_knows_its_config_and_metrics(tiny_bert, tmp_path):
    values = values_of(tmp_path, tiny_bert)
    run = train(values).folder
    longer = {**values, "train": {**values["train"], "max_steps": 3}}
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("batch_size: 8", "batch_size: 4"))
    with pytest.raises(UserError, match=r"train\.batch_size: 8 -> 4"):
        train({**longer, "train": {**longer["train"], "batch_size": 4}})
    (run / "config.yaml").write_text(text)
    flip(run / "metrics.jsonl")
    done = command("train", "run", "train.max_steps=3", cwd=tmp_path)
    assert done.returncode == 0 and "metrics.jsonl has changed since this run wrote it" in done.stderr


# What is named and is not there


def test_golden_examples_and_splits_that_are_not_there_are_errors(run, tmp_path):
    for words, expected in (
        (["verify", "run", "--golden", "nofile"], "nofile"),
        (["verify", "run", "--golden", "run/model/config.json"], "config.json"),
        (["evaluate", "run", "--split", "nosuch"], "validation"),
        (["evaluate", "run", "data.jsonl", "--split", "validation"], "--split"),
    ):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 2 and expected in done.stderr, words


def test_golden_examples_that_are_given_are_those_that_are_compared(run, runs, tmp_path):
    for name in (runs[0], runs[0] / "model", runs[0] / "model" / "golden.json"):
        assert command("verify", "run", "--golden", str(name), cwd=tmp_path).returncode == 0
    assert command("verify", "run", "--golden", str(runs[1]), cwd=tmp_path).returncode == 1


def test_a_folder_of_nobodys_says_nothing(tmp_path):
    assert check_unchanged(tmp_path) is False
