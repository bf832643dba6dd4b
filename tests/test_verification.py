"""verify: a whole run passes by every way; whatever is damaged is caught, and the stage that broke is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.tasks.test_contract import values_for
from tunewright.exporters import export
from tunewright.runs.train import train
from tunewright.verification import is_target, verify


@pytest.fixture(scope="module")
def base_values(tiny_bert, tmp_path_factory):
    from tests.conftest import messages, write_jsonl

    folder = tmp_path_factory.mktemp("verify")
    rows = [row for row in messages() if row["label"] in ("order_status", "return_item", "product_question")][:60]
    write_jsonl(folder / "data.jsonl", rows)
    return folder, {
        "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 24},
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32"}, "evaluate": {"baselines": False},
    }  # fmt: skip


@pytest.fixture(scope="module")
def lora_run(base_values):
    folder, values = base_values
    return train({**values, "adapter": "lora", "output": str(folder / "lora")}).folder


@pytest.fixture
def copy(lora_run, tmp_path):
    return Path(shutil.copytree(lora_run, tmp_path / "run"))


def outcome(run: Path):
    checks = list(verify(run))
    return checks, next((check.broken for check in checks if check.broken), None)


def test_golden_examples_are_of_every_kind(lora_run):
    golden = json.loads((lora_run / "model" / "golden.json").read_text())
    reasons = [one["why"].split(" (")[0] for one in golden["examples"]]
    assert len(reasons) >= 16
    assert {"shortest", "longest", "truncated", "beyond ASCII", "control tokens"} <= set(reasons)
    assert golden["labels"] == ["order_status", "product_question", "return_item"]
    typed = next(one for one in golden["examples"] if one["why"].startswith("control"))
    assert "[SEP]" in typed["text"] and typed["rows"][0]["input_ids"].count(3) == 1  # the template's own alone


def test_a_whole_run_passes_by_every_way(lora_run):
    checks, broken = outcome(lora_run)
    assert broken is None
    assert [check.way for check in checks] == ["reload", "transformers", "pipeline", "adapter on its base", "files"]
    assert all(check.num_rows >= 16 and check.difference < 1e-5 for check in checks[:-1])


@pytest.mark.parametrize("kind", ["classification", "multi_label", "pairs", "ner"])
def test_every_task_passes(run_values, tmp_path, kind):
    values = values_for(kind, run_values, tmp_path)
    run = train({**values, "train": {**values["train"], "epochs": 1}}).folder
    checks, broken = outcome(run)
    assert broken is None and len(checks) == 4


@pytest.mark.parametrize("adapter", ["prefix", "prompt"])
def test_what_cannot_be_merged_passes_as_adapter_on_its_base(base_values, tmp_path, adapter):
    values = {**base_values[1], "adapter": adapter, "output": str(tmp_path / "run")}
    checks, broken = outcome(train(values).folder)
    assert broken is None
    assert [check.way for check in checks] == ["reload", "adapter on its base", "files"]


def edit_json(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def swap_labels(values: dict) -> None:
    names = values["id2label"]
    names["0"], names["1"] = names["1"], names["0"]


def lower_case_off(values: dict) -> None:
    values["normalizer"]["lowercase"] = False


def test_a_swapped_label_order_is_caught(copy):
    edit_json(copy / "model" / "config.json", swap_labels)
    assert outcome(copy)[1].stage == "label order"


def test_swapped_labels_of_the_task_are_caught(copy):
    edit_json(copy / "model" / "tunewright.json", lambda values: values["task_state"]["labels"].reverse())
    assert outcome(copy)[1].stage == "files"


def test_an_exchanged_tokenizer_is_caught(copy):
    edit_json(copy / "model" / "tokenizer.json", lower_case_off)
    assert outcome(copy)[1].stage == "tokenizer"


def test_an_exchanged_template_is_caught(copy):
    def change(values: dict) -> None:
        values["post_processor"]["single"].pop()

    edit_json(copy / "model" / "tokenizer.json", change)
    assert outcome(copy)[1].stage in ("template", "tokenizer")


def test_other_weights_are_caught(copy, tiny_bert):
    shutil.copyfile(copy / "base" / "model.safetensors", copy / "model" / "model.safetensors")
    assert outcome(copy)[1].stage == "weights"


@pytest.mark.parametrize("place", [0.3, 0.9999])
@pytest.mark.parametrize(
    "name",
    [
        "model/model.safetensors", "model/tokenizer.json", "model/config.json", "model/tokenizer_config.json", "model/tunewright.json",
        "model/golden.json", "model/manifest.json", "adapter/adapter_model.safetensors", "base/model.safetensors",
    ],
)  # fmt: skip
def test_a_flipped_byte_is_caught(copy, name, place, monkeypatch):
    monkeypatch.setattr(
        "tunewright.verification._with_pipeline", lambda *_: (1, 0.0, "")
    )  # the slowest way, passed in other tests
    content = bytearray((copy / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    assert outcome(copy)[1] is not None


def test_a_folder_without_golden_examples_is_told_by_its_files(copy):
    for name in ("golden.json", "manifest.json"):
        (copy / "model" / name).unlink()
    assert "manifest.json is gone" in outcome(copy)[1].found


def gone(run):
    shutil.rmtree(run / "adapter")


def no_folder(run):
    gone(run)
    (run / "adapter").write_text("")


def empty_manifest(run):
    (run / "model" / "manifest.json").write_text('{"schema": 1, "files": {}}')


def another_file(run):
    (run / "model" / "chat_template.jinja").write_text("{{ messages }}")


def no_facts(run):
    (run / "model" / "tunewright.json").unlink()


def no_model(run):
    shutil.rmtree(run / "model")


def a_pipe(run):
    (run / "model" / "config.json").unlink()
    os.mkfifo(run / "model" / "config.json")


@pytest.mark.parametrize("damage", [gone, no_folder, empty_manifest, another_file, no_facts, no_model, a_pipe])
def test_what_is_missing_or_came_later_is_caught(copy, damage):
    damage(copy)
    assert is_target(copy) and outcome(copy)[1] is not None


def test_a_folder_for_the_hub_is_checked_by_its_files(copy, tmp_path):
    folder = export(copy, "hub-folder", output=tmp_path / "hub")
    checks, broken = outcome(folder)
    assert broken is None and [(check.way, check.num_rows) for check in checks] == [("files", 0)]
    assert outcome_with_golden(folder, copy) is None
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert outcome(folder)[1].stage == "weights"


def outcome_with_golden(folder: Path, run: Path):
    return next((check.broken for check in verify(folder, golden_from=run) if check.broken), None)


def test_an_endless_template_of_a_stranger_ends_verification(run_values, tmp_path):
    """transformers renders templates without bounds: one that ours refuses is never handed to it."""
    from tunewright.files.manifests import write_manifest

    run = train({**values_for("sft", run_values, tmp_path), "output": str(tmp_path / "run")}).folder
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
    (run / "model" / "chat_template.jinja").write_text(endless)
    write_manifest(run / "model")
    assert outcome(run)[1].stage == "tokenizer"


def test_texts_that_spell_control_once_they_are_normalized_may_be_encoded_otherwise():
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    from tunewright.artifacts.golden_examples import _spells_control

    tokenizer = Tokenizer(models.WordLevel({"<|end|>": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<|end|>")
    spelled = [_spells_control(wrapped, text) for text in ("a <|end|>", "<|END|>", "＜|end|＞", "the end", "[unk]")]
    assert spelled == [True, True, True, False, False]
