"""Rewards of two answers -> the loss of a reward model: the negative log-probability of the preference.

chosen 2.0, rejected 0.0   ->   0.1269      log(1 + e**-2)

Bradley and Terry (1952), as used by Ouyang et al. (2022, "Training language models to follow instructions", eq. 1).
"""

from __future__ import annotations

import torch
from torch.nn import functional


def reward_rows(chosen_R: torch.Tensor, rejected_R: torch.Tensor) -> torch.Tensor:
    """-log σ(chosen - rejected), in nats. float `(rows,)` each -> `(rows,)`."""
    return -functional.logsigmoid(chosen_R - rejected_R)
