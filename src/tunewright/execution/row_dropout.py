"""Dropout whose masks belong to rows: a pure function of (seed, epoch, row, site), drawn at each row's real length.

Stock dropout draws one mask over the padded micro-batch, so the update depends on how a step was cut. Here row 7 loses the
same activations in epoch 2 whether it runs alone, beside fifteen others, or again under gradient checkpointing:

    site 4, row 7, 3 real tokens of 5:   keep = [[1 1 0 1], [1 1 1 1], [0 1 1 1], [. . . .], [. . . .]]   (4 features)

The bits come from SFC64 (Doty-Humphrey, PractRand), started from the key itself; 16 bits decide one element, so the
probability is kept to 2**-17. It is also what makes training on a CPU fast: `aten::bernoulli_` runs on one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from tunewright.batching.row_context import RowContext, current_row_context

_BITS = 1 << 16
_WARM_UP_ROUNDS = 18  # PractRand's count for a state of three independent words
_MIN_PARALLEL_ELEMENTS = 1 << 18
_WORD = (1 << 64) - 1
_local = threading.local()


def drop_threshold(p: float) -> int:
    """How many of the 65,536 values of 16 random bits drop an element."""
    return min(_BITS, round(p * _BITS))


def keep_scale(p: float) -> float:
    """What kept elements are multiplied with, `1 / (1 - p)`, with p as the 16 bits realise it."""
    threshold = drop_threshold(p)
    return _BITS / (_BITS - threshold) if threshold < _BITS else 0.0


@dataclass(frozen=True)
class Draw:
    """A part of a keep mask (int16 or any float dtype, any strides), or a tensor of its shape, and the stream that fills it."""

    keep: torch.Tensor
    row: int
    """Position in the micro-batch; the row's id keys the stream."""
    site: int
    stream: int = 0
    """Sub-stream, for a site that is computed in several pieces (attention heads)."""
    skip: int = 0
    """So many elements of the stream belong to another part: a multiple of four, the elements of a generator's word."""


def random_bits(rows: RowContext, draw: Draw) -> np.ndarray:
    """int16 `(elements of draw.keep,)`: uniform random bits, a pure function of (seed, epoch, row id, site, stream)."""
    generator = getattr(_local, "generator", None)
    if generator is None:
        generator = _local.generator = np.random.SFC64(0)
    key = (rows.seed, int(rows.row_ids[draw.row]), rows.epoch << 40 | draw.site << 16 | draw.stream, 1)
    generator.state = {
        "bit_generator": "SFC64",
        "state": {"state": np.array([word & _WORD for word in key], dtype=np.uint64)},
        "has_uint32": 0,
        "uinteger": 0,
    }
    generator.random_raw(_WARM_UP_ROUNDS + draw.skip // 4, output=False)
    count = draw.keep.numel()
    return generator.random_raw((count + 3) // 4).view(np.int16)[:count]


def _bits_of(draws: Sequence[Draw], rows: RowContext) -> Iterator[np.ndarray]:
    """Of each draw, in parallel where there is enough to draw."""
    several = len(draws) > 1 and torch.get_num_threads() > 1
    if several and sum(draw.keep.numel() for draw in draws) >= _MIN_PARALLEL_ELEMENTS:
        return _drawing_threads().map(lambda draw: random_bits(rows, draw), draws)
    return (random_bits(rows, draw) for draw in draws)


def fill_keep(draws: Sequence[Draw], rows: RowContext, p: float) -> None:
    """Write 0 (dropped) and 1 (kept) into every mask part."""
    for draw, bits in zip(draws, _bits_of(draws, rows), strict=True):
        torch.ge(torch.from_numpy(bits).view(draw.keep.shape), _least_kept(p), out=draw.keep)


def _least_kept(p: float) -> int:
    return drop_threshold(p) - _BITS // 2  # int16 reads the same bits as a value from -32,768


@lru_cache(maxsize=1)
def _drawing_threads() -> ThreadPoolExecutor:
    """Threads that only draw (NumPy lets go of the interpreter lock); torch's own thread settings stay untouched."""
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="dropout")


class RowDropout(nn.Dropout):
    """`nn.Dropout` for activations `(rows, length, …)`, `(rows, heads, queries, keys)` or `(rows, …)`, keyed by row.

    Outside `row_context` it is the stock one.
    """

    def __init__(self, p: float, site: int) -> None:
        super().__init__(p)
        self.site = site

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = current_row_context()
        if rows is None or not self.training or self.p == 0.0:
            return super().forward(x)
        if x.shape[0] != rows.batch_size:
            raise RowsNotFirst(
                f"dropout site {self.site} sees {x.shape[0]} rows, the micro-batch has {rows.batch_size}"
            )
        return _KeepAndScale.apply(x, self._keep(x, rows), keep_scale(self.p))

    def _keep(self, x: torch.Tensor, rows: RowContext) -> torch.Tensor:
        """Only what is of a row's own tokens is drawn: a mask does not depend on the padding beside them."""
        dtype = torch.int16 if x.element_size() == 2 else x.dtype
        if rows.flat:
            return self._keep_flat(x, rows).to(dtype)
        keep = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
        parts = list(keep)
        apart: list[tuple[int, int, int, torch.Tensor]] = []  # drawn in one piece, of keys that do not stand together
        attends = x.dim() == 4 and x.shape[2] == rows.width and x.shape[3] >= rows.width  # (rows, heads, queries, keys)
        if attends or (x.dim() > 2 and x.shape[1] == rows.width):
            num_before = (
                x.shape[3] - rows.width if attends else 0
            )  # keys of virtual tokens, before the padding of a row
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

    def _keep_flat(self, x_1LX: torch.Tensor, rows: RowContext) -> torch.Tensor:
        """int16. The bits themselves become the mask: every row's drawn behind those of the row before."""
        if x_1LX.dim() != 3 or x_1LX.shape[1] != rows.width:
            raise RowsNotFirst(f"dropout site {self.site} sees {tuple(x_1LX.shape)}, of rows end to end")
        *parts, rest = x_1LX[0].split([*rows.lengths.tolist(), rows.width - int(rows.lengths.sum())])
        draws = [Draw(part, row, self.site) for row, part in enumerate(parts)]
        bits = np.concatenate([*_bits_of(draws, rows), np.full(rest.numel(), -_BITS // 2, np.int16)])
        return torch.from_numpy(bits).ge_(_least_kept(self.p)).view(x_1LX.shape)


class RowsNotFirst(Exception):
    """A dropout site whose first dimension is not the micro-batch: its masks cannot be keyed by row."""


class _KeepAndScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, keep, scale):
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return zero_where_dropped(x * scale, keep)

    @staticmethod
    def backward(ctx, grad):
        (keep,) = ctx.saved_tensors
        return zero_where_dropped(grad * ctx.scale, keep), None, None


def zero_where_dropped(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """x in place, times a mask of 0 and 1. An int16 mask multiplies the bits of half-precision numbers, without rounding each twice."""
    bits = x.view(torch.int16) if keep.dtype == torch.int16 else x
    bits.mul_(keep)
    return x


def install_row_dropout(model: nn.Module) -> int:
    """Exchange every `nn.Dropout` of `model` for a `RowDropout`, in place, and number all sites. Returns how many.

    A site's number is its module's place in `named_modules()`: the same for the same architecture in every process.
    """
    num_sites = 0
    for site, (_, parent) in enumerate(list(model.named_modules())):
        parent.dropout_site = site  # attention modules have no dropout module that is called
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, RowDropout(child.p, 0))
    for site, module in enumerate(model.modules()):
        if isinstance(module, RowDropout):
            module.site = site
            num_sites += 1
    return num_sites


def switch_off_dropout(model: nn.Module) -> None:
    """Nothing is dropped in training: all probabilities of its modules become 0. The config, and so what is saved, keeps its own."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or "pdrop" in name):  # what attention hands on
                setattr(module, name, 0.0)


def remove_row_dropout(model: nn.Module) -> None:
    """Give `model` its stock dropout back."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RowDropout):
                setattr(parent, name, nn.Dropout(child.p))
