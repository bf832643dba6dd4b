"""Can several documents stand in one row of a model without seeing each other? Tried, not looked up.

isolates(model)      True: positions that start again at 0 tell this model where a document begins
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

_HALF = 4


def takes_positions(model: Any) -> bool:
    """Whether the model can be told where each token stands."""
    inner = getattr(model, "module", model)
    inner = getattr(inner, "get_base_model", lambda: inner)()  # PEFT's model hands on what its base takes
    return "position_ids" in inspect.signature(inner.forward).parameters


@torch.no_grad()
def isolates(model: Any) -> bool:
    """Whether the second of two packed documents is the same whatever the first one says."""
    if not takes_positions(model):
        return False
    was_training = model.training
    model.eval()
    vocabulary = model.config.get_text_config().vocab_size
    device = next(model.parameters()).device
    second = torch.arange(_HALF) % vocabulary
    ids = torch.stack([torch.cat([torch.full((_HALF,), first % vocabulary), second]) for first in (1, 2)]).to(device)
    positions = torch.arange(_HALF, device=device).repeat(2, 2)
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, _HALF:].float()
    model.train(was_training)
    return bool(torch.allclose(logits[0], logits[1], atol=1e-5, rtol=1e-4))
