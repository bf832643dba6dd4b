"""Which rows make which step, and how a step is cut and padded: pure functions, no row lost, no budget broken."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.batching.micro_batches import FIXED_COST_TOKENS, attention_mask, cut, pad, rows_of
from tunewright.batching.padding import padded_width
from tunewright.batching.schedule import BatchSchedule
from tunewright.records import Batch

plans = st.builds(
    BatchSchedule, num_rows=st.integers(1, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 2**32 - 1),
    epochs=st.sampled_from([0.1, 0.5, 1.0, 2.5, 3.0]), max_steps=st.none() | st.integers(1, 30),
)  # fmt: skip


def epoch_of(plan, epoch):
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    return [plan.rows_of_step(step)[1].tolist() for step in steps]


# The plan


def test_ten_rows_by_four_are_steps_of_four_four_and_two():
    plan = BatchSchedule(num_rows=10, batch_size=4, seed=0, epochs=2)
    assert (plan.steps_per_epoch, plan.num_steps) == (3, 6)
    assert [(plan.rows_of_step(step)[0], len(plan.rows_of_step(step)[1])) for step in range(6)] == [
        (0, 4), (0, 4), (0, 2), (1, 4), (1, 4), (1, 2),
    ]  # fmt: skip
    assert [plan.samples_before(step) for step in range(7)] == [0, 4, 8, 10, 14, 18, 20]


def test_the_order_is_the_one_that_was_always_drawn():
    """A saved run goes on with the order it began with: these rows must never change."""
    assert epoch_of(BatchSchedule(10, 4, seed=0), 0) == [[4, 1, 6, 9], [5, 7, 2, 0], [3, 8]]
    assert epoch_of(BatchSchedule(10, 4, seed=0), 1) == [[5, 4, 3, 8], [1, 2, 9, 7], [6, 0]]


@given(plans)
def test_every_row_comes_once_an_epoch(plan):
    for epoch in (0, 1, 7):
        assert sorted(itertools.chain(*epoch_of(plan, epoch))) == list(range(plan.num_rows))


@given(plans, st.integers(0, 200))
def test_a_step_is_a_pure_function(plan, step):
    again = BatchSchedule(**vars(plan))
    epoch, rows = plan.rows_of_step(step)
    BatchSchedule(plan.num_rows, plan.batch_size, plan.seed + 1).rows_of_step(0)
    assert epoch == again.rows_of_step(step)[0] == step // plan.steps_per_epoch
    assert rows.tolist() == again.rows_of_step(step)[1].tolist()


def test_epochs_and_seeds_differ_and_batch_size_does_not_reorder():
    rows = {
        tuple(itertools.chain(*epoch_of(BatchSchedule(50, 8, seed), epoch))) for seed in (0, 1, 2) for epoch in (0, 1, 2)
    }  # fmt: skip
    assert len(rows) == 9
    flat = [list(itertools.chain(*epoch_of(BatchSchedule(50, batch_size, 3), 1))) for batch_size in (1, 7, 64)]
    assert flat[0] == flat[1] == flat[2]


@pytest.mark.parametrize(
    ("epochs", "max_steps", "num_steps"),
    [(1, None, 10), (0.5, None, 5), (2.5, None, 25), (0.01, None, 1), (3, 12, 12), (0.5, 12, 5), (1, 1, 1)],
)
def test_fractional_epochs_and_max_steps(epochs, max_steps, num_steps):
    assert BatchSchedule(100, 10, 0, epochs, max_steps).num_steps == num_steps


@given(plans, st.integers(0, 300))
def test_samples_and_steps_are_inverse(plan, step):
    samples = plan.samples_before(step)
    assert plan.step_at(samples) == step
    assert samples == sum(len(plan.rows_of_step(before)[1]) for before in range(step))


def test_samples_between_two_steps_are_our_bug():
    with pytest.raises(AssertionError, match="at the end of a step"):
        BatchSchedule(10, 4, 0).step_at(5)


# The cut

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(lambda values: np.array(values, dtype=np.int32))


@given(lengths, st.integers(1, 200), st.integers(1, 4))
def test_a_cut_is_a_partition_within_the_budget(lengths, budget, num_ranks):
    pieces = cut(lengths, budget, num_ranks=num_ranks)
    assert sorted(itertools.chain(*(piece.tolist() for piece in pieces))) == list(range(len(lengths)))
    assert len(pieces) % num_ranks == 0
    for piece in pieces:
        assert len(piece) <= 1 or lengths[piece].max() * len(piece) <= budget
    again = cut(lengths.copy(), budget, num_ranks=num_ranks)
    assert [piece.tolist() for piece in pieces] == [piece.tolist() for piece in again]
    num_empty = sum(not len(piece) for piece in pieces)
    assert not num_empty or (num_empty < num_ranks and max(map(len, pieces)) == 1)  # only where no piece can be halved


def padded(group, multiple):
    """Tokens of a group whose rows are widened until they are a multiple."""
    return next(width * len(group) for width in itertools.count(max(group)) if width * len(group) % multiple == 0)


def cost(groups, fixed, multiple):
    return sum(padded(group, multiple) + fixed for group in groups)


def cheapest_by_trying(lengths, budget, fixed, multiple):
    """The cost of the best contiguous cut of the sorted lengths, all of them tried."""
    ordered, best = sorted(lengths, reverse=True), float("inf")
    for marks in itertools.product([False, True], repeat=len(ordered) - 1):
        places = [0, *(place + 1 for place, mark in enumerate(marks) if mark), len(ordered)]
        groups = [ordered[start:stop] for start, stop in itertools.pairwise(places)]
        if all(len(group) == 1 or padded(group, multiple) <= budget for group in groups):
            best = min(best, cost(groups, fixed, multiple))
    return best


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 150), st.sampled_from([0, 1, 10, 64]),
    st.sampled_from([1, 8, 32]),
)  # fmt: skip
def test_no_cut_of_the_sorted_rows_is_cheaper(values, budget, fixed, multiple):
    pieces = cut(np.array(values), budget, fixed_cost=fixed, multiple=multiple)
    groups = [[values[i] for i in piece] for piece in pieces]
    assert cost(groups, fixed, multiple) == cheapest_by_trying(values, budget, fixed, multiple)


@given(st.integers(1, 5_000), st.integers(1, 600), st.sampled_from([1, 8, 32]))
def test_a_padded_width_is_the_least_that_holds_a_multiple(longest, num_rows, multiple):
    width = padded_width(longest, num_rows, multiple)
    assert width * num_rows == padded([longest] * num_rows, multiple) and width < longest + multiple


def test_where_products_are_compiled_a_micro_batch_is_padded_to_a_multiple(tiny_bert):
    from tunewright.execution.base import Execution
    from tunewright.execution.cpu import CpuExecution
    from tunewright.pretrained.model_files import locate_model
    from tunewright.tokenization.encoder import load_encoder

    encoder = load_encoder(locate_model(str(tiny_bert)), max_length=60)
    lengths = np.array([41, 40, 7])

    def width(lengths, execution):
        return execution.padding.width(lengths, encoder)

    assert width(lengths, CpuExecution(precision="fp32")) == 41
    assert width(lengths, CpuExecution(precision="bf16")) == 60  # not 64: the model has no more positions
    assert width(lengths[1:], CpuExecution(precision="bf16")) == 48
    assert width(lengths, CpuExecution(precision="bf16", to_max_length=True)) == 60
    assert width(lengths, Execution(precision="bf16")) == 41
    assert width(lengths, Execution(to_max_length=True)) == 60


def test_a_cut_worked_out_by_hand():
    # 250 248 31 30 12 tokens. [250 248] is 500 + 64, [31 30 12] is 93 + 64: 721. [250] [248] … is 64 - 2 dearer.
    pieces = cut(np.array([12, 250, 31, 30, 248]), 512, fixed_cost=64)
    assert [piece.tolist() for piece in pieces] == [[1, 4], [2, 3, 0]]
    # without a fixed cost every length stands alone; rows longer than the budget always do
    assert len(cut(np.array([5, 4, 3]), 512, fixed_cost=0)) == 3
    assert [piece.tolist() for piece in cut(np.array([100, 90, 1, 1]), 50)] == [[0], [1], [2, 3]]
    # equal lengths keep their order
    assert [piece.tolist() for piece in cut(np.array([7, 7, 7, 7]), 1_000)] == [[0, 1, 2, 3]]
    assert FIXED_COST_TOKENS == 64


def test_ranks_without_rows_get_empty_pieces():
    assert [piece.tolist() for piece in cut(np.array([5, 5]), 100, num_ranks=4)] == [[0], [1], [], []]
    # one micro-batch for three ranks is halved at its widest: [3 rows] -> [1] [2] -> [1] [1] [1]
    assert [piece.tolist() for piece in cut(np.array([5, 5, 5]), 100, num_ranks=3)] == [[0], [1], [2]]


def test_more_rows_than_the_search_looks_back_are_all_cut():
    lengths = np.ones(1_500, dtype=np.int32)
    pieces = cut(lengths, 10**9)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(1_500)) and max(map(len, pieces)) <= 512


# Padding


def test_padding_right_and_left():
    rows = [np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32), np.array([], dtype=np.int32)]
    assert pad(rows, value=9, width=4).tolist() == [[5, 6, 7, 9], [8, 9, 9, 9], [9, 9, 9, 9]]
    assert pad(rows, value=9, width=4, left=True).tolist() == [[9, 5, 6, 7], [9, 9, 9, 8], [9, 9, 9, 9]]
    assert pad(rows, value=0, width=3).dtype == torch.int64
    assert pad(rows, value=0, width=3, dtype=torch.float32).dtype == torch.float32


def test_the_mask_is_one_on_real_tokens():
    lengths = np.array([3, 1, 0])
    assert attention_mask(lengths, 4).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert attention_mask(lengths, 4, left=True).tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert attention_mask(lengths, 4).dtype == torch.int64


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(9, 12), st.booleans())
def test_mask_and_padding_agree(sizes, width, left):
    rows = [np.arange(1, size + 1) for size in sizes]
    padded, mask = pad(rows, value=0, width=width, left=left), attention_mask(np.array(sizes), width, left=left)
    assert torch.equal(padded != 0, mask == 1)


def test_the_rows_of_a_batch_begin_where_their_padding_ends():
    batch = Batch({"input_ids": torch.zeros(2, 12)}, {}, np.array([7, 19]), np.array([12, 9]))
    assert rows_of(batch, SimpleNamespace(padding_side="left")).starts.tolist() == [0, 3]
    assert rows_of(batch, SimpleNamespace(padding_side="right")).starts.tolist() == [0, 0]
