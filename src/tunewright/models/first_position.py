"""An encoder's last layer computed at the first position alone, where that is all its head looks at.

A BERT classifier reads `[CLS]` and nothing else: of the last layer's products only the keys and values need every position.
With six layers that leaves about a seventh of the work undone, in training and in prediction, and changes no result:

    whole    query key value (L)   attention (L × L)   output, feed-forward (L)
    first    key value (L), query (1)   attention (1 × L)   output, feed-forward (1)

Installed only where a trial run gives the same logits; the weights stay where they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.models.attention import NAME, row_attention
from tunewright.models.flat import padded
from tunewright.models.rows import Rows, current_rows, rows_in_flight

_TOLERANCE = 1e-5


def compute_first_position_only(model: Any) -> bool:
    """Let the last layer compute what the head reads. False, and nothing changed, for a model where that cannot be shown.

    Rows must be in flight with their padding on the right, and the model must use row attention: else the layer is computed whole.
    """
    layer = _last_layer(model)
    if layer is None or model.config._attn_implementation != NAME:
        return False
    was_training = model.training
    model.eval()
    whole = _trial_logits(model)
    layer.forward = partial(_forward, layer, layer.forward)
    same = _same(whole, _trial_logits(model))
    if not same:
        del layer.forward
    model.train(was_training)
    return same


def _same(whole: torch.Tensor | None, first: torch.Tensor | None) -> bool:
    if whole is None or first is None or whole.shape != first.shape:
        return False
    if torch.allclose(whole[0], whole[1]):  # a head of zeros would prove nothing
        return False
    return torch.allclose(first, whole, rtol=0, atol=_TOLERANCE)


def _last_layer(model: Any) -> nn.Module | None:
    """The last layer of a BERT-like encoder (BERT, RoBERTa, ELECTRA, XLM-R, CamemBERT), None for any other model."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    last = layers[-1] if layers is not None and len(layers) else None
    parts = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output",
        "intermediate",
        "output",
    )
    try:
        found = last is not None and all(isinstance(last.get_submodule(name), nn.Module) for name in parts)
    except AttributeError:
        return None
    return last if found and not getattr(last, "is_decoder", True) and hasattr(last, "feed_forward_chunk") else None


def _forward(
    layer: Any, whole: Any, hidden_BLH: torch.Tensor, attention_mask: Any = None, *others: Any, **kwargs: Any
) -> torch.Tensor:
    """others: the encoder's states of a model with cross attention, a cache: where there is any, the layer is computed whole."""
    rows = current_rows()
    alone = all(other is None for other in (*others, kwargs.get("past_key_values")))
    if rows is None or rows.left_padded or hidden_BLH.shape[1] != rows.width or not alone:
        return whole(hidden_BLH, attention_mask, *others, **kwargs)
    attention = layer.attention.self
    key_BLH, value_BLH = attention.key(hidden_BLH), attention.value(hidden_BLH)
    if rows.flat:
        starts_B = torch.from_numpy(rows.starts)
        first_B1H, rows = hidden_BLH[0].index_select(0, starts_B)[:, None], rows.padded()
        key_BLH, value_BLH = padded(key_BLH, rows), padded(value_BLH, rows)
    else:
        first_B1H = hidden_BLH[:, :1]
    with rows_in_flight(rows):
        mixed_B1HD, _ = row_attention(
            attention,
            _heads(attention.query(first_B1H), attention),
            _heads(key_BLH, attention),
            _heads(value_BLH, attention),
            None if attention_mask is None else attention_mask[:, :, :1],
            scaling=attention.scaling,
            dropout=attention.dropout.p if attention.training else 0.0,
        )
        return layer.feed_forward_chunk(layer.attention.output(mixed_B1HD.flatten(2), first_B1H))


def _heads(x_BLH: torch.Tensor, attention: Any) -> torch.Tensor:
    return x_BLH.view(*x_BLH.shape[:2], -1, attention.attention_head_size).transpose(1, 2)


def _trial_logits(model: Any) -> torch.Tensor | None:
    """Logits `(2, labels)` of two short rows of different lengths and tokens; None where the head gives none of that shape."""
    vocabulary = model.config.get_text_config().vocab_size
    ids_BL = torch.arange(12).view(2, 6) % vocabulary
    mask_BL = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    rows = Rows(seed=0, epoch=0, row_ids=np.array([0, 1]), lengths=np.array([6, 4]), width=6)
    try:
        with rows_in_flight(rows), torch.no_grad():
            logits = getattr(model(input_ids=ids_BL, attention_mask=mask_BL), "logits", None)
    except (RuntimeError, IndexError):  # a head that looks for the other positions
        return None
    return logits if logits is not None and logits.dim() == 2 else None
