"""Logits and labels -> the loss of each row. Formulas on tensors only; the engine sums and divides.

logits [[2.0, 0.0]], labels [0]   ->   [0.1269]      log(1 + e**-2)
"""

from __future__ import annotations

import torch
from torch.nn import functional


def cross_entropy_rows(logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[label], in nats. logits float `(rows, classes)`, labels int64 `(rows,)` -> `(rows,)`, fp32 or wider."""
    return functional.cross_entropy(_wide(logits_BK), labels_B, reduction="none")


def binary_cross_entropy_rows(
    logits_BK: torch.Tensor, labels_BK: torch.Tensor, *, positive_weight_K: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over classes of -[w·y·log σ(x) + (1-y)·log(1-σ(x))]. labels float `(rows, classes)` of 0 and 1 -> `(rows,)`."""
    logits_BK = _wide(logits_BK)
    return functional.binary_cross_entropy_with_logits(
        logits_BK, labels_BK.to(logits_BK.dtype), pos_weight=positive_weight_K, reduction="none"
    ).mean(dim=-1)


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
