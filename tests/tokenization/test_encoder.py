"""Encoding: the ids of the plain Hugging Face tokenizer on every row, and no control token out of a user's text."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import DATA, SAMPLES, messages, shared
from tunewright.errors import UserError
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.encoder import load_encoder, resolve_max_length
from tunewright.tokenization.template import kept_lengths

NAMES = [
    "bert-base-cased", "bert-base-uncased", "byt5", "gpt2", "llama3", "minimind", "mistral-v0.1", "pythia", "qwen3", "roberta-base", "t5", "tiny_bert",
]  # fmt: skip
LEAKING = {"minimind", "qwen3", "t5"}
"""The plain tokenizer makes control tokens of text in spite of `split_special_tokens`: non-special added ones, Unigram pieces."""
CONTROL_TEXTS = [
    "[SEP]", "[CLS] [MASK]", "<|im_start|>user", "</s>", "<s>", "<pad>", "<mask>", "<tool_call>", "</think>", "<|endoftext|>",
    "<|begin_of_text|>", "<extra_id_0>", "<|eot_id|>",
]  # fmt: skip


def folder_of(name, request):
    return request.getfixturevalue("tiny_bert") if name == "tiny_bert" else shared(f"tokenizers/{name}")


@cache
def loaded(folder):
    """(our encoder, the plain tokenizer) of a folder. Large ones take seconds to load: one object serves as both."""
    encoder = load_encoder(ModelFolder(folder.name, folder), max_length=64)
    return encoder, encoder.tokenizer


@pytest.fixture(params=NAMES)
def both(request):
    return loaded(folder_of(request.param, request))


def control_ids(plain):
    """Every special and control id. An unknown token is what any text may become."""
    ids = {number for number, token in plain.added_tokens_decoder.items() if token.special or "<" in token.content}
    return (ids | set(plain.all_special_ids)) - ({plain.unk_token_id} if plain.unk_token != plain.eos_token else set())


def body_of(plain, text):
    return plain([text], add_special_tokens=False, split_special_tokens=True)["input_ids"][0]


def expected(plain, texts, pairs, *, max_length, side):
    """What the plain tokenizer says: rows of (ids, token type ids, tokens that were cut)."""
    plain.truncation_side = side
    options = {"split_special_tokens": True, "return_token_type_ids": True}
    cut = plain(texts, pairs, truncation=True, max_length=max_length, **options)
    whole = plain(texts, pairs, **options)
    types = cut.get("token_type_ids") or [[0] * len(ids) for ids in cut["input_ids"]]
    num_cut = [len(full) - len(kept) for full, kept in zip(whole["input_ids"], cut["input_ids"], strict=True)]
    return list(zip(cut["input_ids"], types, num_cut, strict=True))


def check(encoder, plain, texts, pairs=None, *, max_length, side="right"):
    """Rows equal the plain tokenizer's; where that one makes a control token of text, ours does not. Gives the rows equal."""
    ours = replace(encoder, max_length=max_length, truncation_side=side).encode(texts, pairs)
    control, num_equal = control_ids(plain), 0
    wanted = expected(plain, texts, pairs, max_length=max_length, side=side)
    for number, (row, (ids, types, num_cut)) in enumerate(zip(ours, wanted, strict=True)):
        assert row.input_ids.dtype == np.int32 and len(row.input_ids) <= max_length
        of_row = [texts[number]] if pairs is None else [texts[number], pairs[number]]
        if any(control & set(body_of(plain, text)) for text in of_row):
            continue
        if not plain.is_fast and side == "left" and len(of_row) == 2 and not of_row[1]:
            continue  # there the plain one forgets that there was a pair
        assert row.input_ids.tolist() == ids, (of_row, plain.convert_ids_to_tokens(ids))
        assert row.num_cut == num_cut
        if "token_type_ids" in plain.model_input_names:
            assert (np.zeros(len(ids)) if row.token_type_ids is None else row.token_type_ids).tolist() == types
        else:
            assert row.token_type_ids is None
        num_equal += 1
    return num_equal


words = st.sampled_from(
    [
        "the",
        "Parcel",
        "didn't",
        "naïve",
        "東京",
        "12,50€",
        "👩‍👩‍👧",
        "e\u0301",
        " ",
        "\n",
        "\t",
        "\x00",
        "\x85",
        "\u2028",
    ]
)
pieces = st.one_of(words, st.sampled_from(CONTROL_TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
text = st.one_of(
    st.lists(pieces, max_size=14).map("".join), st.lists(pieces, max_size=14).map(" ".join), st.lists(words, max_size=40).map(" ".join),
)  # fmt: skip


@settings(max_examples=40)
@given(
    texts=st.lists(text, min_size=1, max_size=5),
    pairs=st.lists(text, min_size=5, max_size=5) | st.none(),
    max_length=st.integers(6, 40),
    side=st.sampled_from(["right", "left"]),
)
def check_anything(encoder, plain, texts, pairs, max_length, side):
    check(encoder, plain, texts, pairs and pairs[: len(texts)], max_length=max_length, side=side)


def test_any_text_and_pair_has_the_ids_of_the_plain_tokenizer(both):
    check_anything(*both)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [8, 13, 128])
def test_real_texts_and_pairs_have_the_ids_of_the_plain_tokenizer(both, side, max_length):
    texts = [row["text"] for row in messages(60)]
    assert check(*both, texts, max_length=max_length, side=side) == 60
    assert check(*both, texts[:30], texts[30:], max_length=max_length, side=side) == 30
    assert check(*both, ["", texts[0], ""], [texts[2] * 5, texts[1], "a"], max_length=max_length, side=side) == 3


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "gpt2", "t5"])
def test_every_row_of_real_reviews_has_the_ids_of_the_plain_tokenizer(name, request):
    lines = shared("classification/imdb/test.jsonl").read_text(encoding="utf-8").split("\n")[:150]
    texts = [json.loads(line)["text"] for line in lines]
    assert check(*loaded(folder_of(name, request)), texts, max_length=256) == 150


@pytest.mark.parametrize("name", NAMES)
def test_no_control_token_comes_out_of_text(name, request):
    encoder, plain = loaded(folder_of(name, request))
    own = [
        token.content for token in plain.added_tokens_decoder.values() if "<" in token.content or "[" in token.content
    ]
    leaks = 0
    for text in [*CONTROL_TEXTS, *(form for token in own[:40] for form in (token, f"a {token} b", f"a{token}b"))]:
        single = encoder.encode([text])[0].input_ids.tolist()
        double = encoder.encode([text], [text])[0].input_ids.tolist()
        framed = {number for number in single + double if number in control_ids(plain)}
        template = set(plain("")["input_ids"]) | set(plain("", "")["input_ids"])
        assert framed <= template, (text, plain.convert_ids_to_tokens(single))
        layout = encoder._single
        body = single[len(layout.before) : len(single) - len(layout.after)]
        assert not control_ids(plain) & set(body), (text, plain.convert_ids_to_tokens(body))
        leaks += bool(control_ids(plain) & set(body_of(plain, text)))
    assert (leaks > 0) == (name in LEAKING)


def test_control_text_that_normalization_makes_stays_text(request):
    """T5 folds full-width characters: `＜/s＞` becomes `</s>` only after the added tokens were looked for."""
    encoder, plain = loaded(folder_of("t5", request))
    assert plain.eos_token_id in body_of(plain, "＜/s＞")
    assert encoder.encode(["＜/s＞"])[0].input_ids.tolist().count(plain.eos_token_id) == 1


def test_a_row_worked_out_by_hand(request):
    encoder, _ = loaded(folder_of("bert-base-uncased", request))
    row = replace(encoder, max_length=8).encode(["[SEP] is only text here"])[0]
    assert row.input_ids.tolist() == [101, 1031, 19802, 1033, 2003, 2069, 3793, 102]  # [CLS] [ sep ] is only text [SEP]
    assert (row.num_cut, row.token_type_ids.tolist() if row.token_type_ids is not None else None) == (1, None)
    left = replace(encoder, max_length=8, truncation_side="left").encode(["[SEP] is only text here"])[0]
    assert left.input_ids.tolist() == [101, 19802, 1033, 2003, 2069, 3793, 2182, 102]
    pair = encoder.encode(["only text"], ["here"])[0]
    assert pair.input_ids.tolist() == [101, 2069, 3793, 102, 2182, 102]
    assert pair.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1]
    assert encoder.tokens(pair.input_ids) == ["[CLS]", "only", "text", "[SEP]", "here", "[SEP]"]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((3, 4), 7, (3, 4)), ((9, 0), 5, (5, 0)), ((2, 9), 8, (2, 6)), ((9, 2), 8, (6, 2)), ((9, 9), 8, (4, 4)),
        ((9, 8), 7, (4, 3)), ((8, 9), 7, (3, 4)), ((8, 8), 7, (3, 4)), ((0, 9), 4, (0, 4)),
    ],
)  # fmt: skip
def test_pairs_lose_tokens_of_the_longer_text_first(lengths, room, kept):
    assert tuple(int(one[0]) for one in kept_lengths(*(np.array([one]) for one in lengths), room)) == kept


def model(tmp_path, tokenizer_from=None, **config):
    """A model folder with this config.json, and the tokenizer of another folder."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if tokenizer_from is not None:
            (tmp_path / file).write_bytes((tokenizer_from / file).read_bytes())
    return ModelFolder("my-model", tmp_path)


@pytest.mark.parametrize(
    ("config", "tokenizer_limit", "auto", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 10**30, 512, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 128, 128, 512),  # the tokenizer's limit is a setting
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 10**30, 512, 512),
        ({"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 1}, 512, 128, 128),
        ({"model_type": "gpt2", "n_positions": 1024}, 10**30, 512, 1024),
        ({"model_type": "t5", "n_positions": 512}, 10**30, 512, None),
        ({"model_type": "t5", "n_positions": 512}, 300, 300, 300),
        ({"model_type": "bert", "max_position_embeddings": -1}, -1, 512, None),
        ({"model_type": "llama"}, None, 512, None),
    ],
)
def test_the_longest_row_follows_from_the_models_positions_and_the_tokenizers_limit(
    tmp_path, config, tokenizer_limit, auto, most
):
    source = model(tmp_path, **config)
    assert resolve_max_length(source, "auto", tokenizer_limit=tokenizer_limit) == auto
    assert resolve_max_length(source, most or 9_999, tokenizer_limit=tokenizer_limit) == (most or 9_999)
    if most is not None:
        with pytest.raises(UserError, match=rf"found {most + 1}; expected at most {most} "):
            resolve_max_length(source, most + 1, tokenizer_limit=tokenizer_limit)


def test_the_tokenizers_limit_is_read_where_it_is_not_given(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    assert resolve_max_length(model(tmp_path, model_type="llama"), "auto") == 77


def test_a_max_length_the_model_cannot_take_names_the_longest_that_fits(tmp_path):
    roberta = model(tmp_path, model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert resolve_max_length(roberta, 512) == 512
    with pytest.raises(
        UserError,
        match=r"data.max_length: longer .* found 513; expected at most 512 \(my-model\). Set data.max_length=512.",
    ):
        resolve_max_length(roberta, 513)
    assert resolve_max_length(model(tmp_path, model_type="t5"), 4000) == 4000


def test_max_length_must_leave_room_for_text(tiny_bert):
    folder = ModelFolder("tiny", tiny_bert)
    with pytest.raises(UserError, match=r"no room for text; found 3; expected at least 4"):
        load_encoder(folder, max_length=3)
    encoder = load_encoder(folder, max_length=4)
    assert [len(row.input_ids) for row in encoder.encode(["a b c d", ""], ["e f g", "h"])] == [4, 4]
    assert encoder.tokenizer.model_max_length == 4


def changed_tokenizer(tmp_path, tiny_bert, **changes):
    folder = model(tmp_path, tiny_bert, model_type="bert", max_position_embeddings=64)
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    values = {key: value for key, value in {**values, **changes}.items() if value is not None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    return folder


def test_without_a_padding_token_the_end_token_pads(tmp_path, tiny_bert):
    encoder = load_encoder(changed_tokenizer(tmp_path, tiny_bert, pad_token=None, eos_token="[SEP]"))
    assert encoder.pad_token_id == encoder.tokenizer.convert_tokens_to_ids("[SEP]") == 3


def test_a_padding_token_beyond_the_models_vocabulary_is_not_used(tmp_path, tiny_bert):
    changed_tokenizer(tmp_path, tiny_bert, eos_token="[SEP]")
    assert load_encoder(model(tmp_path, vocab_size=600, pad_token_id=0)).pad_token_id == 0
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**values, "pad_token": "[NEW]"}))
    assert load_encoder(model(tmp_path, vocab_size=601)).pad_token_id == 600
    assert load_encoder(model(tmp_path, vocab_size=600)).pad_token_id == 3


def test_without_a_padding_and_an_end_token_it_says_so(tmp_path, tiny_bert):
    with pytest.raises(UserError, match=r"my-model: the tokenizer has neither a padding nor an end token"):
        load_encoder(changed_tokenizer(tmp_path, tiny_bert, pad_token=None))


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_a_folder_without_a_tokenizer_says_so(tmp_path, model_type):
    """transformers makes a BERT tokenizer without a vocabulary of it, to which every word is unknown."""
    with pytest.raises(
        UserError, match=r"model my-model: its tokenizer cannot be loaded .*expected tokenizer.json beside config.json"
    ):
        load_encoder(model(tmp_path, model_type=model_type))


def test_the_padding_side_is_the_tokenizers_own_unless_it_is_named(tmp_path, tiny_bert):
    folder = changed_tokenizer(tmp_path, tiny_bert, padding_side="left")
    assert load_encoder(folder).padding_side == "left"
    assert load_encoder(folder, padding_side="right").tokenizer.padding_side == "right"


def test_token_type_ids_are_given_where_they_tell_something(tmp_path, tiny_bert):
    plain = load_encoder(ModelFolder("tiny", tiny_bert))
    assert plain.gives_type_ids(pair=True) and not plain.gives_type_ids(pair=False)
    without = load_encoder(changed_tokenizer(tmp_path, tiny_bert, model_input_names=["input_ids", "attention_mask"]))
    assert not without.gives_type_ids(pair=True) and without.encode(["a"], ["b"])[0].token_type_ids is None


def test_control_words_of_a_whole_word_vocabulary_stay_text(tmp_path):
    """A tokenizer that splits at blanks looks `[SEP]` up in its vocabulary like any other word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "fine": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(tmp_path)
    encoder = load_encoder(ModelFolder("words", tmp_path))
    assert encoder.encode(["fine [SEP] fine [PAD]"])[0].input_ids.tolist() == [2, 4, 1, 4, 1, 3]


def test_the_data_is_there_or_said_to_be_absent():
    assert SAMPLES.is_dir()
    if not (DATA / "tokenizers").is_dir():
        pytest.skip(f"no {DATA / 'tokenizers'}")
    assert {path.name for path in (DATA / "tokenizers").iterdir()} <= set(NAMES)
