"""Make everything random in a model row-keyed, after checking that nothing else is random.

reason = install_row_keyed_dropout_and_attention(model)      # None or "": done; else why the model keeps PyTorch's dropout

A check run records the random operators that torch runs; it detects, for example, that OPT calls torch's dropout directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tunewright.execution import attention as plain
from tunewright.execution.equivalence_check import CANNOT, LENGTHS, outputs_of_check, same_outputs, try_logits
from tunewright.execution.row_dropout import RowDropout, install_row_dropout, remove_row_dropout
from tunewright.pretrained.quiet import quiet_transformers

_RANDOM_WORDS = ("dropout", "bernoulli", "rand", "uniform", "normal_", "multinomial")
_TOLERANCE = 1e-5


def install_row_keyed_dropout_and_attention(
    model: Any, *, attention: str | None = None, dropout: type[RowDropout] = RowDropout
) -> str | None:
    """Give a model on the CPU row-keyed dropout, and row attention if its own attention uses dropout.

    attention: the name of a fast implementation, which is then always installed; dropout: the class of its dropout modules.
    Returns None if the model has row attention; "" if it keeps its own, in which nothing is random; else why it keeps
    PyTorch's dropout (the model is then restored).
    """
    own_attention = model.config._attn_implementation
    num_sites = install_row_dropout(model, dropout)
    was_training = model.training
    model.train()
    reason = None
    with quiet_transformers():
        try:
            if attention is None and _only_rows_are_random(model):
                return ""
            plain.register()
            model.set_attn_implementation(attention or plain.NAME)
            tried = _try(model)
            if tried.random:
                raise _NotReplaced(f"it calls {', '.join(sorted(tried.random))} directly")
            if not tried.reached:
                raise _NotReplaced("its attention does not use transformers' AttentionInterface")
        except (_NotReplaced, *CANNOT) as error:
            model.set_attn_implementation("eager" if num_sites else own_attention)
            reason = "" if _only_rows_are_random(model) else str(error)
            if reason:
                remove_row_dropout(model)
        finally:
            model.train(was_training)
    return reason


def _only_rows_are_random(model: Any) -> bool:
    """Whether, with the model's own attention and row-keyed dropout, nothing draws from torch's generator and no mask depends on padding."""
    try:
        narrow, wide = _try(model), _try(model, width=max(LENGTHS) + 3)
    except CANNOT:
        return False
    alike = all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4)
        for one, other in zip(narrow.rows, wide.rows, strict=True)
    )
    return alike and not narrow.random


class _NotReplaced(Exception):
    """A source of randomness, or the attention, that our modules did not replace."""


@dataclass(frozen=True)
class _Tried:
    """reached: whether row attention was called. random: the random operations that ran. rows: the output for each row's own tokens."""

    reached: bool
    random: set[str]
    rows: list[torch.Tensor]


def _try(model: Any, *, width: int = max(LENGTHS)) -> _Tried:
    called: list[bool] = []
    with plain.on_call(lambda: called.append(True)), _RandomOperations() as seen:
        rows = outputs_of_check(model, width=width)
    return _Tried(bool(called), seen.names, rows)


class _RandomOperations(TorchDispatchMode):
    """Records the names of random operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(word in name for word in _RANDOM_WORDS):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def draws_randomly(model: Any) -> bool:
    """Whether a forward pass in training draws from torch's generator. True also if this cannot be checked."""
    was_training = model.training
    try:
        return bool(_try(model.train()).random)
    except CANNOT:
        return True
    finally:
        model.train(was_training)


def pytorch_dropout_message(reason: str) -> str:
    """The message that PyTorch's dropout is used, and why."""
    return f"PyTorch's dropout is used ({reason}): its masks depend on how a step is cut into micro-batches."


def first_position_layer(model: Any) -> nn.Module | None:
    """The last layer of an encoder whose head reads only the first position; None if it reads more, or has half precision.

    In every execution the mask of that position's query is then drawn separately (`execution/attention.py`).
    """
    layer = plain.last_layer(model)
    if layer is None or any(p.is_floating_point() and p.dtype.itemsize < 4 for p in layer.parameters()):
        return None

    def first_alone(module: nn.Module, given: Any, states_BLH: torch.Tensor) -> torch.Tensor:
        return torch.cat([states_BLH[:, :1], torch.zeros_like(states_BLH[:, 1:])], 1)

    was_training = model.training
    model.eval()
    whole = try_logits(model)
    hook = layer.register_forward_hook(first_alone)
    same = same_outputs(whole, try_logits(model), within=_TOLERANCE)
    hook.remove()
    model.train(was_training)
    return layer if same else None


def draw_first_query_separately(model: Any) -> None:
    """If the head reads only the first position, draw the mask of its query as the fast path does."""
    layer: Any = first_position_layer(getattr(model, "get_base_model", lambda: model)())
    if layer is not None:
        layer.attention.self.draws_first_query_apart = True
