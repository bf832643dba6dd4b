"""Predicted and right numbers, both standardized by the training rows -> the loss of each row.

predicted [[0.5]], right [[-1.0]]   ->   squared [2.25]      huber, delta 1: [1.0]

Array suffixes: B rows, K numbers of a row.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def squared_error_rows(predicted_BK: torch.Tensor, right_BK: torch.Tensor) -> torch.Tensor:
    """Mean over a row's numbers of (predicted - right)². `(rows,)`, fp32 or wider."""
    return (_wide(predicted_BK) - right_BK.to(_wide(predicted_BK))).square().mean(dim=-1)


def huber_rows(predicted_BK: torch.Tensor, right_BK: torch.Tensor, *, delta: float) -> torch.Tensor:
    """Mean over a row's numbers of ½e² where |e| is below delta, else delta·(|e| - ½·delta): the gradient of an outlier is at most delta
    (Huber 1964, "Robust Estimation of a Location Parameter"). `(rows,)`, fp32 or wider."""
    predicted_BK = _wide(predicted_BK)
    return functional.huber_loss(predicted_BK, right_BK.to(predicted_BK), reduction="none", delta=delta).mean(dim=-1)


def _wide(numbers: torch.Tensor) -> torch.Tensor:
    return numbers if numbers.dtype == torch.float64 else numbers.float()
