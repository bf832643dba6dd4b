"""Virtual tokens (a learned prefix or prompt) before rows, fitted to what the rest of this package counts on.

    row     [t0 t1 t2 PAD]           what a task sees: as many logits as tokens
    inside  [v0 … v19 t0 t1 t2 PAD]  rows in flight are 20 longer, positions of tokens begin at 20

PEFT's own pass drops positions that are handed to it, and puts the prefix before every single token that is written with a cache.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from tunewright.batching.row_context import current_row_context, row_context, with_virtual_tokens
from tunewright.models.kv_cache import accept_old_word, cache_word


def fit(adapted: Any) -> None:
    """Change the pass of PEFT's model in place. Weights and files stay PEFT's."""
    config = adapted.active_peft_config
    _accept_old_word(adapted)
    prefix = str(getattr(config.peft_type, "value", config.peft_type)) == "PREFIX_TUNING"
    if str(getattr(config.task_type, "value", config.task_type)) == "CAUSAL_LM":
        _fit_decoder(adapted, config.num_virtual_tokens, prefix=prefix)
    elif not prefix:
        _fit_rows(adapted.base_model, config.num_virtual_tokens)


def _accept_old_word(adapted: Any) -> None:
    """PEFT hands a prefix over as `past_key_values`, and looks for a parameter of that name."""
    base = adapted.base_model
    body = getattr(adapted, "transformer_backbone_name", None)
    for module in (base, base.get_submodule(body) if body else base):
        accept_old_word(module)


def _fit_rows(base: Any, num_virtual: int) -> None:
    """Where embeddings are prepended: rows in flight are that much longer, and logits lose them again."""
    inner = base.forward

    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        embeddings = kwargs.get("inputs_embeds")
        if embeddings is None:
            return inner(*args, **kwargs)
        with row_context(with_virtual_tokens(current_row_context(), num_virtual)):
            return _without(inner(*args, **kwargs), num_virtual, embeddings.shape[1])

    base.forward = forward


def _without(output: Any, num_virtual: int, width: int) -> Any:
    for key, value in list(output.items()):
        if isinstance(value, torch.Tensor) and value.dim() == 3 and value.shape[1] == width:
            output[key] = value[:, num_virtual:]
    return output


def _fit_decoder(adapted: Any, num_virtual: int, *, prefix: bool) -> None:
    base = adapted.base_model
    word = cache_word(base)
    if not prefix:
        _fit_rows(base, num_virtual)

    @wraps(adapted.forward)
    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        num_rows = len(input_ids)
        if attention_mask is not None:
            attention_mask = torch.cat([attention_mask.new_ones(num_rows, num_virtual), attention_mask], dim=1)
        inputs: dict[str, Any] = {"input_ids": input_ids}
        if position_ids is not None:
            inputs["position_ids"] = position_ids = position_ids + num_virtual
        cache = kwargs.pop(word, None)
        if cache is not None and cache.get_seq_length():
            inputs[word] = cache  # the virtual tokens are in it already
        elif prefix:
            inputs[word] = adapted.get_prompt(num_rows)
        else:
            words = adapted.word_embeddings(inputs.pop("input_ids"))
            inputs["inputs_embeds"] = torch.cat([adapted.get_prompt(num_rows).to(words.dtype), words], dim=1)
            if position_ids is not None:
                before = torch.arange(num_virtual, device=words.device).expand(num_rows, -1)
                inputs["position_ids"] = torch.cat([before, position_ids], dim=1)
        return base(attention_mask=attention_mask, **inputs, **kwargs)

    adapted.forward = forward
