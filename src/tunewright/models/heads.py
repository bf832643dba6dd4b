"""The layers between a model's body and its labels that learn with the head: the pooler of a BERT-like classifier.

pooler_layers(bert_classifier)      # ["bert.pooler.dense"]

A pooler is a dense layer over the first position. Sentence encoders leave it as it was before their own training, so it has
as much to learn as a head that starts fresh: at the body's small rate, or through a low-rank product, it holds the model back.
"""

from __future__ import annotations

from typing import Any

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
