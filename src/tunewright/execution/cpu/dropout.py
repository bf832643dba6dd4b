"""The masks of `execution/row_dropout.py` drawn fast: in parallel, as int16, and one after the other for rows end to end.

    fill_keep([Draw(part, row=0, site=4), Draw(other, row=1, site=4)], rows, p=0.1)     # the parts are filled with 0 and 1

PyTorch's `aten::bernoulli_` runs on one thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from tunewright.batching.row_context import RowContext
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.row_dropout import (
    RowDropout,
    RowsNotFirst,
    is_attention,
    keep_scale,
    least_kept,
    random_bits,
)

_MIN_PARALLEL_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Draw:
    """A part of a keep mask (int16 or any float dtype, any strides), or a tensor of its shape, and the stream that fills it."""

    keep: torch.Tensor
    row: int
    site: int
    stream: int = 0
    num_skipped: int = 0
    """As of `random_bits`."""

    def bits(self, rows: RowContext) -> np.ndarray:
        """int16 `(elements of keep,)`."""
        return random_bits(
            rows, row=self.row, site=self.site, count=self.keep.numel(), stream=self.stream,
            num_skipped=self.num_skipped,
        )  # fmt: skip


def _bits_of(draws: Sequence[Draw], rows: RowContext) -> Iterator[np.ndarray]:
    """The bits of each draw, drawn by several threads if there are many."""
    several = len(draws) > 1 and torch.get_num_threads() > 1
    if several and sum(draw.keep.numel() for draw in draws) >= _MIN_PARALLEL_ELEMENTS:
        return _drawing_threads().map(lambda draw: draw.bits(rows), draws)
    return (draw.bits(rows) for draw in draws)


def fill_keep(draws: Sequence[Draw], rows: RowContext, p: float) -> None:
    """Write 0 (dropped) and 1 (kept) into every mask part."""
    for draw, bits in zip(draws, _bits_of(draws, rows), strict=True):
        torch.ge(torch.from_numpy(bits).view(draw.keep.shape), least_kept(p), out=draw.keep)


@lru_cache(maxsize=1)
def _drawing_threads() -> ThreadPoolExecutor:
    """Threads that only draw (NumPy releases the interpreter lock); torch's own thread settings stay untouched."""
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="dropout")


class FastRowDropout(RowDropout):
    """The same masks and results as `RowDropout`."""

    def dropped(self, x: torch.Tensor, rows: RowContext) -> torch.Tensor:
        dtype = torch.int16 if x.element_size() == 2 else x.dtype
        keep = self._keep_unpadded(x, rows) if isinstance(rows, UnpaddedRows) else self._keep_padded(x, rows, dtype)
        return _KeepAndScale.apply(x, keep.to(dtype), keep_scale(self.p))

    def _keep_padded(self, x: torch.Tensor, rows: RowContext, dtype: torch.dtype) -> torch.Tensor:
        keep = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
        parts = list(keep)
        apart: list[tuple[int, int, int, torch.Tensor]] = []  # drawn in one piece, for keys that are not contiguous
        attends = is_attention(x.shape, rows)
        if attends or (x.dim() > 2 and x.shape[1] == rows.width):
            num_before = x.shape[3] - rows.width if attends else 0
            for row, (start, length) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)):
                if length < rows.width:
                    parts[row].zero_()
                parts[row] = parts[row].narrow(int(attends), start, length)
                if attends and num_before and start:
                    parts[row] = torch.empty_like(parts[row][..., : num_before + length])
                    apart.append((row, start, length, parts[row]))
                elif attends:
                    parts[row] = parts[row].narrow(2, start, num_before + length)
        fill_keep([Draw(part, row, self.site) for row, part in enumerate(parts)], rows, self.p)
        for row, start, length, part in apart:
            own = keep[row].narrow(1, start, length)
            own[..., :num_before] = part[..., :num_before]
            own.narrow(2, num_before + start, length).copy_(part[..., num_before:])
        return keep

    def _keep_unpadded(self, x_1LX: torch.Tensor, rows: UnpaddedRows) -> torch.Tensor:
        """int16. The bits are turned into the mask in place; those of each row follow those of the row before."""
        if x_1LX.dim() != 3 or x_1LX.shape[1] != rows.width:
            raise RowsNotFirst(f"dropout site {self.site} sees {tuple(x_1LX.shape)}, of rows end to end")
        *parts, rest = x_1LX[0].split([*rows.lengths.tolist(), rows.width - int(rows.lengths.sum())])
        draws = [Draw(part, row, self.site) for row, part in enumerate(parts)]
        bits = np.concatenate([*_bits_of(draws, rows), np.full(rest.numel(), np.iinfo(np.int16).min, np.int16)])
        return torch.from_numpy(bits).ge_(least_kept(self.p)).view(x_1LX.shape)


class _KeepAndScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, keep, scale):
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return _zero_where_dropped(x * scale, keep)

    @staticmethod
    def backward(ctx, grad):
        (keep,) = ctx.saved_tensors
        return _zero_where_dropped(grad * ctx.scale, keep), None, None


def _zero_where_dropped(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """x times a mask of 0 and 1, in place. An int16 mask multiplies the bits of half-precision numbers, so that none is rounded twice."""
    bits = x.view(torch.int16) if keep.dtype == torch.int16 else x
    bits.mul_(keep)
    return x
