"""The layers between a model's body and its labels that learn with the head: the pooler of a BERT-like classifier.

pooler_layers(bert_classifier)      # ["bert.pooler.dense"]

A pooler is a dense layer over the first position. Sentence encoders leave it as it was before their own training, so it has
as much to learn as a head that starts fresh: at the body's small rate, or through a low-rank product, it holds the model back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def pooler_layers(model: Any) -> list[str]:
    """Full names of the linear layers of poolers, in the model's order."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "pooler" in name.split(".")[:-1]
    ]


def head_parameters(model: Any, fresh: list[str]) -> list[str]:
    """Names of the parameters that learn at the head's rate: the fresh ones, and the pooler where a fresh head stands on it."""
    if not fresh:
        return []
    beside = tuple(f"{layer}." for layer in pooler_layers(model))
    return [name for name, _ in model.named_parameters() if name in set(fresh) or name.startswith(beside)]


class FullPrecisionLinear(nn.Linear):
    """Computes in its weights' own dtype under autocast too: bf16 tells 256 numbers apart between 1 and 2, and 1,000 is rounded by 4."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def output_layer(model: Any, num_outputs: int) -> nn.Linear | None:
    """The linear layer that gives a sequence model's outputs; of an adapted model the copy that learns. None where there is none."""
    layers = [one for one in model.modules() if isinstance(one, nn.Linear) and one.out_features == num_outputs]
    learning = [one for one in layers if one.weight.requires_grad]
    return next(reversed(learning or layers), None)


@torch.no_grad()
def scale_outputs(layer: nn.Linear, factors: torch.Tensor, offsets: torch.Tensor) -> None:
    """From now on the layer gives what it gave, times `factors`, plus `offsets`, `(outputs,)` each. A layer without bias stays without
    `offsets`."""
    layer.weight.mul_(factors.to(layer.weight)[:, None])
    if layer.bias is not None:
        layer.bias.mul_(factors.to(layer.bias)).add_(offsets.to(layer.bias))
