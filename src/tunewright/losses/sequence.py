"""A model and texts -> the log-probability of each labelled token, with gradient, for losses of whole answers.

    found = token_log_probs(model, batch.inputs, labels_SL)         # -100 at positions without a label
    found.summed(), found.counts()                                  # per text: sum of log-probabilities, number of tokens

`losses/language.py` computes the gradient of one weighted sum; in a preference loss the weight of an answer depends on the other one, and
is known only when both are scored. Logits are computed at the labelled positions only; if there are many, in chunks that are computed
again in the backward pass. Without a backward pass no chunk is kept.

Shapes: S texts, L length, T labelled tokens of all texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tunewright.execution.output_rows import kernels_of
from tunewright.losses.chunked import has_plain_output, linear_cross_entropy, skip_output_projection
from tunewright.losses.cross_entropy import cross_entropy_rows
from tunewright.losses.labelled import LabelledTokens

_HELD_ELEMENTS = 1 << 25
"""Logits kept with their graph, 128 MB in fp32; if there are more, chunks are computed again in the backward pass."""


@dataclass(frozen=True)
class TokenLogProbs:
    """values_T: fp32 or wider, with gradient, text by text. text_T: the text of each. num_texts: S."""

    values_T: torch.Tensor
    text_T: torch.Tensor
    num_texts: int

    def summed(self, within_T: torch.Tensor | None = None) -> torch.Tensor:
        """`(S,)`: the log-probability of each text's labelled tokens; within_T (bool): only of these."""
        values_T = self.values_T if within_T is None else self.values_T * within_T
        return values_T.new_zeros(self.num_texts).index_add(0, self.text_T, values_T)

    def counts(self, within_T: torch.Tensor | None = None) -> torch.Tensor:
        """`(S,)`: how many tokens those are, in the dtype of the sums."""
        ones_T = torch.ones_like(self.values_T) if within_T is None else within_T.to(self.values_T)
        return ones_T.new_zeros(self.num_texts).index_add(0, self.text_T, ones_T.detach())


def token_log_probs(model: Any, inputs: Mapping[str, Any], labels_SL: torch.Tensor) -> TokenLogProbs:
    """log p(label | tokens before it). labels_SL: int64, each at the position that predicts it."""
    by_pieces = has_plain_output(model)
    with skip_output_projection(model) if by_pieces else nullcontext((None, None)) as (weight, bias):
        states_SLX = model(**inputs).logits
    tokens = LabelledTokens.of(labels_SL, states_SLX.device)
    states_TX, labels_T = tokens.select(states_SLX), tokens.labels_S
    if by_pieces:
        values_T = _by_pieces(states_TX, weight, bias, labels_T)
    else:
        values_T = -cross_entropy_rows(states_TX, labels_T)
    return TokenLogProbs(values_T, tokens.row_S, len(labels_SL))


def _by_pieces(states_TH: torch.Tensor, weight_VH: Any, bias_V: Any, labels_T: torch.Tensor) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return -linear_cross_entropy(states_TH, weight_VH, bias_V, labels_T)[1]
    piece = max(1, _HELD_ELEMENTS // len(weight_VH))
    if len(labels_T) <= piece:
        return _log_probs(states_TH, weight_VH, bias_V, labels_T)
    compute = partial(checkpoint, _log_probs, use_reentrant=False)
    return torch.cat(
        [
            compute(states_TH[at : at + piece], weight_VH, bias_V, labels_T[at : at + piece])
            for at in range(0, len(labels_T), piece)
        ]
    )


def _log_probs(states_PH: torch.Tensor, weight_VH: Any, bias_V: Any, labels_P: torch.Tensor) -> torch.Tensor:
    device = states_PH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states_PH.dtype
    filling = -len(labels_P) % kernels_of(weight_VH).token_multiple(dtype)
    logits_PV = functional.linear(functional.pad(states_PH, (0, 0, 0, filling)), weight_VH, bias_V)
    return -cross_entropy_rows(logits_PV[: len(labels_P)], labels_P)
