"""Gradients of embedding tables are added in place, without a dense matrix per micro-batch.

The standard backward of `nn.Embedding` allocates a zeroed gradient of the whole table (47 MB for BERT's vocabulary at width 384) for
every micro-batch and adds all of it. Here a micro-batch changes only the rows of its own tokens; the sums are the same. The
table of output rows gets its gradient from the language loss, which adds it without a scaled copy (`output_rows.py`).
For one process on a CPU: DistributedDataParallel needs autograd's own accumulation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunewright.execution.cpu.workspace import in_dtype

_of_thread = threading.local()
_ELEMENTS_TOGETHER = 1 << 18
"""Numbers converted to a wider dtype at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class RowGradients:
    """A gradient to add to rows of a table's gradient: `grad_TH` to `rows_T` (int64), which may contain a row several times."""

    weight: torch.Tensor
    rows_T: torch.Tensor
    grad_TH: torch.Tensor

    def add_to(self, total_VH: torch.Tensor) -> None:
        total_VH.index_add_(0, self.rows_T, self.grad_TH.to(total_VH.dtype))


@dataclass(frozen=True)
class TableGradient:
    """A gradient to add to that of a whole table: `factor · grad_VH`, which may have lower precision."""

    weight: torch.Tensor
    grad_VH: torch.Tensor
    factor: float

    def add_to(self, total_VH: torch.Tensor) -> None:
        rows = max(1, _ELEMENTS_TOGETHER // total_VH.shape[1])
        for total, grad in zip(total_VH.split(rows), self.grad_VH.split(rows), strict=True):
            total.add_(in_dtype(total.dtype, grad, "table gradient"), alpha=self.factor)


class DeferredGradients:
    """Gradients from the backward passes of a thread, to be added when both threads are done."""

    def __init__(self) -> None:
        self._of_rows: dict[torch.Tensor, list[RowGradients]] = {}
        self._of_tables: dict[torch.Tensor, TableGradient] = {}

    def take(self, found: RowGradients | TableGradient) -> None:
        table = found.weight
        if isinstance(found, RowGradients):
            self._of_rows.setdefault(table, []).append(found)
            return
        if table in self._of_tables:
            total_VH = torch.zeros_like(table)
            self._of_tables[table].add_to(total_VH)
            found.add_to(total_VH)
            found = TableGradient(table, total_VH, 1.0)
        self._of_tables[table] = found

    def add_to(self, table: torch.Tensor) -> None:
        """Add to the gradient of this parameter, if there is anything for it."""
        if table in self._of_tables:
            add_gradient(self._of_tables[table])
        for found in self._of_rows.get(table, []):
            add_gradient(found)


def add_gradient(found: RowGradients | TableGradient) -> None:
    """Add to `weight.grad`, which is created with zeros if there is none. Inside `deferred_gradients` it is added later."""
    if (deferred := getattr(_of_thread, "deferred", None)) is not None:
        deferred.take(found)
        return
    if found.weight.grad is None:
        found.weight.grad = torch.zeros_like(found.weight)
    found.add_to(found.weight.grad)


@contextmanager
def deferred_gradients(deferred: DeferredGradients) -> Iterator[None]:
    """Inside, a backward pass of this thread does not change `weight.grad`."""
    _of_thread.deferred = deferred
    try:
        yield
    finally:
        _of_thread.deferred = None


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
        add_gradient(RowGradients(weight, rows, grad))
        return None, None, None


class RowEmbedding(nn.Embedding):
    """`nn.Embedding` whose backward adds into `weight.grad` directly. Converted from a plain one by `add_table_gradients_in_place`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(input)
        return _Lookup.apply(self.weight, input, self.padding_idx)


def add_table_gradients_in_place(model: Any) -> None:
    """Turn every plain dense `nn.Embedding` of `model` into a `RowEmbedding`, with the same weight."""
    for module in model.modules():
        if (
            type(module) is nn.Embedding
            and not module.sparse
            and not module.scale_grad_by_freq
            and module.max_norm is None
        ):
            module.__class__ = RowEmbedding
