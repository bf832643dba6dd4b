"""Mean log-probabilities of two answers -> the loss of simple preference optimization. No reference model.

chosen -1.0, rejected -2.0, beta 2.0, margin 0.5      -log σ(2 - 0.5) = 0.2014
"""

from __future__ import annotations

import torch
from torch.nn import functional


def simpo_rows(chosen_R: torch.Tensor, rejected_R: torch.Tensor, *, beta: float, margin: float) -> torch.Tensor:
    """-log σ(β·(chosen - rejected) - γ). Means over an answer's tokens: length normalization. margin is γ.

    Meng et al. 2024, "SimPO: Simple preference optimization with a reference-free reward", eq. 6. float `(rows,)`.
    """
    return -functional.logsigmoid(beta * (chosen_R - rejected_R) - margin)
