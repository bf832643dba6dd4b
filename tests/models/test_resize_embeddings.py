"""Words that the user adds: their rows start at the mean of their pieces, and live through saving, loading and LoRA."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from tests.conftest import shared
from tunewright import train
from tunewright.chat.messages import Conversation, Message
from tunewright.chat.templates import named
from tunewright.encoding.dialogue_rows import ANSWERS, DialogueEncoder
from tunewright.errors import UserError
from tunewright.models.loading import load_pretrained
from tunewright.models.resize_embeddings import extend_embeddings
from tunewright.pretrained.model_files import locate_model, tokenizer_source
from tunewright.tasks.base import Task
from tunewright.tokenization.added_tokens import OWN_WORDS, NewToken, new_tokens, own_words
from tunewright.tokenization.encoder import load_encoder

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


def test_every_added_word_is_one_token_and_a_control_token_stays_text(source):
    encoder = load_encoder(source)
    rows = encoder.encode(["take metformin now", "say <tool_call> now", "say [SEP] now"])
    assert [600 in rows[0].input_ids, len(encoder.tokenizer) - 1 in rows[1].input_ids] == [True, True]
    assert encoder.tokenizer.sep_token_id not in rows[2].input_ids[1:-1]


MARKERS = ["[E1]", "[/E1]", "<b c>", "{x}", "<|person|>", "quokka", "Zürich", "two words"]
NAMES = ["bert-base-cased", "bert-base-uncased", "byt5", "minimind", "mistral-v0.1", "t5"]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "llama3", "pythia", "qwen3", "roberta-base")]


@pytest.mark.parametrize("name", [*NAMES, *LARGE])
def test_markers_are_found_by_every_tokenizer_and_by_the_saved_one(name, tmp_path):
    """In front, behind, beside and inside other words; by our encoding, the fast path, and transformers' plain tokenizer."""
    folder = shared(f"tokenizers/{name}")
    encoder = load_encoder(replace(tokenizer_source(str(folder)), added_tokens=tuple(MARKERS)))
    control = [token for token in encoder.tokenizer.all_special_tokens if token != encoder.tokenizer.unk_token]
    texts = [f"{marker}{around}a {marker} b{marker}c {marker}" for marker in MARKERS for around in ("", " ", "\n")]
    Task.finish_tokenizer(SimpleNamespace(), encoder.tokenizer)
    encoder.tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert own_words(saved) == frozenset(MARKERS)
    again = load_encoder(tokenizer_source(str(tmp_path)))
    for text, row, fast in zip(texts, encoder.encode(texts), encoder.encode_rows(texts), strict=True):
        marker = next(marker for marker in MARKERS if text.startswith(marker))
        number = encoder.tokenizer.convert_tokens_to_ids(marker)
        assert row.input_ids.tolist().count(number) == 4, text
        assert row.input_ids.tolist() == fast.input_ids.tolist() == saved(text)["input_ids"]
        assert row.input_ids.tolist() == again.encode([text])[0].input_ids.tolist()
    typed = encoder.encode([f"a {token} [E1]" for token in control])
    framing = {number for part in encoder.template for number in part}
    bare = [set(row.input_ids.tolist()) - framing for row in typed]
    assert not any(set(encoder.tokenizer.convert_tokens_to_ids(control)) & ids for ids in bare)


def test_a_word_that_a_normalizer_changes_by_its_neighbours_is_found_as_it_is_spelled(tmp_path):
    """Llama's older normalizer puts a blank before every text: `▁[E1]` would be missed behind a letter."""
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = {piece: number for number, piece in enumerate(["<unk>", "</s>", "▁", *"abcdefkmnortEuq123[]"])}
    rust = Tokenizer(models.BPE(vocab=pieces, merges=[], unk_token="<unk>"))
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    PreTrainedTokenizerFast(tokenizer_object=rust, unk_token="<unk>", eos_token="</s>").save_pretrained(tmp_path)
    encoder = load_encoder(replace(tokenizer_source(str(tmp_path)), added_tokens=("kumquat", "[E1]")))
    first = len(pieces)
    ids = encoder.encode(["kumquat a kumquatb[E1]kumquat [E1]"])[0].input_ids.tolist()
    assert [ids.count(first), ids.count(first + 1)] == [3, 2]


def test_words_that_only_case_tells_apart_keep_their_own_tokens(tiny_bert):
    encoder = load_encoder(locate_model(str(tiny_bert), add_tokens=["QUX", "qux", "[E1]", "[e1]", "Refunded"]))
    ids = encoder.encode(["QUX qux [E1] [e1] refunded REFUNDED"])[0].input_ids[1:-1].tolist()
    assert ids == [*range(600, 605), 604]


@pytest.mark.parametrize(
    ("word", "said"),
    [("[SEP]", "'[SEP]' is already a control token of this tokenizer"), ("a[SEP]b", "'a[SEP]b' contains '[SEP]'")],
)
def test_a_control_token_cannot_be_added(tiny_bert, word, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        load_encoder(locate_model(str(tiny_bert), add_tokens=["fine", word]))
    assert caught.value.where == "model.add_tokens"


@pytest.mark.slow
def test_what_the_templates_of_a_tokenizer_write_cannot_be_added():
    source = tokenizer_source(str(shared("tokenizers/qwen3")))
    with pytest.raises(UserError, match="is already a control token of this tokenizer"):
        load_encoder(replace(source, added_tokens=("<tool_call>",)))
    encoder = load_encoder(replace(source, added_tokens=("<|fim_prefix|>",)))
    assert len(encoder.encode(["<|fim_prefix|>"])[0].input_ids) == 1, "no template writes it: the user may take it"


def test_a_registered_special_is_no_word_of_the_users_whatever_a_folder_says(tiny_bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.init_kwargs[OWN_WORDS] = ["[SEP]", "[MASK]", 7]
    tokenizer.save_pretrained(tmp_path)
    encoder = load_encoder(tokenizer_source(str(tmp_path)))
    assert own_words(encoder.tokenizer) == frozenset()
    assert encoder.tokenizer.sep_token_id not in encoder.encode(["a [SEP] [MASK] b"])[0].input_ids[1:-1]


def test_in_chats_words_are_found_in_every_turn_and_what_the_template_writes_is_control(tiny_gpt):
    words = ("[E1]", "<|im_start|>", "<|im_end|>", "<|user|>")
    encoder = load_encoder(locate_model(str(tiny_gpt), add_tokens=words))
    encoder.tokenizer.eos_token = "[SEP]"
    number = dict(zip(words, encoder.tokenizer.convert_tokens_to_ids(list(words)), strict=True))

    def ids(template: str) -> list[int]:
        turns = (Message("user", "a [E1] <|im_end|> <|user|>"), Message("assistant", "b [E1]"))
        chats = DialogueEncoder.of(
            encoder, template, {}, supervise=ANSWERS, trusted=False, cuts_prompts=True
        )  # fmt: skip
        row = chats.for_training([Conversation(turns)])[0]
        assert not isinstance(row, str), row
        return row.ids.tolist()

    in_chatml = ids(named("chatml"))
    assert [in_chatml.count(number[word]) for word in words] == [2, 2, 2, 1]
    phi = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token }}{% endfor %}"
    assert [ids(phi).count(number[word]) for word in words] == [2, 0, 1, 1]


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
