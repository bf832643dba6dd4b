"""Mean log-probabilities of two answers -> the odds-ratio loss. No reference model; the cross-entropy of the chosen side is added.

chosen log 0.5, rejected log 0.2      odds 1 and 0.25      -log σ(log 4) = 0.2231
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

_HALF = math.log(0.5)


def odds_ratio_rows(chosen_R: torch.Tensor, rejected_R: torch.Tensor) -> torch.Tensor:
    """-log σ(log odds(chosen) - log odds(rejected)), odds = p / (1 - p). Means over an answer's tokens: length normalization.

    Hong et al. 2024, "ORPO: Monolithic preference optimization without reference model", eq. 6 and 7. float `(rows,)`, below 0.
    """
    log_odds_R = chosen_R - rejected_R - (_log_one_minus_exp(chosen_R) - _log_one_minus_exp(rejected_R))
    return -functional.logsigmoid(log_odds_R)


def _log_one_minus_exp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - e**x) for x < 0, accurate at both ends (Mächler 2012). A mean of exactly 0 is replaced by the next smaller number."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near, far = torch.where(x > _HALF, x, _HALF), torch.where(x > _HALF, _HALF, x)
    return torch.where(x > _HALF, torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))
