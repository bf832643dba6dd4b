"""From hidden states to logits, and from logits to a gradient: the plain kernels of `losses/chunked.py`.

    kernels = kernels_of(layer.weight)          # those that the execution installed when it prepared the model, else the plain ones
    logits_PV = kernels.product(hidden_PH, kernels.rows(layer.weight, hidden_PH.dtype))

Shapes: P tokens of a chunk, H hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OutputKernels:
    """Plain operations on any device; an execution overrides those that it computes faster, with the same results."""

    takes_gradient = False
    """Whether the gradient of the output rows is added by `add_gradient`, and not by autograd."""

    def token_multiple(self, dtype: torch.dtype) -> int:
        """The number of tokens is padded to a multiple of this."""
        return 1

    def softmax_tokens(self, num_tokens: int, vocabulary: int) -> int:
        """The number of tokens whose softmax is computed at a time."""
        return max(1, num_tokens)

    def rows(self, weight_VH: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The output rows in that dtype."""
        return weight_VH.to(dtype)

    def product(self, hidden_PH: torch.Tensor, rows_VH: torch.Tensor) -> torch.Tensor:
        """Logits `(P, V)`, valid until the next call."""
        return hidden_PH @ rows_VH.T

    def wide(self, logits_PV: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The logits in a dtype that softmax may be computed in; they may be overwritten."""
        return logits_PV.to(dtype)

    def softmax(self, wide_PV: torch.Tensor) -> torch.Tensor:
        return torch.softmax(wide_PV, -1)

    def add_gradient(self, weight_VH: torch.Tensor, gradient_VH: torch.Tensor, factor: float) -> None:
        """Add factor · gradient to the gradient of the output rows. Only for kernels with `takes_gradient`."""
        raise NotImplementedError("autograd adds this gradient: takes_gradient is False")


_PLAIN = OutputKernels()


def kernels_of(weight_VH: torch.Tensor) -> OutputKernels:
    return getattr(weight_VH, "output_kernels", _PLAIN)


def install_output_kernels(model: Any, kernels: OutputKernels) -> None:
    """Install kernels on the output rows of a language model; other models have none."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if type(output) is nn.Linear:
        output.weight.output_kernels = kernels  # type: ignore[attr-defined]
