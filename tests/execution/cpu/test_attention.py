"""Row attention against the plain formula: values, gradients, padding, masks, pieces, and dropout that any cut repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tunewright.execution.cpu.pieces as pieces
import tunewright.execution.cpu.segments as segments
from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution import attention as plain_attention
from tunewright.execution.attention import UnsupportedAttention
from tunewright.execution.cpu import workspace
from tunewright.execution.cpu.attention import row_attention
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows


class Module(torch.nn.Module):
    dropout_site = 3
    is_causal = False


def tensors(
    rows: int, length: int, heads: int = 6, width: int = 8, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(rows, heads, length, width, dtype=dtype, requires_grad=True) for _ in range(3)]


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (torch.softmax(scores if mask is None else scores + mask, -1) @ v).transpose(1, 2)


def padding_mask(lengths: list[int], width: int, left: bool) -> torch.Tensor:
    mask = torch.zeros(len(lengths), 1, 1, width, dtype=torch.float64)
    for row, length in enumerate(lengths):
        if left:
            mask[row, ..., : width - length] = -torch.inf
        else:
            mask[row, ..., length:] = -torch.inf
    return mask


def rows(lengths: list[int], width: int, left: bool = False, ids: list[int] | None = None) -> RowContext:
    return RowContext(1, 2, np.array(ids or range(len(lengths))), np.array(lengths), width, left)


@pytest.mark.parametrize("piece", [1, 200, 10**6])
@pytest.mark.parametrize("left", [False, True])
def test_values_and_gradients_equal_the_plain_formula_on_real_tokens(monkeypatch, piece, left):
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", piece)
    lengths, width = [9, 8, 5, 2], 9
    q, k, v = tensors(4, width)
    real = torch.isfinite(padding_mask(lengths, width, left))[:, 0, 0]
    upstream = torch.randn(4, width, 6, 8, dtype=torch.float64) * real[:, :, None, None]
    expected = plain(q, k, v, padding_mask(lengths, width, left))
    expected_grads = torch.autograd.grad(expected, (q, k, v), upstream)
    with row_context(rows(lengths, width, left)):
        found, _ = row_attention(Module(), q, k, v, None)
        grads = torch.autograd.grad(found, (q, k, v), upstream)
    assert torch.allclose(found[real], expected[real], atol=1e-12)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert torch.allclose(grad, wanted, atol=1e-12)


def test_an_additive_and_a_boolean_mask_are_obeyed():
    q, k, v = tensors(2, 5)
    causal = torch.full((5, 5), -torch.inf, dtype=torch.float64).triu(1)[None, None].expand(2, 1, 5, 5)
    expected = plain(q, k, v, causal)
    with row_context(rows([5, 5], 5)):
        assert torch.allclose(row_attention(Module(), q, k, v, causal)[0], expected, atol=1e-12)
        assert torch.allclose(row_attention(Module(), q, k, v, causal == 0)[0], expected, atol=1e-12)


def test_grouped_keys_and_keys_of_a_prefix():
    q, k, v = tensors(2, 4)
    with row_context(rows([4, 4], 4)):
        few, _ = row_attention(Module(), q, k[:, :3], v[:, :3], None)
        longer, _ = row_attention(Module(), q[:, :, 1:], k, v, None)
    assert torch.allclose(
        few, plain(q, k[:, :3].repeat_interleave(2, 1), v[:, :3].repeat_interleave(2, 1), None), atol=1e-12
    )
    assert torch.allclose(longer, plain(q[:, :, 1:], k, v, None), atol=1e-12)


@pytest.mark.parametrize("piece", [1, 300, 10**6])
def test_dropout_is_the_same_for_every_cut(monkeypatch, piece):
    q, k, v = (x.detach() for x in tensors(3, 7))
    with row_context(rows([7, 6, 4], 7, ids=[11, 12, 13])):
        whole, _ = row_attention(Module(), q, k, v, None, None, 0.4)
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", piece)
    for index, (row_id, length) in enumerate([(11, 7), (12, 6), (13, 4)]):
        with row_context(rows([length], length, ids=[row_id])):
            one, _ = row_attention(Module(), *(x[index : index + 1, :, :length] for x in (q, k, v)), None, None, 0.4)
        assert torch.allclose(whole[index, :length], one[0], atol=1e-12)


def test_gradient_under_dropout_is_that_of_the_drawn_mask():
    q, k, v = tensors(2, 5)

    def forward(*x: torch.Tensor) -> torch.Tensor:
        with row_context(rows([5, 3], 5)):
            return row_attention(Module(), *x, None, None, 0.3)[0]

    assert torch.autograd.gradcheck(forward, (q, k, v))


@pytest.mark.parametrize("piece", [1, 10**6])
@pytest.mark.parametrize("laid", ["padded", "left", "unpadded", "packed"])
def test_bf16_rounds_factors_and_nothing_else(monkeypatch, laid, piece):
    """Beside the same numbers in fp64: each result within a bf16 step or two, whatever stands beside a row, dropout on."""
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", piece)
    lengths, width = [21, 13, 11, 3], 24
    places = rows(lengths, width, left=laid == "left")
    mask = None
    if laid == "unpadded":
        places = UnpaddedRows.of(places, 32)
    elif laid == "packed":
        places = RowContext(
            1, 2, np.arange(4), np.array(lengths), width, segments=tuple(np.array([n]) for n in lengths)
        )
        mask = padding_mask(lengths, width, left=False).expand(-1, -1, width, -1)
    wide = [x.detach().bfloat16().double().requires_grad_() for x in tensors(places.batch_size, places.width)]
    real = torch.zeros(places.batch_size, places.width, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(places.starts, places.lengths, strict=True)):
        real[0 if laid == "unpadded" else row, start : start + length] = True
    upstream = torch.randn(*real.shape, 6, 8).bfloat16() * real[:, :, None, None]
    computed = []
    for dtype in (torch.float64, torch.bfloat16):
        inputs = [x.detach().to(dtype).requires_grad_() for x in wide]
        with row_context(replace(places)):
            found, _ = row_attention(Module(), *inputs, None if mask is None else mask.to(dtype), None, 0.2)
            grads = torch.autograd.grad(found, inputs, upstream.to(dtype))
        assert {x.dtype for x in (found, *grads)} == {dtype}
        computed.append([x.double() for x in (found[real], *grads)])
    for exact, rounded in zip(*computed, strict=True):
        assert (rounded - exact).norm() < 2**-7 * exact.norm()


def test_memory_that_prediction_made_does_for_training_and_the_other_way_round(monkeypatch):
    monkeypatch.setattr(workspace, "_of_thread", workspace._OfThread())
    q, k, v = tensors(2, 6)
    for size in (3, 6):
        parts = [x[:, :, :size] for x in (q, k, v)]
        with row_context(rows([size, size], size)):
            with torch.inference_mode():
                row_attention(Module(), *parts, None)
            found, _ = row_attention(Module(), *parts, None, None, 0.2)
        assert all(grad.abs().sum() > 0 for grad in torch.autograd.grad(found.sum(), (q, k, v)))


def test_what_it_does_not_compute_is_refused():
    q, k, v = tensors(1, 4)
    with pytest.raises(UnsupportedAttention):
        row_attention(Module(), q, k, v, None, softcap=30.0)
    causal = Module()
    causal.is_causal = True
    with pytest.raises(UnsupportedAttention):
        row_attention(causal, q, k, v, None)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("tokens", [1, 4, 64])
@pytest.mark.parametrize("tile", [1, 2, 128])
def test_packed_documents_are_computed_apart(monkeypatch, left, tokens, tile):
    monkeypatch.setattr(plain_attention, "SEGMENT_TOKENS", tokens)
    monkeypatch.setattr(segments, "_TILE_QUERIES", tile)
    lengths, width = [9, 7], 9
    documents = (np.array([2, 1, 4, 2]), np.array([5, 2]))
    q, k, v = tensors(2, width)
    mask = torch.full((2, 1, width, width), -torch.inf, dtype=torch.float64)
    for row, (of_row, length) in enumerate(zip(documents, lengths, strict=True)):
        start = width - length if left else 0
        for segment in of_row.tolist():
            mask[row, 0, start : start + segment, start : start + segment] = torch.full(
                (segment, segment), -torch.inf
            ).triu(1)
            start += segment
    real = torch.isfinite(mask[:, 0]).any(-1)
    plainly = mask.masked_fill(~real[:, None, :, None], 0.0)
    upstream = torch.randn(2, width, 6, 8, dtype=torch.float64) * real[:, :, None, None]
    expected = plain(q, k, v, plainly)
    expected_grads = torch.autograd.grad(expected, (q, k, v), upstream)
    packed = RowContext(1, 2, np.arange(2), np.array(lengths), width, left, segments=documents)
    with row_context(packed):
        found, _ = row_attention(Module(), q, k, v, mask)
        grads = torch.autograd.grad(found, (q, k, v), upstream)
    assert torch.allclose(found[real], expected[real], atol=1e-12)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert torch.allclose(grad, wanted, atol=1e-12)
    with row_context(packed):
        dropped, _ = row_attention(Module(), q.detach(), k.detach(), v.detach(), mask, None, 0.4)
    alone = [x.detach()[1:, :, 2:] if left else x.detach()[1:, :, :7] for x in (q, k, v)]
    own = mask[1:, :, 2:, 2:] if left else mask[1:, :, :7, :7]
    with row_context(RowContext(1, 2, np.array([1]), np.array([7]), 7, segments=documents[1:])):
        one, _ = row_attention(Module(), *alone, own, None, 0.4)
    assert torch.allclose(dropped[1, 2:] if left else dropped[1, :7], one[0], atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 9), st.data())
def test_tiles_leave_out_nothing_that_a_query_sees(num_rows, length, tile, data):
    cells = st.lists(st.booleans(), min_size=num_rows * length**2, max_size=num_rows * length**2)
    visible = torch.tensor(data.draw(cells)).view(num_rows, 1, length, length)
    if data.draw(st.booleans()):
        visible = visible.tril() | torch.eye(length, dtype=torch.bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_TILE_QUERIES", tile)
        tiles = segments._tiles(pieces.additive(visible, torch.float32))
    queries = torch.arange(length)[None]
    assert torch.cat([one.queries_of(queries) for one in tiles], 1).equal(queries)  # each once, in order
    assert tiles[-1].keys_of(queries).shape[1] == length
    if tiles == [pieces.WHOLE]:
        return
    for one in tiles:
        hidden = visible[:, 0, one.first : one.stop, one.keys_of(queries).shape[1] :]
        assert not hidden.any()


def test_causal_rows_are_computed_in_tiles_of_fewer_keys():
    causal = torch.ones(1, 1, 300, 300, dtype=torch.bool).tril()
    tiles = segments._tiles(pieces.additive(causal, torch.float32))
    assert tiles == [pieces.Tile(0, 128, 128), pieces.Tile(128, 256, 256), pieces.Tile(256, None, None)]
    assert segments._tiles(torch.zeros(1, 1, 300, 300)) == [pieces.WHOLE]
    causal[0, 0, 5] = False  # sees nothing, so all keys alike
    assert segments._tiles(pieces.additive(causal, torch.float32)) == [pieces.WHOLE]


@pytest.mark.parametrize("num_queries", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_and_keys_are_kept_in_no_wider_dtype_than_they_came_in(num_queries, dtype):
    """Positions turn queries and keys to fp32 beside values in bf16; of a single query products are fp32."""
    query = torch.randn(1, 2, num_queries, 4).to(dtype).requires_grad_()
    key = torch.randn(1, 2, 6, 4).to(dtype).requires_grad_()
    value = torch.randn(1, 2, 6, 4).bfloat16().requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.dtype) or x, lambda x: x):
        row_attention(Module(), query, key, value, torch.zeros(1, 1, num_queries, 6))
    assert saved[:3] == [torch.bfloat16 if num_queries > 1 else dtype] * 2 + [torch.bfloat16]
