"""Offsets and word numbers: those of the reference tokenizer, on the original text, control tokens in the text included."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.conftest import messages, shared
from tests.tokenization.test_encoder import LEAKING, NAMES, body_of, control_ids, folder_of, loaded, text
from tunewright.errors import UserError
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.encoder import load_encoder

WITH_OFFSETS = [name for name in NAMES if name != "byt5"]


def reference(plain, value, **options):
    encoded = plain(
        value, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True, **options
    )
    words = [-1 if word is None else word for word in encoded.word_ids()]
    return encoded["input_ids"], [list(pair) for pair in encoded["offset_mapping"]], words


@pytest.mark.parametrize("name", WITH_OFFSETS)
def test_offsets_and_words_are_those_of_the_reference(name, request):
    encoder, plain = loaded(folder_of(name, request))
    check_offsets(encoder, plain)
    for row in messages(40):
        compare(encoder, plain, row["text"])


@settings(max_examples=40)
@given(value=text)
def check_offsets(encoder, plain, value):
    compare(encoder, plain, value)


def compare(encoder, plain, value):
    if control_ids(plain) & set(body_of(plain, value)):
        return  # there the reference makes a control token of text
    (ours,) = encoder.encode_with_offsets([value])
    ids, offsets, words = reference(plain, value)
    assert (ours.input_ids.tolist(), ours.word_ids.tolist()) == (ids, words)
    body = ~ours.special_mask
    assert ours.offsets_T2[body].tolist() == [pair for pair, inner in zip(offsets, body, strict=True) if inner]
    assert not ours.offsets_T2[~body].any() and (ours.word_ids[~body] == -1).all()
    assert ours.offsets_T2.dtype == ours.word_ids.dtype == ours.input_ids.dtype == np.int32


def test_a_text_worked_out_by_hand(request):
    encoder, _ = loaded(folder_of("bert-base-uncased", request))
    (one,) = encoder.encode_with_offsets(["[SEP] Ünter 👩 embeddings"])
    assert encoder.tokens(one.input_ids) == [
        "[CLS]", "[", "sep", "]", "un", "##ter", "[UNK]", "em", "##bed", "##ding", "##s", "[SEP]",
    ]  # fmt: skip
    assert one.offsets_T2.tolist() == [
        [0, 0], [0, 1], [1, 4], [4, 5], [6, 8], [8, 11], [12, 13], [14, 16], [16, 19], [19, 23], [23, 24], [0, 0],
    ]  # fmt: skip
    assert one.word_ids.tolist() == [-1, 0, 1, 2, 3, 3, 4, 5, 5, 5, 5, -1]
    assert one.special_mask.tolist() == [True] + 10 * [False] + [True]


@pytest.mark.parametrize("name", sorted(LEAKING))
def test_a_control_token_in_the_text_has_the_offsets_of_its_characters(name, request):
    encoder, plain = loaded(folder_of(name, request))
    token = "</s>" if name == "t5" else "<tool_call>"
    (one,) = encoder.encode_with_offsets([f"x{token}y"])
    assert not control_ids(plain) & set(one.input_ids[~one.special_mask].tolist())
    covered = {place for start, end in one.offsets_T2.tolist() for place in range(start, end)}
    assert covered == set(range(len(token) + 2))


def test_a_tokenizer_without_offsets_says_so():
    encoder = load_encoder(ModelFolder("byt5", shared("tokenizers/byt5")), max_length=16)
    with pytest.raises(UserError, match=r"gives no offsets .*; found .*; expected a tokenizer with a tokenizer.json"):
        encoder.encode_with_offsets(["a"])
