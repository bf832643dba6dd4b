"""Rows end to end: the layers of a model compute no padding, and few large products instead of many small ones.

    rows of 5, 2 and 3 tokens, (3, 5)  ->  (1, 10), positions 0 1 2 3 4 0 1 0 1 2  ->  (3, 5) again

The caller of the model, and its head, see padded rows. Inside the layers row attention knows where each row begins, so that none
sees another (`execution/cpu/segments.py`), and dropout draws the same masks as for padded rows. Installed only if an equivalence check
gives the same logits.

Shapes: B rows, L padded length, T real tokens, N real tokens and padding, H hidden width.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tunewright.batching.row_context import RowContext, current_row_context, row_context
from tunewright.encoding.packing import positions_within
from tunewright.execution.attention import on_call
from tunewright.execution.cpu.attention import NAME
from tunewright.execution.cpu.shape_buckets import shape_tokens
from tunewright.execution.cpu.unpadded_rows import UnpaddedRows
from tunewright.execution.equivalence_check import same_outputs, try_logits

_Laid = tuple[dict[str, Any], RowContext, UnpaddedRows]


def install_unpadding(model: Any) -> bool:
    """Let the layers compute rows end to end. False, and nothing changed, if the check does not give the same logits.

    In encoders like BERT this applies to the layers after the embeddings, in other models to all but the head. It requires a row context
    and a model with row attention; a call with a cache, with embeddings instead of ids, or for the states of every layer is not changed.
    """
    inner = getattr(model, "get_base_model", lambda: model)()
    if inner.config._attn_implementation != NAME:
        return False
    body, lay = inner.base_model, _lay_ids
    if hasattr(getattr(body, "encoder", None), "layer"):
        body, lay = body.encoder, _lay_states
    elif "position_ids" not in inspect.signature(body.forward).parameters:
        return False
    whole = body.forward
    was_training = inner.training
    inner.eval()
    reached = list[bool]()
    before = try_logits(model)
    # As a partial, not a closure: in a copy of the model it is bound to the copy.
    body.forward = functools.update_wrapper(functools.partial(_forward, whole, lay), whole)
    with on_call(lambda: reached.append(isinstance(current_row_context(), UnpaddedRows))):
        same = same_outputs(before, try_logits(model)) and any(reached)
    if not same:
        del body.forward
    inner.train(was_training)
    return same


def _forward(
    whole: Callable[..., Any], lay: Callable[[dict[str, Any]], _Laid | None], *args: Any, **kwargs: Any
) -> Any:
    given = {**dict(zip(inspect.signature(whole).parameters, args, strict=False)), **kwargs}
    laid = lay({name: value for name, value in given.items() if value is not None and value is not False})
    if laid is None:
        return whole(*args, **kwargs)
    inputs, as_called, rows = laid
    with row_context(rows):
        output = whole(**inputs)
    return _with_states(output, lambda states: padded(states, as_called) if states.shape[1] == rows.width else states)


def _lay_ids(given: dict[str, Any]) -> _Laid | None:
    """For a body that takes ids: its new arguments, the rows before, the rows end to end."""
    names = given.keys() - {"attention_mask", "return_dict"}
    if "input_ids" not in names or names - {"input_ids", "token_type_ids"}:
        return None
    laid = _laid({name: given[name] for name in names})
    return None if laid is None else (laid[0] | {"position_ids": _positions(laid[2]), "use_cache": False}, *laid[1:])


def _lay_states(given: dict[str, Any]) -> _Laid | None:
    """For an encoder that takes states, and no mask: the row context says what is padding."""
    return _laid(given) if given.keys() == {"hidden_states"} else None


def _laid(inputs: dict[str, torch.Tensor]) -> _Laid | None:
    """inputs: name -> `(B, L, …)`."""
    rows = current_row_context()
    shapes = {x_BLX.shape[:2] for x_BLX in inputs.values()}
    if (
        rows is None
        or isinstance(rows, UnpaddedRows)
        or rows.segments is not None
        or shapes != {(len(rows), rows.width)}
    ):
        return None
    device = next(iter(inputs.values())).device
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else torch.float32
    unpadded = UnpaddedRows.of(rows, shape_tokens(dtype, device))
    if len(rows) == 1 and unpadded.width == rows.width:
        return None
    places_T = _places(rows)

    def laid(x_BLX: torch.Tensor) -> torch.Tensor:
        x_TX = x_BLX.flatten(0, 1).index_select(0, places_T)
        return torch.cat([x_TX, x_TX.new_zeros(unpadded.width - len(x_TX), *x_TX.shape[1:])])[None]

    return {name: laid(x_BLX) for name, x_BLX in inputs.items()}, rows, unpadded


def padded(x_1NX: torch.Tensor, rows: RowContext) -> torch.Tensor:
    """The result for rows end to end, `(1, N, …)`, as padded rows `(B, L, …)` with zeros in the padding."""
    places_T = _places(rows)
    x_TX = x_1NX[0, : len(places_T)]
    whole = x_TX.new_zeros(len(rows) * rows.width, *x_TX.shape[1:]).index_copy(0, places_T, x_TX)
    return whole.unflatten(0, (len(rows), rows.width))


def _places(rows: RowContext) -> torch.Tensor:
    """int64 `(T,)`: the position of each real token among all positions of the padded rows."""
    firsts = np.arange(len(rows)) * rows.width + rows.starts
    return torch.from_numpy(np.repeat(firsts, rows.lengths) + positions_within(rows.lengths))


def _positions(rows: RowContext) -> torch.Tensor:
    filling = np.arange(rows.width - int(rows.lengths.sum()))  # a separate row, whose result is not used
    return torch.from_numpy(np.concatenate([positions_within(rows.lengths), filling]))[None]


def _with_states(output: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    output.last_hidden_state = change(output.last_hidden_state)
    return output
