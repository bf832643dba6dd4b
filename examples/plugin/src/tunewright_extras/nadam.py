"""An optimizer: Adam with Nesterov's momentum (Dozat 2016), as PyTorch has it."""

from typing import Any

import torch


def build(groups: list[dict[str, Any]], config: Any) -> torch.optim.Optimizer:
    """groups: dicts with params, lr and weight_decay; config: the `train` section."""
    return torch.optim.NAdam(groups, betas=(config.beta1, config.beta2), eps=config.epsilon)
