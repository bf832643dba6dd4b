"""Answers written side by side are those written one by one."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import shared
from tunewright.generation.generate import Sampling, generate
from tunewright.generation.generate_rows import generate_rows

PROMPTS = [[1, 403, 407, 261], [1], [1, 378, 432, 320, 281, 300, 290], [1, 403], [1, 500, 20, 33, 44]]


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shared("models/stories260K"), dtype=torch.float64).eval()


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0, max_new_tokens=24), Sampling(max_new_tokens=24, seed=3, top_k=20)]
)
@pytest.mark.parametrize("budget", [1, 90, 8_192])
def test_batches_change_nothing(model, sampling, budget):
    """End tokens that are met early make rows leave their batch at different steps."""
    alone = [list(generate(model, prompt, sampling)) for prompt in PROMPTS]
    ends = frozenset(row[3 + number] for number, row in enumerate(alone[:3]))
    alone = [list(generate(model, prompt, sampling, end_ids=ends)) for prompt in PROMPTS]
    assert len({len(row) for row in alone}) > 1
    assert generate_rows(model, PROMPTS, sampling, end_ids=ends, pad_id=0, token_budget=budget) == alone


def test_positions_are_a_limit(model):
    sampling = Sampling(temperature=0, max_new_tokens=10)
    rows = generate_rows(model, PROMPTS, sampling, end_ids=frozenset(), pad_id=0, longest=7)
    assert [len(row) for row in rows] == [3, 6, 0, 5, 2]
    assert rows == [list(generate(model, prompt, sampling, longest=7)) for prompt in PROMPTS]


def test_no_prompts(model):
    assert generate_rows(model, [], Sampling(), end_ids=frozenset(), pad_id=0) == []


@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
def test_a_model_that_keeps_no_keys_and_values_writes_as_one_computed_anew(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "state_size": 4}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).eval()
    prompts = [[7, 30, 12, 5], [9, 8]]
    found = generate_rows(model, prompts, Sampling(temperature=0, max_new_tokens=5), end_ids=frozenset(), pad_id=0)
    for prompt, answer in zip(prompts, found, strict=True):
        ids = list(prompt)
        for _ in range(5):
            with torch.inference_mode():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer == ids[len(prompt) :]


def test_a_learned_prompt_stays_within_the_reach_of_windows():
    """Padding on the left between learned tokens and a short prompt would push them out of what its layers look at."""
    from peft import PromptTuningConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    from tunewright.models.virtual_tokens import fit

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.5,
    )  # fmt: skip
    model = get_peft_model(MistralForCausalLM(config), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    fit(model)
    model.eval()
    prompts, sampling = [[7, 30], list(range(1, 20)), [9, 4]], Sampling(temperature=0, max_new_tokens=6)
    alone = [list(generate(model, prompt, sampling)) for prompt in prompts]
    assert generate_rows(model, prompts, sampling, end_ids=frozenset(), pad_id=0) == alone
