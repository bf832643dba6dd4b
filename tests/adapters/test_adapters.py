"""Adapters: what learns and what stays, exact under any cut, refused where they cannot work, merged without a difference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tunewright as tw
from tests.tasks.test_contract import TASKS, StopAfter, gradient, values_for, with_lora
from tunewright.adapters.base import attach
from tunewright.adapters.config import adapter_of
from tunewright.artifacts.adapter_folder import _merged as merged_model
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.runs.early_checks import refuse_early
from tunewright.runs.reporter import Interrupted
from tunewright.runs.setup import build_components
from tunewright.runs.train import train
from tunewright.verification import verify

ADAPTERS = ["lora", "prefix", "prompt", "ia3"]


def adapted(values: dict, adapter: object, **train: object) -> dict:
    return {**values, "adapter": adapter, "train": {**values["train"], **train}}


def assembled(values: dict):
    notes: list[str] = []
    return build_components(parse_config(values), say=notes.append), notes


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_a_steps_gradient_does_not_depend_on_its_cut(run_values, tmp_path, kind, adapter):
    values = values_for(kind, run_values, tmp_path)
    values["data"]["max_length"] = 40
    run, notes = assembled(adapted(values, adapter, precision="fp64"))
    assert not [note for note in notes if "PyTorch's dropout" in note]
    whole = gradient(run, budget=10**6)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    for budget in (1, 60, 200):
        cut = gradient(run, budget=budget)
        assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9, f"budget {budget}"


def test_only_the_adapter_and_the_head_learn(run_values):
    run, notes = assembled(adapted(run_values, {"name": "lora", "rank": 2}))
    learned = {name for name, p in run.model.named_parameters() if p.requires_grad}
    heads = (".classifier.modules_to_save.", ".pooler.dense.modules_to_save.")
    assert all(".lora_" in name or any(head in name for head in heads) for name in learned)
    # 2 layers: query, key, value, output 32x32, intermediate 32x64, output 64x32
    assert sum(p.numel() for name, p in run.model.named_parameters() if ".lora_" in name) == 2 * (
        2 * (4 * (32 + 32) + 2 * (32 + 64))
    )
    assert run.fresh == ["classifier.bias", "classifier.weight"]
    assert (
        notes and notes[0].startswith("lora: 1,792 of ") and "a head of 1,188" in notes[0]
    )  # 132, and the pooler's 1,056


def saved_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def resumed_as_straight(values: dict, folder):
    """A run, after one that was stopped and resumed was found to be the same bit for bit, and to score as it was trained."""
    values["data"]["max_length"] = 40
    straight = train({**values, "output": str(folder / "straight")})
    with pytest.raises(Interrupted):
        train({**values, "output": str(folder / "stopped")}, reporter=StopAfter(9))
    resumed = train({**values, "output": str(folder / "stopped")})
    assert straight.history == resumed.history
    for name in ("adapter/adapter_model.safetensors", "model/golden.json"):
        assert (straight.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
    metrics = tw.evaluate(straight, precision="fp32")["metrics"]
    assert metrics["loss"] == pytest.approx(straight.scores["test"]["metrics"]["loss"], abs=1e-5)
    return straight


@pytest.mark.parametrize("kind", ["classification", "ner"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_run_resumes_bit_identically_and_is_used_as_it_was_trained(run_values, tmp_path, kind, adapter):
    values = values_for(kind, adapted(run_values, adapter), tmp_path)
    straight = resumed_as_straight(values, tmp_path)
    step = next((straight.folder / "checkpoints").glob("step-*"))
    frozen = sum(p.stat().st_size for p in (straight.folder / "base").glob("*.safetensors"))
    assert (step / "model.safetensors").stat().st_size < frozen


@pytest.mark.parametrize("kind", TASKS)
def test_verify_passes_for_every_task_with_lora(run_values, tmp_path, tiny_gpt, kind):
    values = with_lora(kind, run_values, tmp_path, tiny_gpt)
    run = train({**values, "train": {**values["train"], "max_steps": 4}}).folder
    checks = list(verify(run))
    assert not [check for check in checks if check.broken]
    assert [check.way for check in checks][-2:] == ["adapter on its base", "files"]


@pytest.mark.parametrize("adapter", ["prefix", "prompt"])
def test_virtual_tokens_before_conversations(run_values, tmp_path, tiny_gpt, adapter):
    values = {**with_lora("sft", run_values, tmp_path, tiny_gpt), "adapter": {"name": adapter, "num_tokens": 4}}
    run, _ = assembled(adapted(values, values["adapter"], precision="fp64"))
    whole, cut = gradient(run, budget=10**6), gradient(run, budget=60)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9
    done = train({**values, "train": {**values["train"], "max_steps": 4}})
    assert not [check for check in verify(done.folder) if check.broken]


@pytest.mark.parametrize("adapter", ["prefix", "prompt"])
def test_writing_with_a_cache_sees_the_virtual_tokens_once(run_values, tmp_path, tiny_gpt, adapter):
    from tunewright.generation.generate import Sampling
    from tunewright.generation.generate_rows import generate_rows

    values = {**with_lora("sft", run_values, tmp_path, tiny_gpt), "adapter": {"name": adapter, "num_tokens": 4}}
    run, _ = assembled(values)
    run.model.eval()
    torch.nn.init.normal_(run.model.prompt_encoder["default"].embedding.weight)
    prompts = [[7, 30, 12, 55, 9], [40, 8]]
    greedy = Sampling(temperature=0, max_new_tokens=6)
    found = generate_rows(run.model, prompts, greedy, end_ids=frozenset(), pad_id=0)
    for prompt, answer in zip(prompts, found, strict=True):
        ids = list(prompt)
        for _ in range(6):
            with torch.inference_mode():
                logits = run.model(
                    input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
                ).logits
            ids.append(int(logits[0, -1].argmax()))
        assert answer == ids[len(prompt) :]


def test_a_prefix_starts_as_real_tokens_before_the_row(run_values, tmp_path, tiny_gpt):
    values = {**with_lora("sft", run_values, tmp_path, tiny_gpt), "adapter": {"name": "prefix", "num_tokens": 4}}
    run, _ = assembled(adapted(values, values["adapter"], precision="fp64", seed=3))
    run.model.eval()
    base = run.model.base_model
    drawn = torch.randint(
        base.get_input_embeddings().num_embeddings, (1, 4), generator=torch.Generator().manual_seed(3)
    )
    row = torch.tensor([[7, 30, 12, 55, 9]])
    with torch.inference_mode():
        found = run.model(input_ids=row, attention_mask=torch.ones_like(row)).logits
        both = torch.cat([drawn, row], 1)
        expected = base(input_ids=both, attention_mask=torch.ones_like(both)).logits[:, 4:]
    assert torch.allclose(found, expected, atol=1e-9)


WORDS = ["my order", "ere", "[E1]"]  # the last one stands in no row
ROWS_LEARN = ["classification", "pairs", "ner", "sft", "dpo", "kto", "reward", "clm"]


def with_added_rows(kind, base, folder, decoder, **options):
    values = with_lora(kind, base, folder, decoder, **{"train_added_tokens": True, **options})
    return {**values, "model": {"name": values["model"], "add_tokens": WORDS}}


@pytest.mark.parametrize(
    ("kind", "untied"), [*((kind, False) for kind in ROWS_LEARN), *((kind, True) for kind in ("sft", "dpo", "clm"))]
)
def test_rows_of_added_tokens_learn_beside_lora(run_values, tmp_path, tiny_gpt, kind, untied):
    """They alone of all rows; a step's gradient does not depend on its cut; merged they are what the adapter made of them."""
    if untied:
        tiny_gpt = untied_copy(tiny_gpt, tmp_path / "untied")
    values = with_added_rows(kind, run_values, tmp_path, tiny_gpt)
    run, notes = assembled(adapted(values, values["adapter"], precision="fp64"))
    assert not [note for note in notes if "Added tokens keep" in note]
    whole, cut = gradient(run, budget=10**6), gradient(run, budget=60)
    norm = torch.sqrt(sum((g**2).sum() for g in whole.values()))
    assert max(float((cut[name] - whole[name]).abs().max() / norm) for name in whole) < 1e-9
    tables = [name for name in whole if "trainable_tokens_delta" in name]
    assert len(tables) == (2 if untied else 1)
    read = {int(number) for position in range(16) for number in run.rows.input_ids(position)}
    assert all(bool(whole[tables[0]][row].any()) for row in range(3) if 600 + row in read)

    done = train({**values, "train": {**values["train"], "max_steps": 4}}).folder
    assert not [check for check in verify(done) if check.broken]
    base, merged = saved_rows(done / "base"), saved_rows(done / "model")
    changed = (base != merged).any(1).nonzero()[:, 0].tolist()
    assert changed[:2] == [600, 601] and set(changed) <= {600, 601, 602}
    delta = next(v for k, v in saved_adapter(done).items() if k.endswith("trainable_tokens_delta") and "head" not in k)
    assert torch.equal(merged[600:603], delta)


def untied_copy(decoder, folder):
    import shutil

    from transformers import AutoModelForCausalLM

    shutil.copytree(decoder, folder)
    model = AutoModelForCausalLM.from_pretrained(decoder)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.5)
    model.save_pretrained(folder)
    return folder


def saved_rows(folder):
    names = ("bert.embeddings.word_embeddings.weight", "transformer.wte.weight")
    weights = saved_weights(folder)
    return next(weights[name] for name in names if name in weights)


def saved_adapter(run):
    from safetensors.torch import load_file

    return load_file(run / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", ["classification", "sft"])
def test_rows_of_added_tokens_resume_and_go_on(run_values, tmp_path, tiny_gpt, kind):
    values = with_added_rows(kind, run_values, tmp_path, tiny_gpt, dropout=0.1)
    values["data"]["max_length"] = 128 if kind == "sft" else 40
    straight = train({**values, "output": str(tmp_path / "straight")})
    with pytest.raises(Interrupted):
        train({**values, "output": str(tmp_path / "stopped")}, reporter=StopAfter(9))
    resumed = train({**values, "output": str(tmp_path / "stopped")})
    assert straight.history == resumed.history
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors", "model/golden.json"):
        assert (straight.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
    kept = {**values["adapter"], "continue_training": True}
    again, _ = assembled({**adapted(values, kept), "model": {"name": str(straight.folder), "add_tokens": WORDS}})
    learned = {name: p for name, p in again.model.named_parameters() if "trainable_tokens_delta" in name}
    delta = [value for name, value in saved_adapter(straight.folder).items() if "trainable_tokens_delta" in name]
    assert [p.tolist() for p in learned.values()] == [value.tolist() for value in delta]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {"name": "lora"}}, "no tokens are added; found an empty model.add_tokens"),
        ({"adapter": {"name": "prefix"}}, "prefix does not train the rows of tokens.*adapter=lora"),
        ({"adapter": {"name": "ia3"}}, "ia3 does not train the rows of tokens"),
        ({"adapter": {"name": "none"}}, "without an adapter all rows are trained anyway"),
    ],
)
def test_rows_of_added_tokens_that_cannot_learn_are_refused(run_values, tiny_bert, changes, said):
    adapter = {**changes["adapter"], "train_added_tokens": True}
    words = [] if adapter["name"] == "lora" else WORDS
    values = {**run_values, "task": "classification", "adapter": adapter}
    with pytest.raises(UserError, match=said) as caught:
        refuse_early(parse_config({**values, "model": {"name": str(tiny_bert), "add_tokens": words}}))
    assert caught.value.where == "adapter.train_added_tokens"


def test_rows_of_an_output_with_a_bias_are_refused(run_values, tmp_path, tiny_gpt):
    with pytest.raises(UserError, match="an output layer that has a bias"):
        assembled(with_added_rows("mlm", run_values, tmp_path, tiny_gpt))


def write_config(folder, **values):
    import json

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return str(folder)


PREFIX_ON = "prefix tuning does not work with"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": "prefix", "train": {"gradient_checkpointing": True}}, f"{PREFIX_ON} gradient checkpointing.*adapter=lora"),
        ({"adapter": "prefix", "model": "distilbert"}, "accepts no additional keys; found distilbert. Set adapter=lora"),
        ({"adapter": "prefix", "model": "modernbert"}, "accepts no additional keys; found modernbert"),
        ({"adapter": "prefix", "task": "clm", "model": "gpt2"}, f"{PREFIX_ON} packed documents.*task=sft"),
        ({"adapter": "prefix", "data": {"max_length": 60}}, "20 virtual tokens leave no place for rows of 60; found 64 positions.*=44"),
        ({"adapter": "prompt", "model": "gpt2"}, "cannot work on a decoder's classifier.*adapter=prefix"),
        ({"adapter": "lora", "train": {"freeze": "body"}}, "an adapter already freezes the whole base model; found body"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_loaded(run_values, tmp_path, tiny_bert, changes, said):
    import shutil

    values = {**run_values, "task": "classification", **changes}
    for section in ("data", "train"):
        values[section] = {**run_values[section], **changes.get(section, {})}
    if (kind := changes.get("model")) is not None:
        shutil.copytree(tiny_bert, tmp_path / kind)
        (tmp_path / kind / "model.safetensors").unlink()
        values["model"] = write_config(tmp_path / kind, model_type=kind, max_position_embeddings=512)
    with pytest.raises(UserError, match=said):
        refuse_early(parse_config(values))


def test_unknown_names_and_settings_are_explained(run_values, tiny_bert):
    with pytest.raises(
        UserError, match=r"no adapter 'lore'; found 'ia3', 'lora', 'prefix', 'prompt'\. Did you mean lora\?"
    ):
        parse_config({**run_values, "adapter": "lore"})
    with pytest.raises(UserError, match=r"'adapter.rank'; it is a setting of another adapter: set adapter.name"):
        parse_config({**run_values, "adapter": {"rank": 8}})
    with pytest.raises(UserError, match=r"no linear layer is named 'q_proj'; found 'dense', 'key', 'query', 'value'"):
        assembled({**run_values, "adapter": {"name": "lora", "targets": ["q_proj"]}})
    with pytest.raises(UserError, match="an adapter needs a pretrained base"):
        assembled(
            {**run_values, "model": {"name": "scratch:bert-tiny", "tokenizer": str(tiny_bert)}, "adapter": "lora"}
        )


def test_named_targets_rslora_and_dora_reach_peft(run_values):
    options = {"name": "lora", "rank": 4, "alpha": 8, "targets": ["query", "value"], "rslora": True, "dora": True}
    run, notes = assembled({**run_values, "adapter": options})
    config = run.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.use_rslora, config.use_dora) == (4, 8, True, True)
    assert set(config.target_modules) == {"query", "value"} and "classifier" in config.modules_to_save
    assert any("vLLM takes no adapter with a head that is saved whole or DoRA" in note for note in notes)


def test_an_adapter_learns_faster_and_the_head_as_without(run_values):
    values = {**run_values, "train": {**run_values["train"], "learning_rate": "auto"}}
    full, lora = assembled(values)[0].rates, assembled({**values, "adapter": "lora"})[0].rates
    assert lora == pytest.approx((4 * full[0], full[1]))


def test_a_base_in_half_precision_stays_so_and_the_saved_model_is_plain(run_values, tiny_bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny_bert, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "half")
    values = {**run_values, "model": str(tmp_path / "half"), "adapter": "lora"}
    run, notes = assembled(values)
    dtypes = {p.requires_grad: p.dtype for p in run.model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16} and "the base stays in bfloat16" in notes[0]
    done = train(values)
    assert {tensor.dtype for tensor in saved_weights(done.folder / "model").values()} == {torch.float32}
    assert {tensor.dtype for tensor in saved_weights(done.folder / "base").values()} == {torch.bfloat16}
    assert not [check for check in verify(done.folder) if check.broken]


def test_another_base_is_refused(run_values, tmp_path):
    done = train({**run_values, "adapter": {"name": "prefix", "num_tokens": 4}})
    weights = done.folder / "base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="has changed since it was written"):
        tw.load(done)
    with pytest.raises(UserError, match="the adapter was trained on a different base"):
        tw.load(done, check=False)


def test_a_classifier_starts_from_a_masked_model_with_lora(run_values, tmp_path, tiny_gpt):
    masked = train({**with_lora("mlm", run_values, tmp_path, tiny_gpt), "output": str(tmp_path / "masked")}).folder
    values = {
        **values_for("pairs", run_values, tmp_path),
        "model": str(masked),
        "adapter": "lora",
        "output": str(tmp_path / "next"),
    }
    run, _ = assembled(values)
    merged = saved_weights(masked / "model")
    name = "bert.encoder.layer.0.attention.self.query"
    assert torch.equal(run.model.get_base_model().get_submodule(name).base_layer.weight, merged[f"{name}.weight"])


def test_an_adapter_is_kept_or_merged_as_the_config_says(run_values, tmp_path):
    first = train({**run_values, "adapter": {"name": "lora", "rank": 4}, "output": str(tmp_path / "first")}).folder
    again = {
        **run_values,
        "model": str(first),
        "adapter": {"name": "lora", "rank": 4, "continue_training": True},
        "output": str(tmp_path / "second"),
    }
    run, _ = assembled(again)
    query = run.model.get_base_model().bert.encoder.layer[0].attention.self.query
    saved = saved_weights(first / "adapter") if (first / "adapter" / "model.safetensors").exists() else None
    assert saved is None and query.lora_B["default"].weight.abs().sum() > 0
    assert torch.equal(
        query.base_layer.weight, saved_weights(first / "base")["bert.encoder.layer.0.attention.self.query.weight"]
    )
    second = train(again).folder
    assert not [check for check in verify(second) if check.broken]
    merged, _ = assembled({**again, "adapter": "lora"})
    query = merged.model.get_base_model().bert.encoder.layer[0].attention.self.query
    assert query.lora_B["default"].weight.abs().sum() == 0
    with pytest.raises(
        UserError, match=r"is another adapter than the config describes; found .*\(4, 32\); expected \(8, 32\)"
    ):
        assembled({**again, "adapter": {"name": "lora", "rank": 8, "continue_training": True}})
    with pytest.raises(UserError, match="there is no adapter to continue with"):
        assembled({**run_values, "adapter": {"name": "lora", "continue_training": True}})


def test_a_run_with_a_prefix_is_no_base_unless_the_prefix_is_kept(run_values, tmp_path):
    adapter = {"name": "prefix", "num_tokens": 4}
    first = train({**run_values, "adapter": adapter, "output": str(tmp_path / "first")}).folder
    values = {**run_values, "model": str(first), "output": str(tmp_path / "second")}
    with pytest.raises(UserError, match="this run's adapter is not merged into its model"):
        assembled(values)
    kept, _ = assembled({**values, "adapter": {**adapter, "continue_training": True}})
    fresh, _ = assembled({**values, "model": str(first / "base"), "adapter": adapter})
    weights = [run.model.prompt_encoder["default"].embedding.weight for run in (kept, fresh)]
    assert not torch.equal(*weights)


def test_preference_tuning_after_lora_refers_to_the_tuned_model(run_values, tmp_path, tiny_gpt):
    """However the run is continued, the reference is what the full merged model says."""
    chat = with_lora("sft", run_values, tmp_path, tiny_gpt, rank=4)
    run = train({**chat, "train": {**chat["train"], "learning_rate": 0.02}, "output": str(tmp_path / "sft")}).folder
    values = {**values_for("dpo", run_values, tmp_path), "model": str(run), "output": str(tmp_path / "dpo")}
    adapter = {"name": "lora", "rank": 4}
    full, merged, kept = (
        assembled({**values, "adapter": one})[0].task.reference["train"]
        for one in ("none", adapter, {**adapter, "continue_training": True})
    )
    start = assembled({**values, "model": str(tiny_gpt)})[0].task.reference["train"]
    assert np.allclose(full, merged, atol=1e-4) and np.allclose(full, kept, atol=1e-4)
    assert np.abs(full - start).max() > 0.1


def test_a_frozen_body_stays_in_half_precision(run_values, tiny_bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny_bert, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "half")
    values = {**run_values, "model": str(tmp_path / "half"), "train": {**run_values["train"], "freeze": "body"}}
    run, _ = assembled(values)
    assert {p.requires_grad: p.dtype for p in run.model.parameters()} == {True: torch.float32, False: torch.bfloat16}
    assert not [check for check in verify(train(values).folder) if check.broken]


def test_a_model_that_cannot_compute_activations_again_is_told(run_values, tmp_path, tiny_bert):
    from transformers import AlbertConfig, AlbertModel, AutoTokenizer

    shape = {"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    AlbertModel(AlbertConfig(vocab_size=len(tokenizer), intermediate_size=64, **shape)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    values = {**run_values, "model": str(tmp_path)}
    values["train"] = {**values["train"], "gradient_checkpointing": True}
    with pytest.raises(UserError, match="does not support gradient checkpointing; found albert"):
        assembled(values)


@pytest.mark.parametrize("adapter", ["ia3", "lora"])
def test_a_head_of_several_layers_is_put_back_into_the_merged_model(adapter):
    from transformers import ElectraConfig, ElectraForSequenceClassification

    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3
    )  # fmt: skip
    plain = ElectraForSequenceClassification(config)
    heads = [name for name, _ in plain.named_parameters() if name.startswith("classifier")]
    network, _ = attach(
        adapter_of(parse_config({"data": {"train": "x"}, "adapter": adapter}).adapter), plain, heads, seed=0
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    ids = torch.randint(50, (2, 7))
    before = network.eval()(input_ids=ids).logits
    merged = merged_model(network)
    assert type(merged) is ElectraForSequenceClassification
    assert set(dict(merged.named_parameters())) == set(
        dict(ElectraForSequenceClassification(config).named_parameters())
    )
    torch.testing.assert_close(merged.eval()(input_ids=ids).logits, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["Electra", "Albert"])
def test_prompts_are_as_wide_as_the_embeddings(name):
    """Not as the layers behind them."""
    import transformers

    sizes = {
        "vocab_size": 50,
        "embedding_size": 8,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    model = getattr(transformers, f"{name}ForTokenClassification")(getattr(transformers, f"{name}Config")(**sizes))
    adapted, _ = attach(
        adapter_of(parse_config({"data": {"train": "x"}, "adapter": "prompt"}).adapter),
        model,
        ["classifier.weight", "classifier.bias"],
        seed=0,
    )
    assert adapted.prompt_encoder["default"].embedding.weight.shape == (20, 8)
    assert (
        adapted(input_ids=torch.tensor([[7, 8, 9]]), attention_mask=torch.ones(1, 3, dtype=torch.int64)).logits.shape[1]
        == 3
    )


@pytest.mark.parametrize(("adapter", "name"), [("prefix", "T5"), ("prefix", "XLNet"), ("prompt", "Bart")])
def test_models_that_cannot_read_what_is_learned_are_refused(adapter, name):
    import transformers

    shape = {
        "vocab_size": 50,
        "d_model": 16,
        "n_layer": 2,
        "n_head": 2,
        "d_inner": 32,
        "num_layers": 2,
        "num_heads": 2,
        "d_kv": 8,
    }
    shape |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    head = "SequenceClassification" if name == "Bart" else "TokenClassification"
    model = getattr(transformers, f"{name}For{head}")(getattr(transformers, f"{name}Config")(**shape))
    with pytest.raises(UserError, match="cannot work on this model"):
        attach(adapter_of(parse_config({"data": {"train": "x"}, "adapter": adapter}).adapter), model, [], seed=0)
