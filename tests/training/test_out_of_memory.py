"""A full device: the step is repeated in smaller micro-batches with the same gradient, evaluation goes on in halves, and the rest is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tasks.test_contract import values_for
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.evaluation.score_split import evaluate_split
from tunewright.runs.setup import build_components
from tunewright.training.engine import training_steps
from tunewright.training.out_of_memory import is_out_of_memory


@pytest.fixture
def parts(run_values):
    return build_components(parse_config({**run_values, "train": {**run_values["train"], "execution": "plain"}}))


def limited(model, most_tokens: int):
    """The model on a device that holds this many tokens at a time."""

    def refuse(module, args, inputs):
        if inputs["input_ids"].numel() > most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return model.register_forward_pre_hook(refuse, with_kwargs=True)


def first_loss(parts, say=lambda line: None):
    steps = training_steps(
        parts.model,
        parts.task,
        parts.rows,
        parts.encoder,
        parts.plan,
        parts.optimizer,
        execution=parts.execution,
        say=say,
    )
    return next(steps)


def test_a_step_is_repeated_in_smaller_micro_batches(run_values, parts):
    wanted = first_loss(parts)
    again = build_components(parse_config({**run_values, "train": {**run_values["train"], "execution": "plain"}}))
    said: list[str] = []
    limited(again.model, 120)
    found = first_loss(again, said.append)
    assert (found.loss, found.grad_norm) == pytest.approx((wanted.loss, wanted.grad_norm), rel=1e-5)
    assert again.execution.token_budget < 1_024 and "memory is full" in said[0]


def test_a_row_that_does_not_fit_is_refused(parts):
    limited(parts.model, 4)
    with pytest.raises(UserError, match="one row at a time"):
        first_loss(parts)


def test_one_of_several_ranks_is_named(parts):
    limited(parts.model, 4)
    parts = replace(parts, execution=replace(parts.execution, rank=1, num_ranks=2))
    with pytest.raises(UserError, match="rank 1 has no memory left"):
        first_loss(parts)


def test_evaluation_goes_on_in_halves(parts):
    scored = {}
    for most in (10**6, 100):
        hook = limited(parts.model, most)
        found = evaluate_split(parts.model, parts.task, parts.rows, parts.encoder, execution=parts.execution)
        scored[most] = found.metrics["loss"]
        hook.remove()
    assert scored[100] == pytest.approx(scored[10**6], rel=1e-5)


def test_what_is_taken_for_a_full_device():
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: …)"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(MemoryError("out of memory"))


def test_a_full_device_in_ktos_pass_without_dropout_leaves_dropout_on(run_values, tmp_path):
    values = values_for("kto", run_values, tmp_path)
    train = {**values["train"], "execution": "plain", "dropout": "row_keyed"}
    parts = build_components(parse_config({**values, "train": train}))
    was_training = []

    def refuse_once(module, args, inputs):
        was_training.append(module.training)
        if len(was_training) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    parts.model.register_forward_pre_hook(refuse_once, with_kwargs=True)
    first_loss(parts)
    assert not was_training[0] and was_training[-1]
