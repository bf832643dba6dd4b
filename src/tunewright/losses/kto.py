"""Log-ratios of single answers, each labelled good or bad -> the loss of Kahneman-Tversky optimization.

good, log-ratio 2.0, kl 0.5, beta 1.0      1 - σ(1.5) = 0.1824
bad,  log-ratio 2.0, kl 0.5, beta 1.0      1 - σ(-1.5) = 0.8176
"""

from __future__ import annotations

import torch


def kto_rows(
    ratios_S: torch.Tensor,
    good_S: torch.Tensor,
    *,
    kl: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """λ·(1 - σ(±β·(log-ratio - kl))): + and λ_D for good answers, - and λ_U for bad ones. Ethayarajh et al. 2024, eq. 7 and 8.

    ratios_S: in the paper summed over an answer's tokens, no length normalization. good_S: bool. kl: the reference point, one
    number for the whole step, no gradient: `reference_point`.
    """
    sign_S = torch.where(good_S, 1.0, -1.0).to(ratios_S)
    weight_S = torch.where(good_S, desirable_weight, undesirable_weight).to(ratios_S)
    return weight_S * torch.sigmoid(-beta * sign_S * (ratios_S - kl))


def reference_point(ratio_sum: float, count: float) -> float:
    """max(0, mean log-ratio of answers to other prompts): how far the model has moved from the reference. Ethayarajh et al. 2024, section 4.1."""
    return max(0.0, ratio_sum / max(1.0, count))
