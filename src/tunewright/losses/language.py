"""A language model's loss at the labelled positions only: logits of other positions are not computed, and none are kept.

lm = labelled_loss(model, batch.inputs, labels_BL)       # labels_BL: -100 at positions without a label
lm.total, lm.weight, lm.rows_B2                          # rows_B2: nats and number of predicted tokens of each row
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from tunewright.losses.chunked import has_plain_output, linear_cross_entropy, skip_output_projection
from tunewright.losses.cross_entropy import cross_entropy_rows
from tunewright.losses.labelled import LabelledTokens
from tunewright.records import copied_to


@dataclass(frozen=True)
class LabelledLoss:
    """total: weighted sum in nats, with gradient. weight: sum of the weights of labelled tokens. output: of the model."""

    total: torch.Tensor
    weight: torch.Tensor
    rows_B2: torch.Tensor
    output: Any


def labelled_loss(
    model: Any,
    inputs: Mapping[str, Any],
    labels_BL: torch.Tensor,
    *,
    weights_B: torch.Tensor | None = None,
    logits: str = "logits",
) -> LabelledLoss:
    """Cross-entropy of the labels at their own positions. logits: the name of the model's output that they belong to."""
    head = skip_output_projection(model) if has_plain_output(model) else nullcontext((None, None))
    with head as (weight, bias):
        output = model(**inputs)
    states_BLX = getattr(output, logits)
    tokens = LabelledTokens.of(labels_BL, states_BLX.device)
    states, labels_S, row_S = tokens.select(states_BLX), tokens.labels_S, tokens.row_S
    if weights_B is not None:
        weights_B = copied_to(weights_B.to(torch.promote_types(states.dtype, torch.float32)), states.device)
    weights_S = None if weights_B is None else weights_B[row_S]
    if weight is not None:
        total, losses_S = linear_cross_entropy(states, weight, bias, labels_S, weights_S=weights_S)
    else:
        losses_S = cross_entropy_rows(states, labels_S)
        total = (losses_S if weights_S is None else losses_S * weights_S.to(losses_S)).sum()
    with torch.no_grad():
        rows_B2 = losses_S.new_zeros(len(labels_BL), 2)
        rows_B2[:, 0].index_add_(0, row_S, losses_S.detach())
        rows_B2[:, 1] = tokens.count_B
        count = rows_B2[:, 1] if weights_B is None else rows_B2[:, 1] * weights_B.to(rows_B2)
    return LabelledLoss(total, count.sum(), rows_B2, output)


def logits_at(
    model: Any, inputs: Mapping[str, Any], chosen_BL: torch.Tensor, *, logits: str = "logits"
) -> tuple[torch.Tensor, Any]:
    """(logits `(chosen positions, vocabulary)`, row by row; the other outputs of the model). Logits of other positions are not computed."""
    if not has_plain_output(model):
        output = model(**inputs)
        return getattr(output, logits)[chosen_BL], output
    with skip_output_projection(model) as (weight, bias):
        output = model(**inputs)
    return functional.linear(getattr(output, logits)[chosen_BL], weight, bias), output
