"""Two halves of a step at the same time: dealt evenly, added in one order, whatever happens in either."""

from __future__ import annotations

import sys
import threading
import time
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunewright.batching.row_context import RowContext, current_row_context, row_context
from tunewright.execution.cpu import CpuExecution
from tunewright.execution.cpu.embedding import add_table_gradients_in_place
from tunewright.execution.cpu.two_threads import SharedOptimizer, halve, run_both_backward, shares
from tunewright.training.config import TrainConfig
from tunewright.training.optimizer import build_optimizer, set_learning_rate


def test_halves_are_as_even_as_can_be():
    first, second = halve(np.array([5, 9, 3, 7, 6]))  # the longest first to the smaller part: 14 and 16
    assert {tuple(sorted(first.tolist())), tuple(sorted(second.tolist()))} == {(1, 4), (0, 2, 3)}
    first, second = halve(np.array([4, 9, 3]))  # fewer tokens first
    assert (sorted(first.tolist()), second.tolist()) == ([0, 2], [1])


@given(st.lists(st.integers(1, 512), min_size=1, max_size=9))
def test_no_other_halves_are_closer(lengths):
    lengths = np.array(lengths)
    first, second = halve(lengths)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(lengths)))
    differences = [
        abs(int(lengths.sum()) - 2 * sum(some))
        for number in range(len(lengths) + 1)
        for some in combinations(lengths.tolist(), number)
    ]
    assert lengths[second].sum() - lengths[first].sum() == min(differences)


@given(st.lists(st.integers(1, 512), min_size=33, max_size=80))
def test_halves_of_many_rows_differ_by_a_row_at_most(lengths):
    lengths = np.array(lengths)
    first, second = halve(lengths)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(lengths)))
    assert 0 <= lengths[second].sum() - lengths[first].sum() <= lengths.max()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_short_steps_are_computed_whole_and_long_ones_hold_every_row(lengths):
    lengths = np.array(lengths)
    halves = CpuExecution(token_budget=200, two_threads=True).split(lengths)
    assert len(CpuExecution(token_budget=200).split(lengths)) == 1
    tokens = sorted(int(lengths[np.concatenate(half)].sum()) for half in halves)
    if len(halves) > 1:
        assert lengths.sum() > 200
        assert tokens[0] >= 0.85 * tokens[1]
        rows = np.concatenate([piece for half in halves for piece in half])
        assert sorted(rows.tolist()) == list(range(len(lengths)))
    else:
        assert lengths.sum() <= 200 or lengths.max() > lengths.sum() / 20  # without a row that long two parts balance


def test_a_row_as_long_as_all_others_is_not_computed_beside_them():
    execution = CpuExecution(token_budget=200, two_threads=True)
    assert len(execution.split(np.array([150, 150]))) == 2
    assert len(execution.split(np.array([200, 100, 80]))) == 2
    assert len(execution.split(np.array([300, 20, 20]))) == 1
    assert len(execution.split(np.array([500]))) == 1


def test_gradients_of_both_are_added_to_what_is_there():
    torch.manual_seed(0)
    table, layer, frozen = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2), torch.nn.Linear(2, 2).requires_grad_(False)
    model = torch.nn.ModuleList([table, layer, frozen])
    add_table_gradients_in_place(model)

    def loss(*ids: int) -> torch.Tensor:
        return frozen(layer(table(torch.tensor(ids)))).square().sum()

    for ids in ((0, 1), (1, 2), (2, 3), (3, 3)):
        loss(*ids).backward()
    expected = [parameter.grad.clone() for parameter in (table.weight, *layer.parameters())]
    model.zero_grad(set_to_none=True)
    loss(0, 1).backward()
    *_, norm = run_both_backward(
        lambda backward: backward(loss(1, 2)),
        lambda backward: (backward(loss(2, 3)), backward(loss(3, 3))),
        model.parameters(),
    )
    torch.testing.assert_close(norm, torch.cat([one.flatten() for one in expected]).norm())
    for parameter, grad in zip((table.weight, *layer.parameters()), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert frozen.weight.grad is None


def test_a_parameter_that_only_the_second_half_reaches_gets_its_gradient():
    one, other, third = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    run_both_backward(
        lambda backward: backward(one.sum()),
        lambda backward: (backward((other + third).square().sum()), backward(other.sum())),
        [one, other, third],
    )
    assert (one.grad.tolist(), other.grad.tolist(), third.grad.tolist()) == ([1, 1], [5, 5], [4, 4])


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_in_either_half_is_raised_when_both_have_ended(failing):
    parameter, ended = torch.nn.Parameter(torch.ones(2)), []
    num_threads, interval = torch.get_num_threads(), sys.getswitchinterval()

    def half(number: int):
        def compute(backward):
            if number == failing:
                raise ValueError(f"half {number}")
            time.sleep(0.05)
            ended.append(number)
            backward(parameter.sum())

        return compute

    with pytest.raises(ValueError, match=f"half {failing}"):
        run_both_backward(half(0), half(1), [parameter])
    assert ended == [1 - failing]
    assert (torch.get_num_threads(), sys.getswitchinterval()) == (num_threads, interval)
    found = run_both_backward(lambda backward: 1, lambda backward: torch.get_num_threads(), [parameter])
    assert found[:2] == (1, max(1, num_threads // 2))


def test_each_thread_sees_its_own_rows():
    def rows(row_id: int) -> RowContext:
        return RowContext(seed=0, epoch=0, row_ids=np.array([row_id]), lengths=np.array([1]), width=1)

    opened, seen = threading.Barrier(2), {}

    def compute(row_id: int):
        def half(backward):
            with row_context(rows(row_id)):
                opened.wait()
                seen[row_id] = int(current_row_context().row_ids[0])
                opened.wait()
            seen[-row_id] = current_row_context()

        return half

    run_both_backward(compute(1), compute(2), [])
    assert seen == {1: 1, 2: 2, -1: None, -2: None}


def test_the_second_halfs_gradients_of_tables_stay_apart_until_both_are_done():
    table = torch.nn.Embedding(4, 2)
    add_table_gradients_in_place(table)

    def second(backward):
        backward(table(torch.tensor([1, 1])).sum())
        return table.weight.grad

    *returned, norm = run_both_backward(lambda backward: None, second, table.parameters())
    assert returned == [None, None]
    assert float(norm) == pytest.approx(8**0.5)
    assert table.weight.grad.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0]]


def test_shares_hold_about_half_of_the_numbers():
    sizes = (8, 1, 5, 3, 3)  # the largest first, each to the share with less: 8 + 3, 5 + 3 + 1
    dealt = shares(torch.nn.Parameter(torch.zeros(size)) for size in sizes)
    assert [[parameter.numel() for parameter in share] for share in dealt] == [[8, 3], [5, 3, 1]]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor", "rmsprop"])
def test_a_shared_step_is_the_optimizers_own_bit_by_bit(name):
    """With a rate and a scale that change from step to step, and a parameter that has no gradient at first."""

    def trained(*, in_shares: bool) -> tuple[list[torch.Tensor], dict]:
        torch.manual_seed(0)
        weights = [
            torch.nn.Parameter(torch.randn(7, 5)),
            torch.nn.Parameter(torch.randn(9)),
            torch.nn.Parameter(torch.randn(3)),
        ]
        groups = [
            {"params": [weights[0]], "weight_decay": 0.1, "lr": 0.01, "peak_lr": 0.01},
            {"params": weights[1:], "weight_decay": 0.0, "lr": 0.02, "peak_lr": 0.02},
        ]
        optimizer = build_optimizer(groups, TrainConfig(optimizer=name))
        assert SharedOptimizer.can_share(optimizer)
        shared = SharedOptimizer(optimizer)
        for step in range(4):
            for weight in weights[: 3 if step else 2]:
                weight.grad = torch.randn_like(weight)
            set_learning_rate(optimizer, 1 / (step + 1))
            if name.startswith("adam"):
                optimizer.grad_scale = torch.tensor(4.0) if step == 2 else None
            if in_shares:
                shared.step_and_clear()
            else:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
        assert not any(weight.grad.any() for weight in weights)
        return weights, {place: optimizer.state[weight] for place, weight in enumerate(weights)}

    (plain, state), (ours, ours_state) = trained(in_shares=False), trained(in_shares=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, ours, strict=True))
    for place, entries in state.items():
        assert entries.keys() == ours_state[place].keys()
        for key, value in entries.items():
            assert np.array_equal(np.asarray(value), np.asarray(ours_state[place][key])), (place, key)


def test_an_optimizer_of_ones_own_or_one_that_is_watched_steps_as_a_whole():
    class OfAllNorms(torch.optim.SGD):
        """Could look at every gradient before it moves one weight."""

    weights = [torch.nn.Parameter(torch.ones(2))]
    assert not SharedOptimizer.can_share(OfAllNorms(weights, lr=0.1))
    watched = torch.optim.SGD(weights, lr=0.1)
    watched.register_step_post_hook(lambda *these: None)
    assert not SharedOptimizer.can_share(watched)
