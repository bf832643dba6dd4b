"""Generation against transformers' own: greedy tokens, sampling probabilities; stop strings, streaming, seeds, half characters."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.conftest import shared
from tunewright.errors import UserError
from tunewright.generation.generate import Sampling, Stream, generate, probabilities, write


@pytest.fixture(scope="module")
def stories():
    folder = shared("models/stories260K")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_greedy_tokens_are_those_of_transformers(stories):
    model, tokenizer = stories
    prompt = tokenizer("Once upon a time").input_ids
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, pad_token_id=0)[0].tolist()
    found = list(generate(model, prompt, Sampling(max_new_tokens=24, temperature=0)))
    assert [*prompt, *found] == expected


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, None, 1.0), (1.3, 5, 1.0), (1.0, None, 0.6), (0.9, 7, 0.8)]
)
def test_probabilities_are_those_of_transformers(temperature, top_k, top_p):
    torch.manual_seed(0)
    logits = torch.randn(40, dtype=torch.float64) * 3
    steps = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = steps(None, logits[None]).softmax(-1)[0]
    found = probabilities(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert torch.allclose(found, expected, atol=1e-12)


def test_a_seed_is_a_completion(stories):
    model, tokenizer = stories
    prompt = tokenizer("Lily").input_ids

    def sampled(seed: int) -> list[int]:
        return list(generate(model, prompt, Sampling(max_new_tokens=12, temperature=1.0, seed=seed)))

    assert sampled(1) == sampled(1) != sampled(2)


def test_pieces_join_to_the_whole_and_a_stop_string_is_left_out(stories):
    model, tokenizer = stories
    prompt = tokenizer("Once upon a time").input_ids
    plain = write(
        model, prompt, tokenizer, Sampling(max_new_tokens=40, temperature=0), end_ids=frozenset(), longest=512
    )
    pieces = list(plain)
    whole = tokenizer.decode(
        [*prompt, *generate(model, prompt, Sampling(max_new_tokens=40, temperature=0))], skip_special_tokens=True
    )
    assert whole == "Once upon a time" + "".join(pieces)
    assert len(pieces) > 5 and (plain.ended, plain.num_tokens) == ("length", 40)
    text = "".join(pieces)
    word = text.split()[4]
    stopped = write(
        model,
        prompt,
        tokenizer,
        Sampling(max_new_tokens=40, temperature=0, stop=(word,)),
        end_ids=frozenset(),
        longest=512,
    )
    assert "".join(stopped) == text[: text.index(word)] and stopped.ended == "stop"


def test_the_positions_of_the_model_end_a_completion(stories):
    model, tokenizer = stories
    prompt = tokenizer("Once upon a time").input_ids
    assert len(list(generate(model, prompt, Sampling(max_new_tokens=99), longest=len(prompt) + 3))) == 3
    end = next(generate(model, prompt, Sampling(temperature=0)))
    assert list(generate(model, prompt, Sampling(temperature=0), end_ids=frozenset({end}))) == [end]


class Letters:
    """One token per UTF-8 byte."""

    def decode(self, ids, **_):
        return bytes(ids).decode("utf-8", "replace")


def test_half_characters_and_beginnings_of_stop_strings_wait():
    stream = Stream(Letters(), b">", stop=("END",))
    given = [stream.add(byte) for byte in "aé EN".encode()]
    assert given == ["a", "", "é", " ", "", ""]
    assert stream.add(ord("x")) == "ENx"
    assert [stream.add(byte) for byte in b"END!"][:3] == ["", "", ""] and stream.stopped
    assert stream.finish() == "" and stream.text == "aé ENx"
    other = Stream(Letters(), b"", stop=("END",))
    other.add(ord("E"))
    assert other.finish() == "E"


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 2.0}]
)
def test_impossible_wishes_are_refused(wrong):
    with pytest.raises(UserError):
        Sampling(**wrong)
