"""Masks as a hash of row and place: the right share, independent of each other, the same whatever stands beside a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.execution.test_row_dropout import rows
from tunewright.batching.row_context import row_context
from tunewright.execution.hashed_dropout import HashedRowDropout, keep_scores, keep_states, mixed_, row_keys
from tunewright.execution.row_dropout import keep_scale

CPU = torch.device("cpu")


def states(among, width_features=(64,), *, site=5, p=0.1):
    return keep_states(among, (len(among), among.width, *width_features), site=site, p=p, device=CPU)


def test_the_mixing_is_that_of_murmur_hash_3():
    """Values of its published finalizer, computed with Python's integers."""

    def finalizer(word: int) -> int:
        word ^= word >> 16
        word = word * 0x85EBCA6B % 2**32
        word ^= word >> 13
        word = word * 0xC2B2AE35 % 2**32
        return word ^ word >> 16

    words = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xDEADBEEF]
    found = mixed_(torch.from_numpy(np.array(words, np.uint32).view(np.int32).copy())).numpy().view(np.uint32)
    assert found.tolist() == [finalizer(word) for word in words]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.037])
def test_the_share_of_dropped_elements(p):
    among = rows([3, 4], [512, 512])
    for keep in (states(among, (512,), p=p), keep_scores(among, (2, 4, 512, 512), site=1, p=p, device=CPU)):
        expected, n = 1 - round(p * 2**16) / 2**16, keep.numel()
        assert abs(float(keep.float().mean()) - expected) < 5 * (p * (1 - p) / n) ** 0.5


def test_masks_of_rows_sites_epochs_seeds_and_heads_are_independent():
    def of(**changed):
        key = {"ids": [7], "lengths": [256], **changed}
        site = key.pop("site", 5)
        return states(rows(key.pop("ids"), key.pop("lengths"), **key), (256,), site=site, p=0.5)[0].double()

    one = of()
    heads = keep_scores(rows([7], [256]), (1, 2, 256, 256), site=5, p=0.5, device=CPU)[0].double()
    others = [of(ids=[8]), of(site=6), of(site=261), of(epoch=1), of(seed=1), heads[0], heads[1]]
    for number, first in enumerate([one, *others]):
        for second in [one, *others][:number]:
            assert abs(float(((first - 0.5) * (second - 0.5)).mean()) * 4) < 5 / 256  # five standard errors


def test_neighbouring_elements_are_independent():
    keep = states(rows([7], [512]), (512,), p=0.5)[0].double() - 0.5
    scores = keep_scores(rows([7], [512]), (1, 1, 512, 512), site=5, p=0.5, device=CPU)[0, 0].double() - 0.5
    for mask in (keep, scores):
        for step in (1, 2, 3, 8, 64):
            for one, other in ((mask[:, step:], mask[:, :-step]), (mask[step:], mask[:-step])):
                assert abs(float((one * other).mean()) * 4) < 5 / 512


@pytest.mark.parametrize("left", [False, True])
def test_a_rows_mask_does_not_depend_on_what_stands_beside_it(left):
    alone, among = rows([7], [9]), rows([3, 7, 8], [12, 9, 4], width=20, left=left)
    own = slice(11, 20) if left else slice(0, 9)
    assert torch.equal(states(among, (33,))[1, own], states(alone, (33,))[0])
    scores = [keep_scores(x, (len(x), 4, x.width, x.width), site=2, p=0.3, device=CPU) for x in (alone, among)]
    assert torch.equal(scores[1][1][:, own, own], scores[0][0])


def test_keys_of_virtual_tokens_come_first():
    alone, among = rows([7], [5]), rows([3, 7], [8, 5], width=8, left=True)
    scores = [keep_scores(x, (len(x), 2, x.width, x.width + 3), site=2, p=0.3, device=CPU) for x in (alone, among)]
    assert torch.equal(scores[1][1][:, 3:, :3], scores[0][0][:, :, :3])
    assert torch.equal(scores[1][1][:, 3:, 6:], scores[0][0][:, :, 3:])


def test_an_output_without_positions_has_a_mask_of_its_row():
    one, other = (
        keep_states(x, (len(x), 16), site=2, p=0.5, device=CPU) for x in (rows([7], [9]), rows([3, 7], [4, 9]))
    )
    assert torch.equal(one[0], other[1]) and not torch.equal(other[0], other[1])


def test_no_two_keys_are_alike():
    keys = row_keys(rows(list(range(500)), [4] * 500), 0, 64).reshape(-1, 2)
    assert len({tuple(key) for key in keys.tolist()}) == 64 * 500


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradient(dtype):
    among, x = rows([3, 4], [6, 5]), torch.randn(2, 6, 8, dtype=dtype).requires_grad_()
    with row_context(among):
        y = HashedRowDropout(0.3, 5).train()(x)
        y.sum().backward()
    keep = keep_states(among, x.shape, site=5, p=0.3, device=CPU)
    scale = torch.tensor(keep_scale(0.3), dtype=torch.float64)
    assert y.dtype == dtype and torch.allclose(y.double(), x.double() * keep * scale, rtol=2**-7)
    assert torch.allclose(x.grad.double(), keep * scale, rtol=2**-7)


def test_everything_is_dropped_at_a_probability_of_one():
    with row_context(rows([3], [4])):
        assert not HashedRowDropout(1.0, 5).train()(torch.ones(1, 4, 8)).any()
