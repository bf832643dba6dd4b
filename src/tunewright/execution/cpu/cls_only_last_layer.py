"""An encoder's last layer computed at the first position only, if its head reads nothing else.

A BERT classifier reads only `[CLS]`, so in the last layer only the keys and values are needed at every position.
With six layers that saves about a seventh of the work, in training and in prediction, and changes no result:

    whole    query key value (L)   attention (L × L)   output, feed-forward (L)
    first    query (1), score and mix states (L)   output, feed-forward (1)

Keys and values are not computed either: with one query, `q · (K x + b)` is `(Kᵀ q) · x + q · b`, and a mean of `V x + b` is V of the
mean of x. Only if K or V is an adapter or a quantized weight, each is computed at every position.

Installed only if an equivalence check gives the same logits; the weights are not moved.

Shapes: B rows, L padded length, H hidden width, N heads of D features.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from tunewright.batching.row_context import RowContext, current_row_context, row_context
from tunewright.execution.attention import mixes_states
from tunewright.execution.cpu.attention import NAME, row_attention
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.cpu.unpadding import padded
from tunewright.execution.equivalence_check import same_outputs, try_logits
from tunewright.execution.row_keyed import first_position_layer

_TOLERANCE = 1e-4


def install_cls_only_last_layer(model: Any) -> bool:
    """Let the last layer compute only what the head reads. False, and nothing changed, if the check does not give the same logits.

    It requires a row context with padding on the right, and a model with row attention: otherwise the whole layer is computed.
    """
    layer = first_position_layer(model) if model.config._attn_implementation == NAME else None
    if layer is None:
        return False
    was_training = model.training
    model.eval()
    whole = try_logits(model)
    layer.forward = partial(_forward, layer, layer.forward)
    same = same_outputs(whole, try_logits(model), within=_TOLERANCE)
    if not same:
        del layer.forward
    model.train(was_training)
    return same


def _forward(
    layer: Any, whole: Any, hidden_BLH: torch.Tensor, attention_mask: Any = None, *others: Any, **kwargs: Any
) -> torch.Tensor:
    """others: the encoder's states of a model with cross attention, a cache: if there are any, the whole layer is computed."""
    rows = current_row_context()
    alone = all(other is None for other in (*others, kwargs.get("cache"), kwargs.get("past_key_values")))
    if rows is None or rows.left_padded or hidden_BLH.shape[1] != rows.width or not alone:
        return whole(hidden_BLH, attention_mask, *others, **kwargs)
    first_B1H = hidden_BLH[:, :1]
    if isinstance(rows, UnpaddedRows):
        first_B1H = hidden_BLH[0].index_select(0, torch.from_numpy(rows.starts))[:, None]
        rows = rows.padded()
        hidden_BLH = padded(hidden_BLH, rows)
    attention = layer.attention.self
    with row_context(rows):
        if attention_mask is None and mixes_states(attention):
            mixed_B1H = _mixed_states(attention, first_B1H, hidden_BLH, rows)
        else:
            mixed_B1H = _mixed_values(attention, first_B1H, hidden_BLH, attention_mask)
        return layer.feed_forward_chunk(layer.attention.output(mixed_B1H, first_B1H))


def _mixed_states(attention: Any, first_B1H: torch.Tensor, hidden_BLH: torch.Tensor, rows: RowContext) -> torch.Tensor:
    """The attention output of the first position, `(B, 1, H)`, in fp32 or wider."""
    query_B1H = attention.query(first_B1H)
    size, dtype = attention.attention_head_size, torch.promote_types(hidden_BLH.dtype, torch.float32)
    with torch.autocast(hidden_BLH.device.type, enabled=False):
        hidden_BLH = hidden_BLH.to(dtype)
        key_NDH, key_ND1 = _by_head(attention.key, size, dtype)
        value_NDH, value_ND1 = _by_head(attention.value, size, dtype)
        query_NBD = (query_B1H[:, 0].to(dtype) * attention.scaling).unflatten(-1, (-1, size)).transpose(0, 1)
        weights_BHN = (query_NBD @ key_NDH).permute(1, 2, 0)
        biases_B1N = (query_NBD @ key_ND1).permute(1, 2, 0)
        scores_BLN = torch.baddbmm(biases_B1N, hidden_BLH, weights_BHN)
        padding_BL = torch.arange(rows.width) >= torch.from_numpy(rows.lengths)[:, None]
        scores_BLN = scores_BLN.masked_fill(padding_BL[:, :, None].to(scores_BLN.device), -torch.inf)
        probabilities_BLN = attention.dropout(torch.softmax(scores_BLN, 1))
        states_NBH = (probabilities_BLN.transpose(1, 2) @ hidden_BLH).transpose(0, 1)
        sums_NB1 = probabilities_BLN.sum(1).t()[:, :, None]  # not 1 with dropout
        mixed_NBD = states_NBH @ value_NDH.transpose(1, 2) + sums_NB1 * value_ND1.transpose(1, 2)
        return mixed_NBD.transpose(0, 1).flatten(1)[:, None]


def _by_head(linear: nn.Linear, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight `(N, D, H)` and bias `(N, D, 1)`."""
    weight = linear.weight.to(dtype)
    bias = weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.to(dtype)
    return weight.unflatten(0, (-1, size)), bias.view(-1, size, 1)


def _mixed_values(
    attention: Any, first_B1H: torch.Tensor, hidden_BLH: torch.Tensor, attention_mask: torch.Tensor | None
) -> torch.Tensor:
    """The same from keys and values of all positions."""
    mixed_B1ND, _ = row_attention(
        attention,
        _heads(attention.query(first_B1H), attention),
        _heads(attention.key(hidden_BLH), attention),
        _heads(attention.value(hidden_BLH), attention),
        None if attention_mask is None else attention_mask[:, :, :1],
        scaling=attention.scaling,
        dropout=attention.dropout.p if attention.training else 0.0,
    )
    return mixed_B1ND.flatten(2)


def _heads(x_BLH: torch.Tensor, attention: Any) -> torch.Tensor:
    return x_BLH.view(*x_BLH.shape[:2], -1, attention.attention_head_size).transpose(1, 2)
