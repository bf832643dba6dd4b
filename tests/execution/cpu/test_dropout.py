"""Masks drawn fast: in parallel, in parts and of rows end to end they are those of `execution/row_dropout.py`."""

from __future__ import annotations

import pytest
import torch

import tunewright.execution.cpu.dropout as dropout
from tests.execution.test_row_dropout import rows
from tunewright.batching.row_context import row_context
from tunewright.execution.cpu.dropout import Draw, FastRowDropout, fill_keep
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.row_dropout import drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_end_to_end_are_dropped_as_padded_ones(dtype):
    padded = rows([4, 9, 7], [5, 2, 3])
    module = FastRowDropout(0.3, 5).train()
    with row_context(UnpaddedRows.of(padded, 16)):
        found = module(torch.ones(1, 16, 6, dtype=dtype))
    with row_context(padded):
        expected = module(torch.ones(3, 5, 6, dtype=dtype))
    assert torch.equal(found[0, :10], torch.cat([expected[row, :length] for row, length in enumerate([5, 2, 3])]))
    assert not found[0, 10:].any()


def test_a_part_of_a_stream_is_drawn_as_in_the_whole():
    whole, part = torch.empty(12, 7, 7), torch.empty(4, 7, 7)
    among = rows([3], [7])
    fill_keep([Draw(whole, 0, 1)], among, 0.3)
    fill_keep([Draw(part, 0, 1, num_skipped=4 * 49)], among, 0.3)
    assert torch.equal(part, whole[4:8])


def test_parallel_and_serial_draws_are_equal(monkeypatch):
    parallel = torch.empty(4, 512, 256)
    draws = [Draw(part, row, 1) for row, part in enumerate(parallel)]
    fill_keep(draws, rows([1, 2, 3, 4], [512] * 4), 0.1)
    monkeypatch.setattr(dropout, "_MIN_PARALLEL_ELEMENTS", 10**12)
    serial = torch.empty(4, 512, 256)
    fill_keep([Draw(part, row, 1) for row, part in enumerate(serial)], rows([1, 2, 3, 4], [512] * 4), 0.1)
    assert torch.equal(parallel, serial)


def test_masks_are_those_of_the_plain_drawing():
    keep = torch.empty(2, 7, 5)
    among = rows([4, 9], [7, 7])
    fill_keep([Draw(part, row, 3, stream=2) for row, part in enumerate(keep)], among, 0.3)
    assert torch.equal(
        keep.bool(), torch.stack([drawn(among, (7, 5), row=row, site=3, p=0.3, stream=2) for row in (0, 1)])
    )
