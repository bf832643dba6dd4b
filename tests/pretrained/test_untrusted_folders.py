"""Folders that somebody else made run no code, ask nothing, wait for nothing: every verb gives exit 2, a finding, or a right answer."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

import tunewright
from tests.cli.test_cli import tunewright as command
from tests.conftest import messages, write_jsonl
from tunewright import plugins
from tunewright.adapters.peft_files import read_config
from tunewright.artifacts.model_folder import MANIFEST, write_manifest
from tunewright.errors import UserError
from tunewright.exporters import export
from tunewright.models.loading import load_pretrained
from tunewright.prediction import load
from tunewright.pretrained.folder_checks import check_folder, check_tokenizer, check_values
from tunewright.pretrained.model_files import ModelFolder
from tunewright.runs.train import train
from tunewright.tokenization.encoder import load_tokenizer
from tunewright.verification import verify

ROOT = Path(tunewright.__file__).parent
PAYLOAD = "open({mark!r}, 'a').write('ran')\n"
CONSENT = "y\nyes\n1\n" * 50


# The source


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            yield node, owner, name


def test_every_loader_is_told_not_to_run_code():
    asked = []
    for path in sorted(ROOT.rglob("*.py")):
        for node, owner, name in calls(path):
            if name not in ("from_pretrained", "from_config", "pipeline") or owner in ("PeftModel", "PeftConfig"):
                continue  # PEFT's take no such word; what they read is checked by peft_files
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if given.get("trust_remote_code", "") is not False:
                asked.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not asked


def test_modules_are_imported_by_name_in_few_places():
    """`plugins` checks the name first; the others import what stands in our own folders or in `__init__`'s own table."""
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for _, _, name in calls(path)
        if name in ("import_module", "__import__", "exec", "find_loader", "exec_module")
        or (
            name == "eval" and any(isinstance(n, ast.Constant) for n in ast.walk(ast.parse(path.read_text()))) and False
        )
    }
    assert found == {"__init__.py", "plugins.py", "reading/locate.py"}


# Plug-ins


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    """A task of the user's own on the path, which marks when it is imported. Nothing is trusted before or after."""
    name = f"my_task_{os.getpid()}"
    mark = tmp_path / "imported"
    (tmp_path / f"{name}.py").write_text(
        PAYLOAD.format(mark=str(mark)) + "from tunewright.tasks.classification import Options as _O, Task as _T\n"
        f"class Options(_O):\n    name: str = {name!r}\nclass Task(_T):\n    name = {name!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_TRUSTED", set())
    yield name, mark
    sys.modules.pop(name, None)


def test_a_dotted_name_is_imported_only_where_the_user_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_TRUSTED", set())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "payload.py").write_text(PAYLOAD.format(mark=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("theirs.payload", "os.path", "tunewright.tasks.base", "..theirs", "a.b/c"):
        with pytest.raises(UserError, match="--plugin" if "/" not in name and ".." not in name else "no task"):
            plugins.find("tasks", name)
    assert not (tmp_path / "ran").exists()
    plugins.trust(["os.path"])
    with pytest.raises(UserError, match=r"os\.path has no Task"):
        plugins.find("tasks", "os.path")
    for name in ([], {}, 5, None):
        with pytest.raises(UserError):
            plugins.find("tasks", name)
    for wrong in ("a b", "../x", "", "-x", 5):
        with pytest.raises(UserError, match="not the name of a module"):
            plugins.trust([wrong])


def test_a_plugin_that_fails_to_import_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_TRUSTED", set())
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_plugin_of_mine.py").write_text("1 / 0\n")
    plugins.trust(["broken_plugin_of_mine"])
    with pytest.raises(UserError, match="ZeroDivisionError"):
        plugins.find("tasks", "broken_plugin_of_mine")


def test_a_task_of_ones_own_is_trained_with_plugins_and_used_with_plugin(my_module, run_values, tmp_path):
    name, mark = my_module
    values = {**run_values, "task": name, "train": {**run_values["train"], "max_steps": 1}}
    with pytest.raises(UserError, match="plugins"):
        train(values)
    assert not mark.exists()
    run = train({**values, "plugins": [name]}).folder
    assert mark.exists()
    for words in (["predict", str(run), "hello"], ["evaluate", str(run)], ["train", str(run)], ["runs", "--folder", str(tmp_path)],
                  ["verify", str(run)], ["export", str(run), "--to", "merged"], ["train", str(run / "config.yaml")]):  # fmt: skip
        plugins._TRUSTED.clear()
        sys.modules.pop(name, None)
        mark.unlink(missing_ok=True)
        refused = command(*words, cwd=tmp_path, stdin=CONSENT)
        assert not mark.exists() and refused.returncode in (0, 1, 2), words
        assert "--plugin" in refused.stderr + refused.stdout, words
        given = command(*words, "--plugin", name, cwd=tmp_path)
        assert given.returncode == 0, (words, given.stderr)
    plugins._TRUSTED.clear()
    with pytest.raises(UserError, match="--plugin"):
        load(run)
    assert load(run, plugins=[name]).predict(["hello"])
    plugins._TRUSTED.clear()
    with pytest.raises(UserError, match="--plugin"):
        list(verify(run))
    assert not any(check.broken for check in verify(run, plugins=[name]))
    plugins._TRUSTED.clear()
    assert export(run, "merged", output=tmp_path / "out", plugins=[name]).is_dir() and name in plugins._TRUSTED


# A stranger's run


@pytest.fixture(scope="module")
def finished(tiny_bert, tmp_path_factory):
    """A finished run with a merged adapter, so that base/ and adapter/ stand beside model/, and its data."""
    folder = tmp_path_factory.mktemp("foreign")
    write_jsonl(
        folder / "data.jsonl", [row for row in messages() if row["label"] in ("order_status", "return_item")][:24]
    )
    values = {
        "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 24}, "adapter": "lora",
        "train": {"max_steps": 1, "batch_size": 8, "precision": "fp32"}, "evaluate": {"baselines": False},
        "output": str(folder / "run"),
    }  # fmt: skip
    return train(values).folder


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def task_by_path(run: Path) -> None:
    edit(run / "model" / "tunewright.json", task="gift.model.payload")


def plugins_in_the_config(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("plugins: []", "plugins: [gift.model.payload]").replace(
            "name: classification", "name: gift.model.payload"
        )
    )


def adapter_by_path(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("name: lora", "name: gift.model.payload"))


def config_of_its_own(run: Path) -> None:
    auto_map = {"AutoConfig": "payload.C", "AutoModelForSequenceClassification": "payload.M"}
    for part in ("model", "base"):
        edit(run / part / "config.json", model_type="evil", auto_map=auto_map)


def known_type_with_a_map(run: Path) -> None:
    for part in ("model", "base"):
        edit(
            run / part / "config.json",
            auto_map={"AutoConfig": "payload.C", "AutoModelForSequenceClassification": "payload.M"},
        )


def tokenizer_of_its_own(run: Path) -> None:
    edit(run / "model" / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": [None, "payload.T"]})


def tokenizer_class_by_path(run: Path) -> None:
    edit(run / "model" / "tokenizer_config.json", tokenizer_class="../gift/model/payload")


def generation_of_its_own(run: Path) -> None:
    (run / "model" / "custom_generate").mkdir()
    shutil.copyfile(run / "model" / "payload.py", run / "model" / "custom_generate" / "generate.py")


def kernel_of_the_hub(run: Path) -> None:
    edit(run / "model" / "config.json", attn_implementation="stranger/kernel")


def adapter_beside_the_model(run: Path) -> None:
    shutil.copyfile(run / "adapter" / "adapter_config.json", run / "model" / "adapter_config.json")


def adapter_that_imports(run: Path) -> None:
    edit(run / "adapter" / "adapter_config.json", megatron_config={"a": 1}, megatron_core="gift.model.payload")


def architecture_that_is_none(run: Path) -> None:
    edit(run / "model" / "config.json", architectures=["utils"])


def names_that_lead_away(run: Path) -> None:
    listed = json.loads((run / "model" / MANIFEST).read_text())
    listed["files"] |= {"../../../etc/passwd": "0" * 64, "/etc/passwd": "0" * 64, "/dev/stdin": "0" * 64}
    (run / "model" / MANIFEST).write_text(json.dumps(listed))


def a_pipe_for_a_file(run: Path) -> None:
    (run / "model" / "generation_config.json").unlink(missing_ok=True)
    os.mkfifo(run / "model" / "generation_config.json")


def links_for_files(run: Path) -> None:
    (run / "model" / "notes.txt").symlink_to("/etc/hostname")
    (run / "model" / "config.json").unlink()
    (run / "model" / "config.json").symlink_to("/dev/zero")


HOSTILE = [
    task_by_path, plugins_in_the_config, adapter_by_path, config_of_its_own, known_type_with_a_map, tokenizer_of_its_own,
    tokenizer_class_by_path, generation_of_its_own, kernel_of_the_hub, adapter_beside_the_model, adapter_that_imports,
    architecture_that_is_none, names_that_lead_away, a_pipe_for_a_file, links_for_files,
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: one.__name__)
def test_no_verb_runs_what_a_folder_brings(hostile, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_TRUSTED", set())
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m tunewright` has it
    mark = tmp_path / "ran"
    gift = Path(shutil.copytree(finished, tmp_path / "gift"))
    for place in (gift / "model", gift / "base", gift / "adapter", gift):
        (place / "payload.py").write_text(PAYLOAD.format(mark=str(mark)))
    hostile(gift)
    for part in ("model", "base", "adapter"):  # the stranger writes the manifests too
        if hostile not in (names_that_lead_away, a_pipe_for_a_file, links_for_files):
            write_manifest(gift / part)
    data = str(finished.parent / "data.jsonl")
    verbs = [
        ["predict", "gift", "-"], ["predict", "gift/model", "hello"], ["predict", "gift", "--file", data], ["evaluate", "gift"],
        ["evaluate", "gift", data], ["verify", "gift"], ["export", "gift", "--to", "merged", "-o", "out"], ["chat", "gift"],
        ["train", "gift"], ["explain", "gift", f"{data}:2"], ["runs", "--folder", "."], ["tokenizer", "show", "hi", "--model", "gift"],
        ["train", data, "model.name=gift", "train.max_steps=1", "data.max_length=16", "evaluate.baselines=false", "output=o"],
    ]  # fmt: skip
    codes = {}
    for words in verbs:
        done = command(*words, cwd=tmp_path, stdin=CONSENT)
        codes[" ".join(words[:2])] = done.returncode
        assert done.returncode in (0, 1, 2), (words, done.stderr[-2000:])
        assert not mark.exists(), words
    assert (
        2 in codes.values()
        or 1 in codes.values()
        or hostile in (known_type_with_a_map, tokenizer_class_by_path, adapter_that_imports)
    )


# Adapters


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target_modules", "(a+)+$"), ("target_modules", ["query", "(a|a)*"]), ("modules_to_save", "x"),
        ("rank_pattern", {"(a+)+": 4}), ("megatron_config", {"x": 1}), ("peft_type", "EVIL"), ("peft_type", ["LORA"]),
        ("task_type", {"a": 1}), ("r", -1), ("r", 2**40), ("lora_alpha", "16"), ("loftq_config", {"bits": 4}),
        ("init_lora_weights", "eva"), ("layer_replication", [[0, 4]]), ("something_new", "x"),
    ],
)  # fmt: skip
def test_an_adapters_description_holds_numbers_and_names_alone(finished, tmp_path, key, value):
    adapter = Path(shutil.copytree(finished / "adapter", tmp_path / "adapter"))
    assert read_config(adapter).r == 16
    edit(adapter / "adapter_config.json", **{key: value})
    with pytest.raises(UserError, match=key):
        read_config(adapter)


# Numbers that only cost memory


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"num_labels": 10**8}, "num_labels is 100000000"), ({"num_labels": "3"}, "num_labels is '3'"),
        ({"text_config": {"num_hidden_layers": 10**7}}, "text_config.num_hidden_layers is"),
        ({"vision_config": {"num_labels": 10**9}}, "vision_config.num_labels is"),
        ({"text_config": {"pad_token_id": "a"}}, "text_config.pad_token_id is"),
        ({"dtype": "payload"}, "dtype is 'payload'"), ({"torch_dtype": "os.system"}, "torch_dtype is 'os.system'"),
    ],
)  # fmt: skip
def test_a_config_that_asks_for_more_than_any_model_is_refused_before_a_library_reads_it(values, key):
    with pytest.raises(UserError, match=key):
        check_values("config.json", values, where="m/config.json")


@pytest.mark.parametrize(
    "dtype", ["auto", "float32", "bfloat16", "float16", "torch.float64", "float8_e4m3fn", "half", None]
)
def test_types_of_numbers_that_models_name_are_taken(dtype):
    check_values(
        "config.json", {"dtype": dtype, "num_labels": 0, "text_config": {"num_labels": 2}}, where="m/config.json"
    )


def test_a_model_within_a_model_is_measured_too(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"0" * 64)
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 2**20, "vocab_size": 2**30}}))
    with pytest.raises(UserError, match="far larger model than the weight files"):
        check_folder(tmp_path, "model m")


def test_a_tokenizer_that_writes_far_more_than_it_reads_is_refused_before_it_is_loaded(tmp_path):
    step = {"type": "Replace", "pattern": {"Regex": "."}, "content": "z" * 400}
    harmless = {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, None],
    }
    for name, values in (
        ("normalizer", {"normalizer": {"type": "Sequence", "normalizers": [step, step]}}),
        ("decoder", {"normalizer": harmless, "decoder": {"type": "Sequence", "decoders": [harmless, step, step]}}),
    ):
        text = json.dumps(values)
        for written in (text, text.replace("Replace", "\\u0052eplace")):
            (tmp_path / "tokenizer.json").write_text(written)
            with pytest.raises(UserError, match=f"its {name} can turn one character into 160,000"):
                load_tokenizer(ModelFolder("m", tmp_path))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": harmless, "decoder": step}))
    check_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("key", ["num_beams", "num_return_sequences", "num_beam_groups"])
def test_a_generation_config_that_would_take_all_memory_is_refused(tmp_path, key):
    for value in (1, 5, None):
        (tmp_path / "generation_config.json").write_text(json.dumps({key: value}))
        check_folder(tmp_path, "model m")
    (tmp_path / "generation_config.json").write_text(json.dumps({key: 10**6}))
    with pytest.raises(UserError, match=f"{key} is 1000000"):
        check_folder(tmp_path, "model m")


def test_a_tokenizer_that_frames_a_text_by_more_than_any_model_reads_is_refused(tiny_bert, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(tiny_bert / name, tmp_path / name)
    frame = [{"SpecialToken": {"id": "q", "type_id": 0}}] * 200 + [{"Sequence": {"id": "A", "type_id": 0}}]
    token = {"id": "q", "ids": [1] * 100, "tokens": ["q"] * 100}
    post = {"type": "TemplateProcessing", "single": frame, "pair": frame, "special_tokens": {"q": token}}
    edit(tmp_path / "tokenizer.json", post_processor=post)
    with pytest.raises(UserError, match="adds 20,000 control tokens to a text"):
        load_tokenizer(ModelFolder("m", tmp_path))


@pytest.mark.parametrize("key", ["text_config", "decoder", "text_encoder"])
def test_a_model_within_a_kind_that_has_none_is_refused(tiny_bert, tmp_path, key):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    edit(folder / "config.json", **{key: {"model_type": "payload"}})
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pretrained(AutoModelForTokenClassification, ModelFolder("m", folder), seed=0, dtype=torch.float32)


def test_a_model_that_names_an_adapter_which_is_not_there_is_refused(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    facts = json.loads((run / "model" / "tunewright.json").read_text())
    edit(run / "model" / "tunewright.json", adapter={**facts["adapter"], "merged": False})
    for part in ("base", "adapter"):
        shutil.rmtree(run / part)
        with pytest.raises(UserError):
            load(run, check=False)
