"""Dropout whose masks belong to rows: a pure function of (seed, epoch, row, site), drawn at each row's real length.

PyTorch's dropout draws one mask over the padded micro-batch, so the update depends on how a step was cut. Here row 7 loses the
same activations in epoch 2 whether it is computed alone, with fifteen others, or again under gradient checkpointing, in every execution:

    site 4, row 7, 3 real tokens of 5:   keep = [[1 1 0 1], [1 1 1 1], [0 1 1 1], [. . . .], [. . . .]]   (4 features)

The bits come from SFC64 (Doty-Humphrey, PractRand), seeded with the key itself; 16 bits decide one element, so the
probability is exact to 2**-17. The fast implementation for CPUs is in `execution/cpu/dropout.py`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tunewright.batching.row_context import RowContext, current_row_context

_BITS = 1 << 16
_WARM_UP_ROUNDS = 18  # PractRand's count for a state of three independent words
_WORD = (1 << 64) - 1
_local = threading.local()


def drop_threshold(p: float) -> int:
    """The number of the 65,536 values of 16 random bits that drop an element."""
    return min(_BITS, round(p * _BITS))


def keep_scale(p: float) -> float:
    """The factor of kept elements, `1 / (1 - p)`, with p as rounded to 16 bits."""
    threshold = drop_threshold(p)
    return _BITS / (_BITS - threshold) if threshold < _BITS else 0.0


def least_kept(p: float) -> int:
    """The smallest int16 that keeps an element: as int16 the same bits are a value from -32,768 on."""
    return drop_threshold(p) - _BITS // 2


def random_bits(
    rows: RowContext, *, row: int, site: int, count: int, stream: int = 0, num_skipped: int = 0
) -> np.ndarray:
    """int16 `(count,)`: uniform random bits, a pure function of (seed, epoch, row id, site, stream).

    row: position in the micro-batch; its id keys the stream. stream: for a site that is drawn in several pieces (attention heads).
    num_skipped: this many elements of the stream belong to another part; a multiple of four, the elements of a generator's word.
    """
    generator = getattr(_local, "generator", None)
    if generator is None:
        generator = _local.generator = np.random.SFC64(0)
    key = (rows.seed, int(rows.row_ids[row]), rows.epoch << 40 | site << 16 | stream, 1)
    generator.state = {
        "bit_generator": "SFC64",
        "state": {"state": np.array([word & _WORD for word in key], dtype=np.uint64)},
        "has_uint32": 0,
        "uinteger": 0,
    }
    generator.random_raw(_WARM_UP_ROUNDS + num_skipped // 4, output=False)
    return generator.random_raw((count + 3) // 4).view(np.int16)[:count]


def drawn(rows: RowContext, shape: Sequence[int], *, row: int, site: int, p: float, stream: int = 0) -> torch.Tensor:
    """bool of that shape: the elements of a row that dropout keeps."""
    bits = random_bits(rows, row=row, site=site, count=math.prod(shape), stream=stream)
    return torch.from_numpy(bits >= least_kept(p)).view(*shape)


class RowDropout(nn.Dropout):
    """`nn.Dropout` for activations `(rows, length, …)`, `(rows, heads, queries, keys)` or `(rows, …)`, keyed by row.

    Outside `row_context` it is PyTorch's own.
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
        return self.dropped(x, rows)

    def dropped(self, x: torch.Tensor, rows: RowContext) -> torch.Tensor:
        """x with dropout applied and scaled."""
        return x * keep_scale(self.p) * self.keep(x.shape, rows).to(x)

    def keep(self, shape: Sequence[int], rows: RowContext) -> torch.Tensor:
        """bool. Only elements of a row's own tokens are drawn: a mask does not depend on the padding."""
        keep = torch.zeros(*shape, dtype=torch.bool)
        attends = is_attention(shape, rows)
        for row, (start, length) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)):
            own = slice(start, start + length)
            if attends:
                num_before = shape[3] - rows.width  # keys of virtual tokens, before the padding of a row
                part = self._drawn(rows, row, (shape[1], length, num_before + length))
                keep[row, :, own, :num_before] = part[..., :num_before]
                keep[row, :, own, num_before + start : num_before + start + length] = part[..., num_before:]
            elif len(shape) > 2 and shape[1] == rows.width:
                keep[row, own] = self._drawn(rows, row, (length, *shape[2:]))
            else:
                keep[row] = self._drawn(rows, row, shape[1:])
        return keep

    def _drawn(self, rows: RowContext, row: int, shape: Sequence[int]) -> torch.Tensor:
        return drawn(rows, shape, row=row, site=self.site, p=self.p)


def is_attention(shape: Sequence[int], rows: RowContext) -> bool:
    """Whether the shape is `(rows, heads, queries, keys)`, with keys of virtual tokens first if there are more keys than queries."""
    return len(shape) == 4 and shape[2] == rows.width and shape[3] >= rows.width


class RowsNotFirst(Exception):
    """A dropout site whose first dimension is not the micro-batch: its masks cannot be keyed by row."""


def install_row_dropout(model: nn.Module, dropout: type[RowDropout] = RowDropout) -> int:
    """Replace every `nn.Dropout` of `model` by one keyed by row, in place, and number all sites. Returns their number.

    A site's number is its module's place in `named_modules()`: the same for the same architecture in every process.
    """
    num_sites = 0
    for site, (_, parent) in enumerate(list(model.named_modules())):
        parent.dropout_site = site  # attention modules do not call a dropout module
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, dropout(child.p, 0))
    for site, module in enumerate(model.modules()):
        if isinstance(module, RowDropout):
            module.site = site
            num_sites += 1
    return num_sites


def switch_off_dropout(model: nn.Module) -> None:
    """Switch off dropout in training: all probabilities of its modules become 0. The config keeps its own, and so does the saved model."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and (
                "dropout" in name or "pdrop" in name
            ):  # passed on to the attention function
                setattr(module, name, 0.0)


def remove_row_dropout(model: nn.Module) -> None:
    """Restore PyTorch's dropout in `model`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RowDropout):
                setattr(parent, name, nn.Dropout(child.p))
