"""The kernels of `execution/output_rows.py` on a CPU: in scratch memory, in parts that stay in the cache, gradients added in place."""

from __future__ import annotations

import torch

from tunewright.execution.cpu.embedding import TableGradient, add_gradient
from tunewright.execution.cpu.shape_buckets import shape_tokens
from tunewright.execution.cpu.workspace import in_dtype, scratch
from tunewright.execution.output_rows import OutputKernels

_OUTPUT_ROWS, _PRODUCT, _LOGITS = "output rows", "product", "logits"  # slots of scratch memory
SOFTMAX_ELEMENTS = 1 << 19
"""Logits whose softmax is computed at a time: 2 MB in fp32, which stay in the cache over the dozen passes."""


class CpuOutputKernels(OutputKernels):
    """For one process: DistributedDataParallel needs autograd's own accumulation."""

    takes_gradient = True

    def token_multiple(self, dtype: torch.dtype) -> int:
        return shape_tokens(dtype, torch.device("cpu"))

    def softmax_tokens(self, num_tokens: int, vocabulary: int) -> int:
        return max(1, SOFTMAX_ELEMENTS // vocabulary)

    def rows(self, weight_VH: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return in_dtype(dtype, weight_VH, _OUTPUT_ROWS)

    def product(self, hidden_PH: torch.Tensor, rows_VH: torch.Tensor) -> torch.Tensor:
        """In scratch memory: otherwise every micro-batch would allocate a block of another size from the heap."""
        logits_PV = scratch(_PRODUCT, (len(hidden_PH), len(rows_VH)), hidden_PH.dtype)
        return torch.mm(hidden_PH, rows_VH.T, out=logits_PV)

    def wide(self, logits_PV: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return in_dtype(dtype, logits_PV, _LOGITS)

    def softmax(self, wide_PV: torch.Tensor) -> torch.Tensor:
        return torch.softmax(wide_PV, -1, out=wide_PV)

    def add_gradient(self, weight_VH: torch.Tensor, gradient_VH: torch.Tensor, factor: float) -> None:
        add_gradient(TableGradient(weight_VH, gradient_VH, factor))
