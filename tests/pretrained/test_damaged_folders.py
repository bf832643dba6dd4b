"""Damaged or odd model folders are reported to the user: every key that is lost or of another type ends with exit 2, never with a traceback."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_cli import tunewright as command
from tests.conftest import messages, write_jsonl
from tests.tasks.test_contract import values_for
from tunewright.artifacts.model_folder import open_saved
from tunewright.artifacts.value_types import fits
from tunewright.errors import UserError
from tunewright.models.loading import load_pretrained
from tunewright.prediction import load, refuse_other_names
from tunewright.pretrained.model_files import locate_model
from tunewright.runs.train import train
from tunewright.tokenization.encoder import load_encoder

OTHER_TYPES = (None, 5, -1, 2.5, "x", "", True, [], [5], {}, {"a": 1}, [[]], "../x")


def short(values: dict) -> dict:
    return {**values, "train": {**values["train"], "epochs": 1, "max_steps": 1}}


def places(value, path=()):
    """Paths to every value of a JSON object, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))


def with_value(facts: dict, path: tuple, value, *, gone: bool = False) -> dict:
    copy = json.loads(json.dumps(facts))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


@pytest.mark.parametrize("kind", ["classification", "ner", "sft", "dpo"])
def test_every_key_of_tunewright_json_may_be_damaged(kind, run_values, tmp_path):
    run = train(short(values_for(kind, run_values, tmp_path))).folder
    path = run / "model" / "tunewright.json"
    facts = json.loads(path.read_text())
    whole = load(run)
    for place in places(facts):
        for number, value in enumerate((*OTHER_TYPES, "gone")):
            path.write_text(json.dumps(with_value(facts, place, value, gone=number == len(OTHER_TYPES))))
            try:
                saved = open_saved(run)
                if place[0] == "encode":
                    saved.encoder()
                    continue
                model = replace(whole, saved=saved, task=saved.task())
                refuse_other_names(saved, model.task, whole.network)
                if kind in ("classification", "ner"):
                    model.predict(["where is my parcel?"])
            except UserError:
                continue
            except Exception as error:
                raise AssertionError((place, value)) from error


CONFIGS = [
    {"num_attention_heads": 0}, {"num_attention_heads": 3}, {"num_attention_heads": -4}, {"num_attention_heads": "4"},
    {"hidden_size": 0}, {"hidden_size": -32}, {"hidden_size": 33}, {"hidden_size": 10**12}, {"hidden_size": 65536},
    {"num_hidden_layers": 0}, {"num_hidden_layers": 10**9}, {"num_hidden_layers": 1.5}, {"vocab_size": 0},
    {"vocab_size": 2**31}, {"vocab_size": 2}, {"max_position_embeddings": 0}, {"max_position_embeddings": 2}, {"model_type": "nosuch"},
    {"model_type": ["bert"]}, {"model_type": None}, {"model_type": "llama"}, {"hidden_act": "nosuch"}, {"hidden_act": 5},
    {"pad_token_id": "x"}, {"pad_token_id": 10**6}, {"pad_token_id": -5}, {"layer_norm_eps": "x"}, {"hidden_dropout_prob": 7},
    {"hidden_dropout_prob": "x"}, {"type_vocab_size": 0}, {"intermediate_size": [1]}, {"id2label": 5}, {"id2label": {"a": "b"}},
    {"architectures": 5}, {"dtype": "nosuch"}, {"dtype": 5}, {"initializer_range": -1}, {"quantization_config": {"quant_method": "x"}},
    {"is_decoder": "x"}, {"attn_implementation": "a/b"}, {"transformers_version": 5}, {"problem_type": "nosuch"}, {"num_labels": -1},
    {"rope_parameters": 5}, {"torch_dtype": {"a": 1}}, {"return_dict": False}, {"output_hidden_states": True}, {"chunk_size_feed_forward": 7},
]  # fmt: skip


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_a_model_whose_config_is_nonsense_is_refused_or_loads(values, tiny_bert, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification

    model = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    try:
        source = locate_model(str(model))
        load_encoder(source, max_length=8)
        load_pretrained(AutoModelForSequenceClassification, source, seed=0, dtype=torch.float32, num_labels=2)
    except UserError as error:
        assert error.where and str(error).startswith(f"{error.where}: ")


def broken_files(folder: Path):
    weights = folder / "model.safetensors"
    yield lambda: os.truncate(weights, 1000)
    yield lambda: os.truncate(weights, 4)
    yield lambda: weights.write_bytes(b"")
    yield lambda: weights.write_bytes(b"\xff" * 64)
    yield lambda: (folder / "config.json").write_text("[" * 100_000)
    yield lambda: (folder / "config.json").write_bytes(b"\xff\xfe")
    yield lambda: (folder / "tokenizer.json").write_text("{}")
    yield lambda: (folder / "tokenizer.json").write_text("[" * 100_000)
    yield lambda: (folder / "tokenizer_config.json").write_text('{"model_max_length": "x"}')
    yield lambda: (folder / "tokenizer_config.json").write_text("5")
    yield lambda: (folder / "generation_config.json").write_text("5")
    yield lambda: (weights.unlink(), (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N."))
    yield lambda: (weights.unlink(), (folder / "pytorch_model.bin").write_bytes(b"no pickle"))
    yield lambda: (
        weights.unlink(),
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../x"}}'),
    )
    yield lambda: (weights.unlink(), (folder / "model.safetensors.index.json").write_text("5"))


@pytest.mark.parametrize("number", range(15))
def test_a_damaged_file_of_a_model_is_told(number, tiny_bert, tmp_path):
    model = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    list(broken_files(model))[number]()
    write_jsonl(tmp_path / "data.jsonl", messages(16))
    words = [
        "data.jsonl",
        "model.name=m",
        "data.max_length=8",
        "train.max_steps=1",
        "evaluate.baselines=false",
        "output=o",
    ]
    for verb in ("check", "train"):
        done = command(verb, *words, cwd=tmp_path)
        assert done.returncode in (0, 1, 2), done.stderr[-3000:]
    shown = command("tokenizer", "show", "hi", "--model", "m", cwd=tmp_path)
    assert shown.returncode in (0, 2), shown.stderr[-3000:]


def test_a_bin_that_would_run_code_is_refused(tiny_bert, tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    model = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    (model / "model.safetensors").unlink()
    torch.save({"a": Evil()}, model / "pytorch_model.bin")
    write_jsonl(tmp_path / "data.jsonl", messages(16))
    done = command("train", "data.jsonl", "model.name=m", "train.max_steps=1", "output=o", cwd=tmp_path)
    assert done.returncode == 2 and "contains more than tensors" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, int, True), (True, int, False), (1, float, True), (True, float, False), ("a", str, True), (None, str | None, True),
        (5, str | None, False), (("a",), tuple[str, ...], True), ((5,), tuple[str, ...], False), ("ab", tuple[str, ...], False),
        ((1, "a"), tuple[int, str], True), ((1,), tuple[int, str], False), ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False), ([1], list[int], True), ("ab", list[str], False),
    ],
)  # fmt: skip
def test_a_value_fits_its_hint(value, hint, right):
    assert fits(value, hint) is right
