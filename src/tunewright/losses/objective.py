"""A preference loss with its settings: from sums over answers to the loss and the rewards of each row.

    Objective.of("dpo").rows(sums_RK, counts_RK, reference_RK, good_RK)

Shapes: R rows, K sides of a row: chosen and rejected, or one answer alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tunewright.losses.dpo import dpo_rows, ipo_rows
from tunewright.losses.kto import kto_rows
from tunewright.losses.orpo import odds_ratio_rows
from tunewright.losses.simpo import simpo_rows

DPO, IPO, KTO, ORPO, SIMPO = "dpo", "ipo", "kto", "orpo", "simpo"
BETAS = {DPO: 0.1, IPO: 0.1, KTO: 0.1, ORPO: 0.1, SIMPO: 2.0}
"""The papers' values; for ORPO the weight λ of its second term."""
NORMALIZED_BETA = 5.0
"""For DPO and KTO with length normalization: the value of Lambert et al. 2024, "Tülu 3", for DPO."""
MEANS = (IPO, ORPO, SIMPO)
"""The losses that are defined by log-probabilities per token."""


@dataclass(frozen=True)
class Objective:
    """margin: SimPO's γ. desirable_weight, undesirable_weight: KTO's λ_D and λ_U. label_smoothing: DPO's ε.

    length_normalized: log-ratios per token in DPO and KTO; for DPO as in Lambert et al. 2024.
    """

    loss: str
    beta: float
    label_smoothing: float = 0.0
    margin: float = 1.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    length_normalized: bool = False

    @classmethod
    def of(
        cls, loss: str, *, beta: float | None = None, length_normalized: bool = False, **numbers: float
    ) -> Objective:
        if beta is None:
            beta = NORMALIZED_BETA if length_normalized and loss not in MEANS else BETAS[loss]
        return cls(loss, beta, length_normalized=length_normalized, **numbers)

    @property
    def needs_reference(self) -> bool:
        return self.loss in (DPO, IPO, KTO)

    @property
    def compares_means(self) -> bool:
        """Length normalization: log-probabilities per token instead of sums over an answer."""
        return self.length_normalized or self.loss in MEANS

    def rewards(self, sums_RK: Any, counts_RK: Any, reference_RK: Any = 0.0) -> Any:
        """β times what the loss compares. Arrays or tensors."""
        return self.beta * self.log_ratios(sums_RK, counts_RK, reference_RK)

    def rows(
        self,
        sums_RK: torch.Tensor,
        counts_RK: torch.Tensor,
        reference_RK: Any,
        good_RK: torch.Tensor,
        *,
        kl: float = 0.0,
    ) -> torch.Tensor:
        """`(R,)`; for KTO the sum over a row's sides. sums_RK: log π with gradient; reference_RK: log π_ref; kl: KTO's reference point."""
        ratios_RK = self.log_ratios(sums_RK, counts_RK, reference_RK)
        if self.loss == KTO:
            weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
            return kto_rows(ratios_RK, good_RK, kl=kl, beta=self.beta, **weights).sum(1)
        chosen_R, rejected_R = ratios_RK.unbind(1)
        if self.loss == DPO:
            return dpo_rows(chosen_R, rejected_R, beta=self.beta, label_smoothing=self.label_smoothing)
        if self.loss == IPO:
            return ipo_rows(chosen_R, rejected_R, beta=self.beta)
        if self.loss == ORPO:
            return self.beta * odds_ratio_rows(chosen_R, rejected_R)
        return simpo_rows(chosen_R, rejected_R, beta=self.beta, margin=self.margin)

    def log_ratios(self, sums_RK: Any, counts_RK: Any, reference_RK: Any) -> Any:
        """Log-ratios to the reference model, or log-probabilities for a loss without one; per token if the loss compares means."""
        ratios_RK = sums_RK - reference_RK if self.needs_reference else sums_RK
        return ratios_RK / counts_RK.clip(1) if self.compares_means else ratios_RK
