"""Rows end to end: the same logits and gradients as padded, dropout included, or the model keeps its padding."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BloomConfig,
    BloomForCausalLM,
    DistilBertConfig,
    DistilBertForTokenClassification,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
)

from tunewright.batching.micro_batches import cut
from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution.cpu import attention, segments
from tunewright.execution.cpu.cls_only_last_layer import install_cls_only_last_layer
from tunewright.execution.cpu.dropout import FastRowDropout
from tunewright.execution.cpu.unpadding import install_unpadding
from tunewright.execution.row_keyed import install_row_keyed_dropout_and_attention

SIZES = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 4, "sliding_window": 5}
DROPPED = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
SMALL_GPT = {"vocab_size": 60, "n_embd": 16, "n_layer": 3, "n_head": 4, "bos_token_id": 2, "eos_token_id": 1}
SMALL_DISTIL = {"vocab_size": 60, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24, "attention_dropout": 0.2}
LENGTHS = np.array([90, 7, 23, 1, 80, 88])

MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "mistral, a window": (MistralForCausalLM, MistralConfig(**GROUPED)),
    "gemma, a window in some layers": (Gemma3ForCausalLM, Gemma3TextConfig(**GROUPED)),
    "gpt-2, dropout": (GPT2LMHeadModel, GPT2Config(**SMALL_GPT)),
    "llama, classes": (LlamaForSequenceClassification, LlamaConfig(**SIZES)),
    "bert, tokens, dropout": (BertForTokenClassification, BertConfig(**SIZES, **DROPPED)),
    "bert, classes, dropout": (BertForSequenceClassification, BertConfig(**SIZES, **DROPPED)),
    "bert, masked": (BertForMaskedLM, BertConfig(**SIZES)),
    "distilbert, tokens, dropout": (DistilBertForTokenClassification, DistilBertConfig(**SMALL_DISTIL)),
}


def build(name):
    attention.register()
    torch.manual_seed(0)
    model_class, config = MODELS[name]
    model = model_class(config).double()
    assert install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout) is None
    return model


def batch_of(*, left=False):
    width = int(LENGTHS.max()) + 1
    ids = torch.randint(3, 60, (len(LENGTHS), width), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(width) < torch.from_numpy(LENGTHS)[:, None]
    ids[~mask] = 0
    if left:
        turned = [torch.roll(row, width - int(length)) for row, length in zip(ids, LENGTHS, strict=True)]
        ids, mask = torch.stack(turned), mask.flip(1)
    rows = RowContext(seed=3, epoch=1, row_ids=np.arange(6) + 70, lengths=LENGTHS, width=width, left_padded=left)
    return {"input_ids": ids, "attention_mask": mask.long()}, rows


def computed(model, *, left=False):
    """(logits of the rows' own tokens, gradient of every parameter) in training."""
    batch, rows = batch_of(left=left)
    decodes = {"use_cache": False} if model.config.model_type in ("llama", "mistral", "gemma3_text", "gpt2") else {}
    model.train().zero_grad()
    with row_context(rows):
        logits = model(**batch, **decodes).logits
        of_tokens = logits.dim() == 3
        logits = logits[batch["attention_mask"].bool()] if of_tokens else logits
        weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        (logits * weights).sum().backward()
    return logits.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_same(found, expected, *, tolerance=1e-9):
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= tolerance * max(1, float(gradient.abs().max())), name


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_padded_rows(name):
    model = build(name)
    expected = computed(model)
    assert install_unpadding(model)
    assert_same(computed(model), expected, tolerance=1e-6 if "gemma" in name else 1e-9)  # its norms compute in fp32


@pytest.mark.parametrize("name", [name for name in MODELS if "classes" not in name])
@pytest.mark.parametrize("queries", [8, 33])
def test_in_tiles_they_are_the_same(monkeypatch, name, queries):
    model = build(name)
    expected = computed(model)
    assert install_unpadding(model)
    monkeypatch.setattr(segments, "_TILE_QUERIES", queries)
    tiles, of_piece = [], segments.Segments.tiles
    monkeypatch.setattr(segments.Segments, "tiles", lambda *these: tiles.append(of_piece(*these)) or tiles[-1])
    assert_same(computed(model), expected, tolerance=1e-6)  # norms round to fp32
    causal = name.startswith(("llama", "mistral", "gemma"))
    assert any(len(one) > 1 for one in tiles) == causal, "GPT-2 has dropout, and BERT sees everything"


@pytest.mark.parametrize("name", ["llama", "mistral, a window"])
def test_rows_padded_on_the_left_are_unpadded_too(name):
    model = build(name)
    expected = computed(model, left=True)
    assert install_unpadding(model)
    assert_same(computed(model, left=True), expected, tolerance=1e-6)  # positions turn in fp32


def test_the_first_position_alone_is_computed_of_unpadded_rows_too():
    model = build("bert, classes, dropout")
    assert install_cls_only_last_layer(model)
    expected = computed(model)
    assert install_unpadding(model)
    assert_same(computed(model), expected)


def tokens_seen(model):
    """How many positions the first layer computes for the batch."""
    counts = []
    layer = next(module for name, module in model.named_modules() if name.endswith(("layers.0", "layer.0", "h.0")))
    handle = layer.register_forward_hook(
        lambda layer, given, named, output: counts.append((given or (named["hidden_states"],))[0].shape[:2].numel()),
        with_kwargs=True,
    )
    computed(model)
    handle.remove()
    return counts


@pytest.mark.parametrize("name", ["llama", "gpt-2, dropout", "bert, tokens, dropout", "distilbert, tokens, dropout"])
def test_no_padding_is_computed(name):
    model = build(name)
    assert tokens_seen(model) == [6 * 91]
    assert install_unpadding(model)
    assert tokens_seen(model) == [LENGTHS.sum()]


def test_in_bf16_the_rows_are_filled_up_to_a_shape_that_comes_again():
    model = build("llama").float()
    expected = computed(model)[0]
    assert install_unpadding(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert tokens_seen(model) == [-(-LENGTHS.sum() // 32) * 32]
        torch.testing.assert_close(computed(model)[0].float(), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "asked",
    [{"output_hidden_states": True}, {"use_cache": True}, {"position_ids": torch.arange(91).expand(6, -1)}],
    ids=lambda asked: next(iter(asked)),
)
def test_a_call_that_asks_for_more_is_computed_padded(asked):
    model = build("llama").eval()
    batch, rows = batch_of()
    with torch.no_grad(), row_context(rows):
        expected = model(**batch, **asked)
        assert install_unpadding(model)
        found = model(**batch, **asked)
    assert len(found) == len(expected)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)


def test_without_rows_in_flight_nothing_changes():
    model = build("llama").eval()
    batch, _ = batch_of()
    with torch.no_grad():
        expected = model(**batch, use_cache=False).logits
        assert install_unpadding(model)
        torch.testing.assert_close(model(**batch, use_cache=False).logits, expected, rtol=0, atol=0)


def test_a_copy_of_the_model_computes_with_its_own_weights():
    model = build("llama").eval()
    assert install_unpadding(model)
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.model.norm.weight)
    batch, rows = batch_of()
    with torch.no_grad(), row_context(rows):
        assert float(other(**batch, use_cache=False).logits.abs().max()) == 0
        assert float(model(**batch, use_cache=False).logits.abs().max()) > 0


def test_weights_in_half_precision_are_unpadded_too():
    model = build("llama").bfloat16()
    assert install_unpadding(model)
    assert tokens_seen(model) == [LENGTHS.sum()]


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (BloomForCausalLM, BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=4)),
        (AlbertForSequenceClassification, AlbertConfig(**SIZES, embedding_size=8)),
    ],
    ids=["positions by its mask", "a pooler in its body"],
)
def test_a_model_that_cannot_keeps_its_padding(model_class, config):
    attention.register()
    model = model_class(config)
    install_row_keyed_dropout_and_attention(model, attention=attention.NAME, dropout=FastRowDropout)
    assert not install_unpadding(model)
    assert "forward" not in vars(model.base_model)


def test_a_model_whose_rows_would_see_each_other_keeps_its_padding(monkeypatch):
    """Its layers look at the token before, wherever that stands: of unpadded rows it would be another row's last."""
    model = build("llama")
    norm = model.model.norm
    plain = norm.forward
    monkeypatch.setattr(norm, "forward", lambda states: plain(states + states.roll(1, 1)))
    assert not install_unpadding(model)
    assert "forward" not in vars(model.model)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200), st.sampled_from([1, 32]))
def test_unpadded_micro_batches_hold_the_budget_in_real_tokens(lengths, budget, multiple):
    lengths = np.array(lengths)
    pieces = cut(lengths, budget, multiple=multiple, unpadded=True)
    assert sorted(itertools.chain(*(piece.tolist() for piece in pieces))) == list(range(len(lengths)))
    for piece in pieces:
        assert len(piece) == 1 or -(-lengths[piece].sum() // multiple) * multiple <= budget
    for one, other in itertools.pairwise(pieces):  # none could be spared
        assert -(-(lengths[one].sum() + lengths[other].sum()) // multiple) * multiple > budget
