"""Log-ratios of two answers -> the losses of direct preference optimization. A log-ratio is log π(y|x) - log π_ref(y|x).

chosen 2.0, rejected -1.0, beta 0.5      sigmoid: log(1 + e**-1.5) = 0.2014
"""

from __future__ import annotations

import torch
from torch.nn import functional


def dpo_rows(
    chosen_R: torch.Tensor, rejected_R: torch.Tensor, *, beta: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-(1 - ε)·log σ(β·h) - ε·log σ(-β·h), h = chosen - rejected. Sums over an answer's tokens: no length normalization.

    Rafailov et al. 2023, eq. 7; ε > 0 assumes that a share of the labels is wrong (Mitchell 2023, "A note on DPO with noisy
    preferences", eq. 3). float `(rows,)` each -> `(rows,)`.
    """
    h_R = beta * (chosen_R - rejected_R)
    right_R = functional.logsigmoid(h_R)
    if not label_smoothing:
        return -right_R
    return -(1 - label_smoothing) * right_R - label_smoothing * functional.logsigmoid(-h_R)


def ipo_rows(chosen_R: torch.Tensor, rejected_R: torch.Tensor, *, beta: float) -> torch.Tensor:
    """(chosen - rejected - 1 / 2β)². Means over an answer's tokens are expected: length normalization.

    Azar et al. 2023, "A general theoretical paradigm", eq. 17 (β is its τ). The paper does not mention lengths; with sums the
    square would grow with them.
    """
    return (chosen_R - rejected_R - 1 / (2 * beta)) ** 2
