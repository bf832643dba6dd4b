"""Models from scratch: the published table and its parameter counts, sized to a tokenizer, initialised as published."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForPreTraining,
    BertModel,
)

from tunewright import train
from tunewright.errors import UserError
from tunewright.models.loading import load_pretrained
from tunewright.pretrained.model_files import locate_model
from tunewright.pretrained.presets import preset_names, preset_values, sized_to
from tunewright.tokenization.encoder import load_encoder


def counted(model_class, name: str, vocabulary: int) -> int:
    config = AutoConfig.for_model(**preset_values(f"scratch:{name}"), vocab_size=vocabulary)
    with torch.device("meta"):
        make = getattr(model_class, "from_config", model_class)
        return make(config).num_parameters()


@pytest.mark.parametrize(
    ("name", "millions"),
    [("tiny", 4.4), ("mini", 11.3), ("small", 29.1), ("medium", 41.7), ("base", 110.1)],
)
def test_bert_has_the_published_parameter_counts(name, millions):
    """The table of google-research/bert counts the pre-training heads, with the vocabulary of 30,522."""
    assert round(counted(BertForPreTraining, f"bert-{name}", 30_522) / 1e6, 1) == millions


def test_well_known_exact_counts():
    assert counted(BertModel, "bert-base", 30_522) == 109_482_240
    assert counted(BertModel, "bert-large", 30_522) == 335_141_888
    assert counted(AutoModelForCausalLM, "gpt-base", 50_257) == 124_439_808
    assert counted(AutoModelForCausalLM, "gpt-large", 50_257) == 354_823_168


def test_llama_counts_by_hand():
    """mini: 4 layers of width 256, 704 inside: rows shared by input and output, 4 square products, 3 into and out of 704, norms."""
    assert counted(AutoModelForCausalLM, "llama-mini", 1_000) == (
        1_000 * 256 + 4 * (4 * 256 * 256 + 3 * 256 * 704 + 2 * 256) + 256
    )


def test_every_preset_builds_with_heads_of_64(tiny_bert):
    for name in preset_names():
        config = AutoConfig.for_model(**sized_to(preset_values(name), AutoTokenizer.from_pretrained(tiny_bert)))
        assert config.hidden_size // config.num_attention_heads == 64
        assert (config.vocab_size, config.pad_token_id) == (600, 0)
        assert config.initializer_range == 0.02


def test_weights_start_as_published_and_follow_the_seed(tiny_bert):
    source = locate_model("scratch:gpt-tiny", tokenizer=str(tiny_bert))
    models = [
        load_pretrained(AutoModelForCausalLM, source, seed=seed, dtype=dtype)
        for seed, dtype in ((1, torch.float32), (1, torch.float64), (2, torch.float32))
    ]
    (model, fresh), (double, _), (other, _) = models
    assert len(fresh) == len(list(model.parameters()))
    block = model.transformer.h[0]
    residual = 0.02 / math.sqrt(2 * 2)
    for weight, std in ((block.attn.c_attn, 0.02), (block.attn.c_proj, residual), (block.mlp.c_proj, residual)):
        assert weight.weight.std().item() == pytest.approx(std, rel=0.03)
    same = [torch.equal(a.double(), b) for a, b in zip(model.parameters(), double.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(block.attn.c_attn.weight, other.transformer.h[0].attn.c_attn.weight)


def test_a_padding_token_that_ends_texts_keeps_its_embedding(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.eos_token = tokenizer.pad_token
    assert sized_to({}, tokenizer) == {"vocab_size": 600, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}


def test_a_decoder_gets_no_token_types_from_an_encoders_tokenizer(tiny_bert):
    encoder = load_encoder(locate_model("scratch:llama-tiny", tokenizer=str(tiny_bert)))
    assert encoder.encode(["a"], ["b"])[0].token_type_ids is None
    assert "token_type_ids" not in encoder.tokenizer("a")
    assert load_encoder(locate_model("scratch:bert-tiny", tokenizer=str(tiny_bert))).gives_type_ids(pair=True)


@pytest.mark.parametrize(
    ("name", "tokenizer", "expected"),
    [
        ("scratch:bert-mini", None, "tunewright tokenizer train"),
        ("scratch:bert-mimi", "x", "Did you mean scratch:bert-mini?"),
        ("scratch:bert-mini", "scratch:bert-mini", "has no tokenizer"),
        ("scratch:bert-mini", "/tmp", "no tokenizer in this folder"),
    ],
)
def test_mistakes_are_said(name, tokenizer, expected):
    with pytest.raises(UserError, match=expected.replace("?", r"\?")):
        locate_model(name, tokenizer=tokenizer)


@pytest.mark.parametrize("name", ["bert-tiny", "gpt-tiny"])
def test_a_classifier_from_scratch_trains_is_saved_and_opens(name, run_values, tiny_bert):
    run_values["model"] = {"name": f"scratch:{name}", "tokenizer": str(tiny_bert)}
    run_values["data"]["limit"] = 30
    run_values["train"] |= {"max_steps": 3, "learning_rate": "auto"}
    result = train(run_values)
    assert result.num_steps == 3
    model = AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    assert model.config.vocab_size == 600
    inputs = set(AutoTokenizer.from_pretrained(result.folder / "model")("a", "b"))
    assert inputs == {"input_ids", "attention_mask"} | ({"token_type_ids"} if name == "bert-tiny" else set())
    again = train(run_values)
    assert again.already_finished
