"""The execution of one or several GPUs: dropout by row and attention without a wait for the device. Imported only by `execution/__init__.py`.

    execution = prepare_model(model, wanted)          Execution(device="cuda", token_budget=16_384)

Attention is transformers' SDPA. It gets a mask only where one is needed, which is decided by the rows on the host: in a causal model, rows
padded on the right need none, and kernels that keep no scores are used. If a model applies dropout to its attention, all scores are
computed, and their dropout masks are drawn by row (`hashed_dropout.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.batching.row_context import RowContext, current_row_context, row_context
from tunewright.execution.attention import attend_with_dropout, checked_rows
from tunewright.execution.base import PYTORCH, Execution, Wanted, usual_tokens
from tunewright.execution.equivalence_check import CANNOT, close_outputs, try_logits
from tunewright.execution.hashed_dropout import HashedRowDropout, keep_scores
from tunewright.execution.row_dropout import remove_row_dropout
from tunewright.execution.row_keyed import (
    draws_randomly,
    install_row_keyed_dropout_and_attention,
    pytorch_dropout_message,
)
from tunewright.records import copied_to

NAME = "tunewright_gpu"
_TOLERANCE = 1e-4


def prepare_model(model: Any, wanted: Wanted, *, say: Callable[[str], object]) -> Execution:
    """As `execution.prepare_model`, for a model that is still on the CPU and will be on a GPU."""
    execution = Execution(**wanted.values(usual_tokens(wanted)))
    if wanted.is_training and wanted.dropout == PYTORCH:
        return execution
    _register()
    own, before = model.config._attn_implementation, _logits(model)
    reason = install_row_keyed_dropout_and_attention(model, attention=NAME, dropout=HashedRowDropout)
    if reason is None and _differ(before, _logits(model)):
        model.set_attn_implementation(own)
        remove_row_dropout(model)
        reason = "its results differ with row attention"
    if reason is None and wanted.is_packed:
        _install_document_mask(model)
    if wanted.is_training and reason and draws_randomly(model):
        say(pytorch_dropout_message(reason))
    if wanted.is_training and reason is None and (p := _attention_dropout(model)):
        say(
            f"Attention dropout ({p:g}) is drawn by row: all scores of a micro-batch are in memory. "
            "train.dropout=off switches dropout off; then no scores are kept."
        )
    return execution


def _logits(model: Any) -> list[torch.Tensor] | None:
    was_training = model.training
    found = try_logits(model.eval())
    model.train(was_training)
    return found


def _differ(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> bool:
    """False also where they cannot be compared."""
    if one is None or other is None:
        return False
    return not close_outputs(one, other, within=_TOLERANCE * max(float(logits.abs().max()) for logits in one))


def _install_document_mask(model: nn.Module) -> None:
    """Hand packed rows to the model with the mask that isolates their documents, if that gives the same results.

    From positions alone transformers finds out on the device whether rows are packed, and the host waits.
    """
    before = _packed_logits(model)
    hook = model.register_forward_pre_hook(_with_document_mask, with_kwargs=True)
    after = _packed_logits(model)
    if before is None or after is None or _differ(before, after):
        hook.remove()


def _with_document_mask(model: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    rows, positions = current_row_context(), inputs.get("position_ids")
    if rows is None or rows.segments is None or positions is None or inputs.get("attention_mask") is not None:
        return args, inputs
    return args, {**inputs, "attention_mask": _document_mask(rows, positions.device)}


def _document_mask(rows: RowContext, device: torch.device) -> torch.Tensor:
    """bool `(B, 1, L, L)`: tokens of the same document, not later."""
    assert rows.segments is not None
    documents_BL = np.full((len(rows), rows.width), -1, np.int32)
    for row, (start, lengths) in enumerate(zip(rows.starts.tolist(), rows.segments, strict=True)):
        documents_BL[row, start : start + int(lengths.sum())] = np.repeat(np.arange(len(lengths)), lengths)
    documents = copied_to(torch.from_numpy(documents_BL), device)
    causal_LL = torch.ones(rows.width, rows.width, dtype=torch.bool, device=device).tril()
    return ((documents[:, :, None] == documents[:, None]) & causal_LL)[:, None]


@torch.no_grad()
def _packed_logits(model: nn.Module) -> list[torch.Tensor] | None:
    """Of two rows with three and two documents; None if the model cannot compute them."""
    segments = (np.array([3, 1, 4]), np.array([2, 4]))
    lengths = np.array([8, 6])
    rows = RowContext(seed=0, epoch=0, row_ids=np.arange(2), lengths=lengths, width=8, segments=segments)
    ids = torch.arange(3, 19).view(2, 8)
    positions = torch.tensor([[0, 1, 2, 0, 0, 1, 2, 3], [0, 1, 0, 1, 2, 3, 4, 5]])
    was_training = model.training
    model.eval()
    try:
        with row_context(rows):
            logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    except CANNOT:
        return None
    finally:
        model.train(was_training)
    return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)]


def _attention_dropout(model: Any) -> float:
    config = model.config.get_text_config()
    names = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")
    return max(float(getattr(config, name, None) or 0.0) for name in names)


def _register() -> None:
    """Make `attn_implementation="tunewright_gpu"` known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def mask(
    *, allow_is_causal_skip: bool = True, allow_is_bidirectional_skip: bool = False, **asked: Any
) -> torch.Tensor | None:
    """bool `(B, 1, L, K)`: which keys are visible; None if none has to be hidden beyond what causality hides.

    transformers reads the padding to decide this, and the host waits for the device; here the rows on the host are asked.
    """
    from transformers.masking_utils import sdpa_mask

    rows = current_row_context()
    if rows is None or asked["batch_size"] != rows.batch_size:
        asked["allow_is_causal_skip"], asked["allow_is_bidirectional_skip"] = (
            allow_is_causal_skip,
            allow_is_bidirectional_skip,
        )
        return sdpa_mask(**asked)
    if _needs_none(rows, asked, is_causal=allow_is_causal_skip, is_bidirectional=allow_is_bidirectional_skip):
        return None
    return sdpa_mask(**asked, allow_is_causal_skip=False, allow_is_bidirectional_skip=False)


def _needs_none(rows: RowContext, asked: dict[str, Any], *, is_causal: bool, is_bidirectional: bool) -> bool:
    """is_causal, is_bidirectional: whether nothing but padding and this pattern hides a key."""
    local = asked.get("local_size")
    if not asked["q_length"] == asked["kv_length"] == rows.width or (local is not None and local <= rows.width):
        return False
    has_padding = int(rows.lengths.min()) < rows.width
    return not has_padding if is_bidirectional else is_causal and not (has_padding and rows.left_padded)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(query keyᵀ · scaling + mask), with dropout, times value. query `(B, H, L, D)` -> `(B, L, H, D)`."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows = checked_rows(module, query, attention_mask, dropout, kwargs, without_mask=True)
    if not dropout:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    assert rows is not None
    is_causal = kwargs.get("is_causal")
    if attention_mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    keep = keep_scores(rows, (*query.shape[:3], key.shape[2]), site=module.dropout_site, p=dropout, device=query.device)
    return attend_with_dropout(query, key, value, attention_mask, scaling, keep, dropout), None
