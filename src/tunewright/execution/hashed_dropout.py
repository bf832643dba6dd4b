"""Row-keyed dropout drawn on the device: a mask is a hash of (seed, epoch, row, site, position), in integer operators that every device has.

    key of a row at a site       64 bits, mixed on the host; one table for all rows and sites is copied a micro-batch
    key of a token of the row    hash of the row's key and the token's place in its own row
    bits of an element           hash of the token's key and the element's place in the token; a hash gives 16 bits to two elements

No mask depends on padding, on other rows, or on how a step is cut. The masks differ from those that a CPU draws (`row_dropout.py`),
which come from a generator that runs one row after the other. The mixing is the finalizer of MurmurHash3 (Appleby 2011).

Shapes: B rows, L length, F features, H heads, Q queries, K keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tunewright.batching.row_context import RowContext
from tunewright.execution.row_dropout import RowDropout, is_attention, keep_scale, least_kept
from tunewright.records import copied_to

_SITES_TOGETHER = 256
_ODD = 0x9E3779B9
"""2**32 over the golden ratio: neighbouring places lie far apart before they are mixed."""
_WORD = (1 << 32) - 1


def _signed(word: int) -> int:
    """The int32 with the bits of a word."""
    return (word & _WORD) - (1 << 32) * ((word & _WORD) >> 31)


def mixed_(x: torch.Tensor) -> torch.Tensor:
    """int32, in place: each input bit changes each output bit with a probability of one half."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
        x ^= (x >> shift).bitwise_and_((1 << (32 - shift)) - 1)  # a shift of int32 repeats the sign
        if factor is not None:
            x *= _signed(factor)
    return x


def row_keys(rows: RowContext, first_site: int, count: int) -> np.ndarray:
    """int32 `(count, B, 2)`: two words a row and site, from SplitMix64's finalizer (Steele et al. 2014) over seed, epoch, row and site."""
    words = np.zeros((count, len(rows)), np.uint64)
    sites = np.arange(first_site, first_site + count, dtype=np.uint64)[:, None]
    with np.errstate(over="ignore"):
        for part in (rows.seed, rows.epoch, rows.row_ids.astype(np.uint64)[None], sites):
            words = (words ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            words ^= words >> np.uint64(31)
    return words.view(np.int32).reshape(count, len(rows), 2)


def _keys_of_site(rows: RowContext, site: int, device: torch.device) -> torch.Tensor:
    """int32 `(B, 2)` on the device."""
    block = site // _SITES_TOGETHER
    name = ("row keys", block, device)
    if name not in rows.cache:
        table = row_keys(rows, block * _SITES_TOGETHER, _SITES_TOGETHER)
        rows.cache[name] = copied_to(torch.from_numpy(table), device)
    return rows.cache[name][site % _SITES_TOGETHER]


def _places(rows: RowContext, num_before: int, device: torch.device) -> torch.Tensor:
    """int32 `(B, num_before + L)`: the place of each position in its own row, counted from the `num_before` positions before it.

    Where rows are padded on the left, each place of the padding is some other number.
    """
    name = ("places", num_before, device)
    if name not in rows.cache:
        own = np.arange(rows.width)[None] - rows.starts[:, None] + num_before
        before = np.broadcast_to(np.arange(num_before), (len(rows), num_before))
        rows.cache[name] = copied_to(torch.from_numpy(np.concatenate([before, own], 1).astype(np.int32)), device)
    return rows.cache[name]


def _token_keys(keys_B2: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """int32, shape of `places` `(B or 1, …)`: a key for each place of a row."""
    shape = (-1, *[1] * (places.dim() - 1))
    return mixed_(mixed_(places * _signed(_ODD) ^ keys_B2[:, 0].view(shape)) ^ keys_B2[:, 1].view(shape))


def _bits(keys: torch.Tensor, count: int) -> torch.Tensor:
    """int16 `(*keys, count)`."""
    pairs = torch.arange((count + 1) // 2, dtype=torch.int32, device=keys.device) * _signed(_ODD)
    return mixed_(keys[..., None] ^ pairs).view(torch.int16)[..., :count]


def keep_states(rows: RowContext, shape: Sequence[int], *, site: int, p: float, device: torch.device) -> torch.Tensor:
    """bool of that shape: `(B, L, …)`, or `(B, …)` without positions."""
    keys_B2 = _keys_of_site(rows, site, device)
    has_positions = len(shape) > 2 and shape[1] == rows.width
    places = _places(rows, 0, device) if has_positions else torch.zeros(1, 1, dtype=torch.int32, device=device)
    tokens = _token_keys(keys_B2, places)
    bits = _bits(tokens, math.prod(shape[2:] if has_positions else shape[1:]))
    return (bits >= least_kept(p)).view(*shape)


def keep_scores(
    rows: RowContext, shape_BHQK: Sequence[int], *, site: int, p: float, device: torch.device
) -> torch.Tensor:
    """bool `(B, H, Q, K)`: of the scores of an attention, with the keys of virtual tokens first if there are more keys than queries."""
    _, num_heads, num_queries, num_keys = shape_BHQK
    keys_B2 = _keys_of_site(rows, site, device)
    if is_attention(shape_BHQK, rows):
        places_BQ, places_BK = _places(rows, 0, device), _places(rows, num_keys - num_queries, device)
    else:
        places_BQ, places_BK = (torch.arange(n, dtype=torch.int32, device=device)[None] for n in shape_BHQK[2:])
    heads_H = torch.arange(num_heads, dtype=torch.int32, device=device) << 24
    queries_BHQ = _token_keys(keys_B2, places_BQ[:, None] ^ heads_H[:, None])
    bits_BHQK = mixed_(queries_BHQ[..., None] ^ (places_BK * _signed(_ODD))[:, None, None]).bitwise_and_(0xFFFF)
    return bits_BHQK >= least_kept(p) + (1 << 15)


class HashedRowDropout(RowDropout):
    """`RowDropout` whose masks are drawn on the device."""

    def dropped(self, x: torch.Tensor, rows: RowContext) -> torch.Tensor:
        draw = keep_scores if is_attention(x.shape, rows) else keep_states
        keep = draw(rows, x.shape, site=self.site, p=self.p, device=x.device)
        return _KeepAndScale.apply(x, keep, keep_scale(self.p))


class _KeepAndScale(torch.autograd.Function):
    """Remembers a mask of one byte an element."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (grad * keep).mul_(ctx.scale), None, None
