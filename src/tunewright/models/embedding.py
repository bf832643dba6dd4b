"""Embedding gradients added where they belong, without a dense matrix per micro-batch.

The stock backward of `nn.Embedding` makes a zeroed gradient of the whole table (47 MB for BERT's vocabulary at width 384) for
every micro-batch and adds all of it up. Here a micro-batch touches the rows of its own tokens only; the sums are the same.
For one process on a CPU: DistributedDataParallel needs autograd's own accumulation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

_local = threading.local()


@contextmanager
def table_gradients_in(sums: dict[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Inside, a backward pass of this thread adds to the table's place in `sums` and leaves `weight.grad` alone."""
    _local.sums = sums
    try:
        yield
    finally:
        _local.sums = None


def _gradient_of(weight: torch.Tensor) -> torch.Tensor:
    """Where this thread adds up a table's gradient; made of zeros where there is none yet."""
    sums: dict[torch.Tensor, torch.Tensor] | None = getattr(_local, "sums", None)
    if sums is not None:
        if weight not in sums:
            sums[weight] = torch.zeros_like(weight)
        return sums[weight]
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


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
        _gradient_of(weight).index_add_(0, rows, grad.to(weight.dtype))
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
