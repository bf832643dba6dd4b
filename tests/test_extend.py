"""Words that the user adds: their rows start at the mean of their pieces, and live through saving, loading and LoRA."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from tunewright import train
from tunewright.errors import UserError
from tunewright.models.extend import extend_embeddings
from tunewright.models.load import load_pretrained
from tunewright.models.source import locate_model
from tunewright.tokens.extend import NewToken, new_tokens
from tunewright.tokens.tokenizer import load_encoder

WORDS = ["metformin", "refund", "<tool_call>"]


@pytest.fixture
def source(tiny_bert):
    return locate_model(str(tiny_bert), add_tokens=WORDS)


def test_new_tokens_know_their_pieces(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    known = next(token for token in tokenizer.get_vocab() if token.isalpha() and len(token) > 3)
    pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("metformin"))
    assert len(pieces) > 1
    assert new_tokens(tokenizer, [known, "metformin", "metformin"]) == [NewToken("metformin", 600, tuple(pieces))]


@pytest.mark.parametrize("head", [AutoModel, AutoModelForMaskedLM])
def test_new_rows_are_the_mean_of_their_pieces(source, tiny_bert, head):
    plain, _ = load_pretrained(head, locate_model(str(tiny_bert)), seed=0, dtype=torch.float32)
    model, _ = load_pretrained(head, source, seed=0, dtype=torch.float32)
    before, after = plain.get_input_embeddings().weight, model.get_input_embeddings().weight
    new = new_tokens(AutoTokenizer.from_pretrained(tiny_bert), WORDS)
    assert after.shape[0] == model.config.vocab_size == 600 + len(new)
    assert torch.equal(after[:600], before)
    for token in new:
        assert torch.allclose(after[token.id], before[list(token.pieces)].mean(dim=0))
    if head is AutoModelForMaskedLM:
        output = model.get_output_embeddings()
        assert output.weight is after and len(output.bias) == 600 + len(new)


def test_untied_output_rows_follow_too(tiny_bert, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=610, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=False, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    before = model.lm_head.weight.detach().clone()
    added = extend_embeddings(model, locate_model(str(tiny_bert), add_tokens=["metformin"]))
    assert model.lm_head.weight.shape[0] == 610, "a table that has room keeps its size"
    assert torch.allclose(model.lm_head.weight[600], before[list(added[0].pieces)].mean(dim=0))


def test_a_word_is_one_token_and_a_control_token_stays_text(source):
    encoder = load_encoder(source)
    rows = encoder.encode(["take metformin now", "say <tool_call> now"])
    assert 600 in rows[0].input_ids
    assert len(encoder.tokenizer) - 1 not in rows[1].input_ids


def test_saved_and_loaded_with_a_run(run_values, tiny_bert):
    run_values["model"] = {"name": str(tiny_bert), "add_tokens": ["tracking number", "metformin"]}
    run_values["data"]["limit"] = 30
    run_values["train"] |= {"max_steps": 3}
    result = train(run_values)
    tokenizer = AutoTokenizer.from_pretrained(result.folder / "model")
    model = AutoModel.from_pretrained(result.folder / "model")
    assert tokenizer("metformin", add_special_tokens=False)["input_ids"] == [601]
    assert model.get_input_embeddings().weight.shape[0] == 602
    again, _ = load_pretrained(
        AutoModel, locate_model(str(result.folder), add_tokens=["metformin"]), seed=0, dtype=torch.float32
    )
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_a_blank_token_is_refused(tiny_bert):
    with pytest.raises(UserError, match="blank"):
        locate_model(str(tiny_bert), add_tokens=[" "])
