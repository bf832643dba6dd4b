"""A model's cache of keys and values, by the name that its version of transformers has for it: `cache` from 5.24, `past_key_values` before.

model(ids, **{cache_word(model): cache_of(output)}, use_cache=True)

The old name still works there, and warns at every step; PEFT looks for it in the signature and finds none.
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import Any

_OLD, _NEW = "past_key_values", "cache"


def cache_word(model: Any) -> str:
    """The parameter that takes the cache: of the model, or of the body that it hands its keyword arguments to."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for one in (inner, getattr(inner, "base_model", inner)):
        parameters = inspect.signature(one.forward).parameters
        for word in (_NEW, _OLD):
            if word in parameters:
                return word
    return _OLD


def cache_of(output: Any) -> Any:
    """What a model's output holds, None where it keeps no cache."""
    found = getattr(output, _NEW, None)
    return getattr(output, _OLD, None) if found is None else found


def accept_old_word(module: Any) -> None:
    """Let a module whose pass takes `cache` take `past_key_values` too, and show both in its signature."""
    inner = module.forward
    signature = inspect.signature(inner)
    if _NEW not in signature.parameters or _OLD in signature.parameters:
        return

    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if _OLD in kwargs:
            kwargs[_NEW] = kwargs.pop(_OLD)
        return inner(*args, **kwargs)

    old = inspect.Parameter(_OLD, inspect.Parameter.KEYWORD_ONLY, default=None)
    ordered = sorted([*signature.parameters.values(), old], key=lambda parameter: parameter.kind)
    forward.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    module.forward = forward
