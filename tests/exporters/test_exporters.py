"""Exports: other programs read them, their outputs are those of the run, and a card says what the model is."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import messages, shared, write_jsonl
from tunewright.errors import UserError
from tunewright.exporters import export, kinds
from tunewright.runs.train import train
from tunewright.verification import verify


@pytest.fixture(scope="module")
def values(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    rows = [row for row in messages() if row["label"] in ("order_status", "return_item", "product_question")][:60]
    write_jsonl(folder / "rows.jsonl", rows)
    return {
        "model": str(tiny_bert), "data": {"train": str(folder / "rows.jsonl"), "max_length": 24}, "adapter": "lora",
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32"}, "output": str(folder / "run"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(values):
    return train(values).folder


def broken(folder, **options):
    return next((check.broken for check in verify(folder, **options) if check.broken), None)


def test_a_damaged_model_is_not_exported(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    for damage in (lambda file: os.truncate(file, 1000), Path.unlink):
        damage(run / "model" / "model.safetensors")
        with pytest.raises(UserError, match=r"this file (has changed|is gone)"):
            export(run, "merged")


def test_kinds_are_found_by_their_files():
    assert kinds() == ["hub-folder", "merged", "onnx"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_merged_weights_have_the_dtype_and_give_the_same(run, tmp_path, dtype):
    folder = export(run, "merged", output=tmp_path / "merged", dtype=dtype)
    kept = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert kept == {{"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]}
    assert broken(folder) is None


def test_exports_of_a_run_are_verified_with_it_and_damage_is_named(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    folder = export(copy, "merged")
    assert folder == copy / "exports" / "merged"
    ways = [check.way for check in verify(copy)]
    assert "exports/merged: transformers" in ways
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-3] ^= 0x40
    (folder / "model.safetensors").write_bytes(weights)
    assert broken(copy).stage == "weights"


def test_the_card_holds_scores_and_no_row_of_the_data(run, tmp_path, values):
    folder = export(run, "hub-folder", output=tmp_path / "hub")
    card = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["tunewright"]}
    test = json.loads((run / "scores.json").read_text())["splits"]["test"]
    low, high = test["intervals"]["accuracy"]
    assert f"| accuracy | {test['metrics']['accuracy']:.4f} | {low:.4f} to {high:.4f} |" in card
    assert "| rows.jsonl | 60 | 60 | 0 | 0 | 0 |" in card
    assert "`order_status`, `product_question`, `return_item`" in card and "At most 24 tokens" in card
    assert "name: lora" in card and str(run.parent) not in card
    assert not (folder / "golden.json").exists()
    assert not [row for row in messages(60) if row["text"] in card]
    assert broken(folder, golden_from=run) is None


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra tunewright[onnx]")
def test_onnx_gives_the_same_for_rows_of_any_length(run, tmp_path):
    folder = export(run, "onnx", output=tmp_path / "onnx")
    facts = json.loads((folder / "onnx.json").read_text())
    assert facts["outputs"][0] == "logits" and facts["labels"] == ["order_status", "product_question", "return_item"]
    assert [check.way for check in verify(folder)] == ["onnxruntime", "files"]
    assert broken(folder) is None
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    assert broken(folder).stage == "weights"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra tunewright[onnx]")
@pytest.mark.parametrize("task", ["ner", "mlm", "clm"])
def test_onnx_of_the_other_tasks(values, tmp_path, task):
    rows = [
        {"text": row["text"], "entities": [[0, 3, "A"]]} if task == "ner" else {"text": row["text"]}
        for row in messages(60)
    ]
    write_jsonl(tmp_path / "data.jsonl", rows)
    model = str(shared("models/stories260K")) if task == "clm" else values["model"]
    data = {"train": str(tmp_path / "data.jsonl"), "max_length": 24}
    done = train({
        "task": task, "model": model, "data": data, "train": {"epochs": 1, "max_steps": 3, "precision": "fp32"},
        "evaluate": {"baselines": False}, "output": str(tmp_path / "run"),
    })  # fmt: skip
    assert broken(done.folder) is None
    folder = export(done.folder, "onnx")
    assert broken(folder) is None


def test_wrong_words_are_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"no export 'onx'; expected hub-folder, merged, onnx\. Did you mean onnx\?"):
        export(run, "onx")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="the folder holds other files"):
        export(run, "merged", output=tmp_path / "mine")
    with pytest.raises(UserError, match="onnx cannot be bf16; expected fp32"):
        export(run, "onnx", output=tmp_path / "onnx", dtype="bf16")


@pytest.mark.parametrize("name", ["model", "base", "adapter", "checkpoints"])
@pytest.mark.parametrize("to", ["merged", "onnx", "hub-folder"])
def test_no_export_takes_the_place_of_a_runs_own_folders(run, name, to):
    folder = next((run / name).glob("step-*")) if name == "checkpoints" else run / name
    before = sorted((path.name, path.stat().st_size) for path in folder.iterdir())
    with pytest.raises(UserError, match="the folder holds other files"):
        export(run, to, output=folder)
    assert sorted((path.name, path.stat().st_size) for path in folder.iterdir()) == before


def test_what_cannot_be_merged_is_not_exported(values, tmp_path):
    prefix = train(
        {**values, "adapter": "prefix", "evaluate": {"baselines": False}, "output": str(tmp_path / "run")}
    ).folder
    with pytest.raises(UserError, match="a prefix adapter cannot be merged into a plain model"):
        export(prefix, "merged")
