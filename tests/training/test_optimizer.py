"""Learning rates by hand, which parameters learn and how fast, and that each optimizer is the one that was named."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

from tunewright.errors import UserError
from tunewright.models.heads import head_parameters, pooler_layers
from tunewright.training.config import TrainConfig
from tunewright.training.engine import _clip
from tunewright.training.optimizer import (
    Schedule,
    build_optimizer,
    freeze,
    learning_rates,
    parameter_groups,
    set_learning_rate,
)

# The schedule


def test_linear_by_hand():
    schedule = Schedule("linear", warmup_steps=4, num_steps=10)
    assert [schedule.factor(step) for step in range(10)] == pytest.approx(
        [1 / 4, 2 / 4, 3 / 4, 1, 6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )


def test_cosine_by_hand():
    # half a cosine over 4 steps, from 1 down: 0.5 (1 - cos(pi · left)), left = 1, 3/4, 1/2, 1/4
    schedule = Schedule("cosine", warmup_steps=0, num_steps=4)
    assert [schedule.factor(step) for step in range(4)] == pytest.approx(
        [1, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2]
    )


def test_constant_by_hand():
    assert [Schedule("constant", 2, 5).factor(step) for step in range(5)] == [0.5, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("warmup", "num_steps", "warmup_steps"),
    [
        (0, 100, 0),
        (0.1, 100, 10),
        (0.1, 4, 0),
        (0.26, 4, 1),
        (1, 100, 1),
        (30, 100, 30),
        (100, 100, 100),
        (0.999, 10, 10),
    ],
)
def test_warmup_is_a_share_below_one_and_steps_from_one_on(warmup, num_steps, warmup_steps):
    assert Schedule.of(TrainConfig(warmup=warmup), num_steps).warmup_steps == warmup_steps


@pytest.mark.parametrize("warmup", [101, 1e9])
def test_a_warmup_beyond_the_end_is_refused(warmup):
    with pytest.raises(UserError, match=r"train.warmup: the warmup is longer than the training; found .* steps of 100"):
        Schedule.of(TrainConfig(warmup=warmup), 100)


@given(st.sampled_from(["linear", "cosine", "constant"]), st.integers(0, 50), st.integers(1, 50))
def test_every_step_learns_and_none_beyond_the_peak(kind, warmup, num_steps):
    factors = [Schedule(kind, min(warmup, num_steps), num_steps).factor(step) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    peak = factors.index(1)
    assert all(a < b for a, b in pairwise(factors[: peak + 1]))
    assert all(a >= b for a, b in pairwise(factors[peak:]))


# The rates


@pytest.mark.parametrize(
    ("config", "width", "rates"),
    [
        ({}, 768, (5e-5, 5e-4)),
        ({}, 384, (1e-4, 1e-3)),
        ({}, 32, (1.2e-3, 1.2e-3)),  # the head is never slower than the body, and else at most 1e-3
        ({"learning_rate": 3e-4}, 768, (3e-4, 1e-3)),
        ({"learning_rate": 3e-4, "head_learning_rate": 7e-3}, 768, (3e-4, 7e-3)),
        ({"head_learning_rate": 1e-6}, 768, (5e-5, 1e-6)),
    ],
)
def test_rates_by_the_width_of_the_model(config, width, rates):
    assert learning_rates(TrainConfig(**config), width) == pytest.approx(rates)


# What learns


@pytest.fixture
def model(tiny_bert):
    return AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)


FRESH = ["classifier.weight", "classifier.bias"]


def learning(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_nothing_is_frozen_unless_it_is_said(model):
    assert freeze(model, "none", FRESH) == 0
    assert learning(model) == {name for name, _ in model.named_parameters()}


def test_a_frozen_body_leaves_the_head(model):
    frozen = freeze(model, "body", FRESH)
    assert learning(model) == set(FRESH)
    assert frozen == sum(p.numel() for name, p in model.named_parameters() if name not in FRESH)


def test_the_pooler_under_a_fresh_head_learns_with_it(model):
    pooler = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    assert pooler_layers(model) == ["bert.pooler.dense"]
    assert head_parameters(model, FRESH) == [*pooler, *FRESH]
    assert head_parameters(model, []) == []  # a trained head goes on, and its pooler with the body


def test_a_fresh_pooler_learns_though_it_is_in_the_body(model):
    fresh = [*FRESH, "bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    freeze(model, "body", fresh)
    assert learning(model) == set(fresh)


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_the_embeddings_and_the_first_layers_freeze(model, num_layers):
    freeze(model, num_layers, FRESH)
    still = learning(model)
    assert not any(name.startswith("bert.embeddings") for name in still)
    assert {int(name.split(".")[3]) for name in still if "encoder.layer" in name} == set(range(num_layers, 2))
    assert still >= {*FRESH, "bert.pooler.dense.weight"}


def test_other_architectures_freeze_too():
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=16, max_position_embeddings=16)
    model = DistilBertForSequenceClassification(config)
    freeze(model, 2, ["classifier.weight", "classifier.bias"])
    assert {name.split(".")[3] for name in learning(model) if "transformer.layer" in name} == {"2"}
    assert not any("embeddings" in name for name in learning(model))


@pytest.mark.parametrize("num_layers", [3, -1])
def test_a_number_of_layers_the_model_does_not_have(model, num_layers):
    with pytest.raises(UserError, match=rf"train.freeze: cannot freeze {num_layers} layers; found 2 layers"):
        freeze(model, num_layers, FRESH)


def test_something_must_learn():
    model = nn.Linear(2, 2)
    model.base_model = model
    with pytest.raises(UserError, match=r"train.freeze: nothing is left to train; found body"):
        freeze(model, "body", [])


def test_groups_by_decay_and_rate(model):
    groups = parameter_groups(model, FRESH, TrainConfig(weight_decay=0.05), (1e-4, 1e-3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = {}
    for group in groups:
        assert group["lr"] == group["peak_lr"]
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["weight_decay"], group["lr"])
    assert len(groups) == 4 and len(seen) == len(names)
    assert seen["classifier.weight"] == (0.05, 1e-3) and seen["classifier.bias"] == (0.0, 1e-3)
    assert seen["bert.embeddings.word_embeddings.weight"] == (0.05, 1e-4)
    assert seen["bert.embeddings.LayerNorm.weight"] == seen["bert.encoder.layer.0.output.dense.bias"] == (0.0, 1e-4)


def test_frozen_parameters_are_in_no_group(model):
    freeze(model, "body", FRESH)
    groups = parameter_groups(model, FRESH, TrainConfig(), (1e-4, 1e-3))
    assert sum(len(group["params"]) for group in groups) == 2


def test_a_rate_scales_every_groups_peak(model):
    config = TrainConfig()
    optimizer = build_optimizer(parameter_groups(model, FRESH, config, (1e-4, 1e-3)), config)
    assert set_learning_rate(optimizer, 0.5) == 5e-5
    assert {group["lr"] for group in optimizer.param_groups} == {5e-5, 5e-4}
    set_learning_rate(optimizer, 1.0)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4, 1e-3}


# The optimizers


def one_step(name, *, gradient, decay=0.0, start=1.0, rate=0.1, steps=1, **settings):
    parameter = nn.Parameter(torch.tensor([[start, start]]))
    config = TrainConfig(optimizer=name, weight_decay=decay, **settings)
    optimizer = build_optimizer([{"params": [parameter], "weight_decay": decay, "lr": rate, "peak_lr": rate}], config)
    for _ in range(steps):
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    return float(parameter.detach()[0, 0])


def test_each_optimizer_steps_as_its_paper_says():
    assert one_step("sgd", gradient=2.0) == pytest.approx(1 - 0.1 * 2)
    assert one_step("sgd", gradient=2.0, steps=2, beta1=0.5) == pytest.approx(1 - 0.1 * 2 - 0.1 * (0.5 * 2 + 2))
    assert one_step("adamw", gradient=2.0) == pytest.approx(1 - 0.1, abs=1e-6)  # the first Adam step is the rate
    assert one_step("adamw", gradient=0.0, decay=0.5) == pytest.approx(1 - 0.1 * 0.5)
    assert one_step("adam", gradient=2.0) == pytest.approx(1 - 0.1, abs=1e-6)
    # RMSprop: g / sqrt((1 - beta2) g²) = 1 / sqrt(0.001)
    assert one_step("rmsprop", gradient=2.0, rate=0.001) == pytest.approx(1 - 0.001 / math.sqrt(0.001), abs=1e-5)
    # Adafactor: the update has a root mean square of at most 1, times the rate (at most 1 / sqrt(step))
    assert one_step("adafactor", gradient=2.0) == pytest.approx(1 - 0.1, abs=1e-3)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor", "rmsprop"])
def test_each_optimizer_learns(name):
    assert one_step(name, gradient=1.0, rate=1e-2, steps=5) < 1.0
    assert (
        type(
            build_optimizer([{"params": [nn.Parameter(torch.zeros(2))], "lr": 0.1}], TrainConfig(optimizer=name))
        ).__name__.lower()
        == name
    )


# Clipping


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("name", "dtype"), [("adamw", torch.float32), ("adamw", torch.float64), ("sgd", torch.float32)]
)
@pytest.mark.parametrize("max_norm", [0.0, 1.0, 100.0])
def test_a_gradient_is_clipped_as_torch_clips_it(known, name, dtype, max_norm):
    gradients = ([3.0, 0.0, 4.0], [0.5, 0.5, 0.2])  # norms of 5 and below 1: a scale does not outlive its step
    learned = []
    for clip in (False, True):
        weight = nn.Parameter(torch.tensor([1.0, 2.0, -1.0], dtype=dtype))
        group = {"params": [weight], "weight_decay": 0.1, "lr": 0.1, "peak_lr": 0.1}
        optimizer = build_optimizer([group], TrainConfig(optimizer=name))
        for gradient in gradients:
            weight.grad = torch.tensor(gradient, dtype=dtype)
            norm = weight.grad.norm()
            if clip:
                found = _clip(optimizer, [weight], norm if known else None, max_norm)
                assert found == pytest.approx(float(norm))
            elif max_norm:
                torch.nn.utils.clip_grad_norm_([weight], max_norm)
            optimizer.step()
        learned.append(weight.detach().clone())
    torch.testing.assert_close(learned[1], learned[0], rtol=1e-6, atol=1e-7)
