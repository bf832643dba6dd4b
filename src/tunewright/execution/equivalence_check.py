"""Three short rows are run through a model, to show that another way of computing gives the same results.

    before = outputs_of_check(model)
    … change how the model computes …
    same_outputs(before, outputs_of_check(model))

The rows differ in length and tokens and are padded on the right; they are the current row context (`batching/row_context.py`), so that
row attention and row-keyed dropout know them.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from tunewright.batching.row_context import RowContext, row_context
from tunewright.execution.attention import UnsupportedAttention
from tunewright.execution.row_dropout import RowsNotFirst

LENGTHS = (9, 4, 7)
_ORDINARY = 200
"""Tokens are taken from this many first entries of the vocabulary."""
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 0.02  # relative to the largest logit; the second for weights in half precision

CANNOT = (
    UnsupportedAttention, RowsNotFirst, RuntimeError, ValueError, IndexError, TypeError, NotImplementedError,
)  # fmt: skip
"""What a model raises if a check cannot be run on it, or if its head uses positions that were not computed."""


def outputs_of_check(model: Any, *, width: int = max(LENGTHS)) -> list[torch.Tensor]:
    """The model's output for each row: for its own tokens `(length, …)`, or one for the row. Without gradient.

    Raises one of `CANNOT` if its output has another form.
    """
    config = model.config.get_text_config()
    lengths = np.array(LENGTHS)
    mask_BL = torch.arange(width) < torch.from_numpy(lengths)[:, None]
    inputs: dict[str, Any] = {"input_ids": _ids(config, mask_BL), "attention_mask": mask_BL.long()}
    inner = getattr(model, "get_base_model", lambda: model)()
    if "use_cache" in inspect.signature(inner.forward).parameters:
        inputs["use_cache"] = False
    rows = RowContext(seed=0, epoch=0, row_ids=np.arange(len(lengths)), lengths=lengths, width=width)
    with row_context(rows), torch.no_grad():
        output = model(**inputs)[0]
    if len(output) != len(lengths):
        raise RowsNotFirst("something in the model treats the single row of tensors as one row of the batch")
    of_tokens = output.dim() > 2 and output.shape[1] == width
    return [row[:length] if of_tokens else row for row, length in zip(output, LENGTHS, strict=True)]


def _ids(config: Any, mask_BL: torch.Tensor) -> torch.Tensor:
    """int64. Padding and end token are the model's: heads find the last token by them, BART's head the only end token."""
    padding, end = (
        found if isinstance(found := getattr(config, name, None), int) and 0 <= found < config.vocab_size else None
        for name in ("pad_token_id", "eos_token_id")
    )
    ordinary = torch.tensor([id_ for id_ in range(min(_ORDINARY, config.vocab_size)) if id_ not in (padding, end)])
    rows_B1, positions_L = torch.arange(len(LENGTHS))[:, None], torch.arange(mask_BL.shape[1])
    ids_BL = ordinary[((rows_B1 * max(LENGTHS) + positions_L) * 7 + 3) % len(ordinary)]  # the same at any width
    ids_BL[~mask_BL] = 0 if padding is None else padding
    if end is not None:
        ids_BL[range(len(LENGTHS)), [length - 1 for length in LENGTHS]] = end
    return ids_BL


def try_logits(model: Any) -> list[torch.Tensor] | None:
    """`outputs_of_check`, or None if it cannot be run."""
    try:
        return outputs_of_check(model)
    except CANNOT:
        return None


def same_outputs(
    one: list[torch.Tensor] | None, other: list[torch.Tensor] | None, *, within: float | None = None
) -> bool:
    """Whether they have the same shapes and are equal except for rounding. False for logits that do not depend on the row, which show nothing.

    within: the largest difference allowed; None: the rounding of the largest logit in their precision.
    """
    if one is None or other is None or torch.allclose(one[0][-1], one[1][-1]):
        return False
    if within is None:
        largest = float(max(logits.abs().max() for logits in one))
        within = largest * (_TOLERANCE if one[0].dtype.itemsize >= 4 else _HALF_TOLERANCE)
    return close_outputs(one, other, within=within)


def close_outputs(one: list[torch.Tensor], other: list[torch.Tensor], *, within: float) -> bool:
    """Whether they have the same shapes and differ by no more than `within`."""
    return all(
        first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=within)
        for first, second in zip(one, other, strict=True)
    )
