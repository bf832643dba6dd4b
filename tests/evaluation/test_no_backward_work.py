"""Evaluating, referencing and predicting compute nothing that only a backward pass needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tasks.test_contract import TASKS, set_up, values_for, with_lora
from tunewright.evaluation.score_split import model_outputs
from tunewright.execution.cpu.norms import install_fused_rms_norm
from tunewright.losses.chunked import linear_cross_entropy
from tunewright.training.reference import reference_of


class Operations(TorchDispatchMode):
    """Counts what torch computes, also inside functions of autograd: (operation, shapes of what goes in)."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, tuple[object, ...]]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = tuple(tuple(one.shape) for one in args if isinstance(one, torch.Tensor))
        if not func.is_view:  # another look at the same memory is no work
            self.counts[str(func), shapes] += 1
        return func(*args, **(kwargs or {}))


def work_of(compute) -> tuple[Counter, list]:
    """What is computed, and what is kept for a backward pass."""
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x), Operations() as seen:
        compute()
    return seen.counts, kept


def assert_no_backward_work(model: torch.nn.Module, compute) -> None:
    """The same operations as on a model without any parameter that takes a gradient."""
    compute()  # what is tried once a model is tried now
    found, kept = work_of(compute)
    trainable = [one for one in model.parameters() if one.requires_grad]
    assert trainable and not kept
    for one in trainable:
        one.requires_grad_(False)
    expected, _ = work_of(compute)
    assert found == expected
    assert all(one.grad is None for one in model.parameters())


@pytest.mark.parametrize("kind", [*TASKS, "dpo-lora", "sft-lora"])
def test_an_evaluation_computes_what_a_frozen_model_computes(run_values, tmp_path, tiny_gpt, kind):
    name, _, adapter = kind.partition("-")
    values = with_lora(name, run_values, tmp_path, tiny_gpt) if adapter else values_for(name, run_values, tmp_path)
    run = set_up(values)
    split = run.prepared.store["validation"]
    task = run.task
    if task.needs_reference:
        for name in run.prepared.store.splits:
            rows = run.prepared.store[name]
            found = reference_of(task, run.model, rows, run.encoder, run.execution)
            task = task.with_reference_log_probs({**dict(task.reference or {}), **found})
        assert_no_backward_work(run.model, lambda: reference_of(task, run.model, split, run.encoder, run.execution))
        for one in run.model.parameters():
            one.requires_grad_(True)
    assert_no_backward_work(
        run.model, lambda: model_outputs(run.model, task, split, run.encoder, execution=run.execution)
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_loss_of_output_rows_makes_their_gradient_for_a_backward_pass_only(mode):
    hidden, weight, bias = torch.randn(5, 4), torch.nn.Parameter(torch.randn(7, 4)), torch.nn.Parameter(torch.zeros(7))

    def products(grad: bool) -> int:
        with torch.set_grad_enabled(grad):
            counts, _ = work_of(lambda: linear_cross_entropy(hidden, weight, bias, torch.arange(5)))
        return sum(count for (name, _), count in counts.items() if ".mm." in name or "matmul" in name)

    assert (products(True), products(False)) == (2, 1)
    with mode():
        total, losses = linear_cross_entropy(hidden, weight, bias, torch.arange(5))
    expected = functional.cross_entropy(functional.linear(hidden, weight, bias), torch.arange(5), reduction="none")
    assert torch.allclose(losses, expected, atol=1e-6) and not total.requires_grad


def test_long_answers_are_not_checkpointed_where_nothing_is_made_again(monkeypatch):
    from tunewright.losses import sequence

    monkeypatch.setattr(sequence, "_HELD_ELEMENTS", 8)
    states, weight = torch.randn(6, 4), torch.nn.Parameter(torch.randn(5, 4))
    labels = torch.arange(6) % 5
    with_graph = sequence._by_pieces(states, weight, None, labels)
    monkeypatch.setattr(sequence, "checkpoint", lambda *_, **__: pytest.fail("kept for a backward pass"))
    with torch.no_grad():
        assert torch.allclose(sequence._by_pieces(states, weight, None, labels), with_graph, atol=1e-6)


def test_norms_keep_nothing_without_a_backward_pass():
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(8)
    install_fused_rms_norm(norm)
    with torch.no_grad():
        _, kept = work_of(lambda: norm(torch.randn(3, 8)))
    assert not kept


def test_arrays_of_an_evaluation_are_those_of_before(run_values):
    """Outputs under no_grad are those of a pass with gradients."""
    run = set_up(run_values)
    split = run.prepared.store["validation"]
    outputs, _ = model_outputs(run.model, run.task, split, run.encoder, execution=run.execution)
    batch = run.task.collate(split, np.arange(len(split)), run.encoder)
    with_graph = run.task.row_outputs(run.model.eval()(**batch.inputs).logits.detach(), batch)
    assert np.allclose(np.stack(outputs), np.stack(with_graph), atol=1e-5)


@pytest.mark.parametrize("kind", ["classification", "ner", "clm", "sft", "kto"])
def test_two_threads_evaluate_what_one_does(run_values, tmp_path, kind):
    """In the order of the rows, the same every time; with the modes of the thread that asked."""
    run = set_up(values_for(kind, run_values, tmp_path), precision="fp64")
    split, task = run.prepared.store["train"], run.task
    if task.needs_reference:
        task = task.with_reference_log_probs(reference_of(task, run.model, split, run.encoder, run.execution))
    execution = replace(run.execution, token_budget=60)
    whole, losses = model_outputs(run.model, task, split, run.encoder, execution=execution)
    found = [
        model_outputs(run.model, task, split, run.encoder, execution=replace(execution, two_threads=True))
        for _ in range(2)
    ]
    assert all(np.allclose(one, other, atol=1e-12) for one, other in zip(found[0][0], whole, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(found[0][0], found[1][0], strict=True))
    assert found[0][1] == found[1][1] == pytest.approx(losses, abs=1e-12)
    assert all(one.grad is None for one in run.model.parameters())


def test_what_one_of_two_threads_raises_ends_both():
    from tunewright.execution.cpu.two_threads import map_on_two_threads

    done: list[int] = []

    def compute(piece: int) -> int:
        if piece == 3:
            raise KeyError(piece)
        done.append(piece)
        return 2 * piece

    assert map_on_two_threads([0, 1, 2], compute) == [0, 2, 4]
    done.clear()
    with pytest.raises(KeyError):
        map_on_two_threads(list(range(1_000_000)), compute)
    assert len(done) < 1_000_000
