"""Two halves of a step at the same time: dealt evenly, added in one order, whatever happens in either."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunewright.models.embedding import add_table_gradients_in_place
from tunewright.models.rows import Rows, current_rows, rows_in_flight
from tunewright.tokens.batch import deal
from tunewright.training.engine import Settings
from tunewright.training.halves import side_by_side


def test_rows_are_dealt_longest_first_to_the_smaller_part():
    first, second = deal(np.array([5, 9, 3, 7]), 2)  # 9 | 7, then 5 to the 7, then 3 to the 9
    assert (first.tolist(), second.tolist()) == ([1, 2], [3, 0])


@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(1, 4))
def test_every_row_is_dealt_once_and_parts_differ_by_a_row_at_most(lengths, number):
    lengths = np.array(lengths)
    parts = deal(lengths, number)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    tokens = [int(lengths[part].sum()) for part in parts]
    assert max(tokens) - min(tokens) <= lengths.max()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_short_steps_are_computed_whole_and_long_ones_hold_every_row(lengths):
    lengths = np.array(lengths)
    halves = Settings(token_budget=200, in_halves=True).halves(lengths)
    assert not Settings(token_budget=200).halves(lengths)
    tokens = sorted(int(lengths[np.concatenate(half)].sum()) for half in halves)
    if halves:
        assert lengths.sum() > 200
        assert tokens[0] >= 0.85 * tokens[1]
        rows = np.concatenate([piece for half in halves for piece in half])
        assert sorted(rows.tolist()) == list(range(len(lengths)))
    else:
        assert lengths.sum() <= 200 or lengths.max() > lengths.sum() / 20  # without a row that long two parts balance


def test_a_row_as_long_as_all_others_is_not_computed_beside_them():
    settings = Settings(token_budget=200, in_halves=True)
    assert settings.halves(np.array([150, 150]))
    assert settings.halves(np.array([200, 100, 80]))
    assert not settings.halves(np.array([300, 20, 20]))
    assert not settings.halves(np.array([500]))


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
    side_by_side(
        lambda backward: backward(loss(1, 2)),
        lambda backward: (backward(loss(2, 3)), backward(loss(3, 3))),
        model.parameters(),
    )
    for parameter, grad in zip((table.weight, *layer.parameters()), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert frozen.weight.grad is None


def test_a_parameter_that_only_the_second_half_reaches_gets_its_gradient():
    one, other, third = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    side_by_side(
        lambda backward: backward(one.sum()),
        lambda backward: (backward((other + third).square().sum()), backward(other.sum())),
        [one, other, third],
    )
    assert (one.grad.tolist(), other.grad.tolist(), third.grad.tolist()) == ([1, 1], [5, 5], [4, 4])


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_in_either_half_is_raised_when_both_have_ended(failing):
    parameter, ended = torch.nn.Parameter(torch.ones(2)), []
    num_threads = torch.get_num_threads()

    def half(number: int):
        def compute(backward):
            if number == failing:
                raise ValueError(f"half {number}")
            time.sleep(0.05)
            ended.append(number)
            backward(parameter.sum())

        return compute

    with pytest.raises(ValueError, match=f"half {failing}"):
        side_by_side(half(0), half(1), [parameter])
    assert ended == [1 - failing]
    assert torch.get_num_threads() == num_threads
    found = side_by_side(lambda backward: 1, lambda backward: torch.get_num_threads(), [parameter])
    assert found == (1, max(1, num_threads // 2))


def test_each_thread_sees_its_own_rows():
    def rows(row_id: int) -> Rows:
        return Rows(seed=0, epoch=0, row_ids=np.array([row_id]), lengths=np.array([1]), width=1)

    opened, seen = threading.Barrier(2), {}

    def compute(row_id: int):
        def half(backward):
            with rows_in_flight(rows(row_id)):
                opened.wait()
                seen[row_id] = int(current_rows().row_ids[0])
                opened.wait()
            seen[-row_id] = current_rows()

        return half

    side_by_side(compute(1), compute(2), [])
    assert seen == {1: 1, 2: 2, -1: None, -2: None}


def test_the_second_halfs_gradients_of_tables_stay_apart_until_both_are_done():
    table = torch.nn.Embedding(4, 2)
    add_table_gradients_in_place(table)

    def second(backward):
        backward(table(torch.tensor([1, 1])).sum())
        return table.weight.grad

    assert side_by_side(lambda backward: None, second, table.parameters()) == (None, None)
    assert table.weight.grad.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0]]
