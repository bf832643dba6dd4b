"""Embedding gradients added where they belong, without a dense matrix per micro-batch.

The stock backward of `nn.Embedding` makes a zeroed gradient of the whole table (47 MB for BERT's vocabulary at width 384) for
every micro-batch and adds all of it up. Here a micro-batch touches the rows of its own tokens only; the sums are the same.
For one process on a CPU: DistributedDataParallel needs autograd's own accumulation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

_local = threading.local()


@dataclass(frozen=True)
class RowGradients:
    """What is to be added to rows of a table's gradient: `grad_TH` to `rows_T` (int64), one of which may come again."""

    weight: torch.Tensor
    rows_T: torch.Tensor
    grad_TH: torch.Tensor

    def add(self) -> None:
        """To `weight.grad`, made of zeros where there is none yet."""
        if self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        self.weight.grad.index_add_(0, self.rows_T, self.grad_TH.to(self.weight.dtype))


@contextmanager
def table_gradients_in(later: list[RowGradients]) -> Iterator[None]:
    """Inside, a backward pass of this thread leaves `weight.grad` alone and appends what is to be added to it later."""
    _local.later = later
    try:
        yield
    finally:
        _local.later = None


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, ids, padding_idx):
        ctx.weight, ctx.padding_idx = weight, padding_idx
        ctx.save_for_backward(ids)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx, grad):
        (ids,) = ctx.saved_tensors
        weight, rows, grad = ctx.weight, ids.reshape(-1), grad.reshape(-1, grad.shape[-1])
        if ctx.padding_idx is not None:
            real = rows != ctx.padding_idx
            rows, grad = rows[real], grad[real]
        found, later = RowGradients(weight, rows, grad), getattr(_local, "later", None)
        if later is None:
            found.add()
        else:
            later.append(found)
        return None, None, None


class RowEmbedding(nn.Embedding):
    """`nn.Embedding` whose backward adds into `weight.grad` directly. Made from a plain one by `install_row_embeddings`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(input)
        return _Lookup.apply(self.weight, input, self.padding_idx)


def install_row_embeddings(model: nn.Module) -> None:
    """Turn every plain dense `nn.Embedding` of `model` into a `RowEmbedding`, its weight untouched."""
    for module in model.modules():
        if (
            type(module) is nn.Embedding
            and not module.sparse
            and not module.scale_grad_by_freq
            and module.max_norm is None
        ):
            module.__class__ = RowEmbedding
