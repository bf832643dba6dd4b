"""How a step is computed: the interface between the engine and the code that computes.

    before_models(AUTO)                                           # once, before a model is built
    execution = prepare_model(model, Wanted(precision="bf16"))    # with one process on a CPU the fast path, else the plain one
    execution.split(lengths), execution.run(…), execution.step(optimizer)

`train.execution: plain` chooses `base.Execution` and no changes of a model but those that key dropout by row. The CPU fast path is in
`cpu/`, that of GPUs in `gpu.py`; only this file imports them. Without the folder `cpu/` the plain execution is used.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tunewright.errors import UserError
from tunewright.execution.base import AUTO, PLAIN, PYTORCH, Execution, Wanted, usual_tokens
from tunewright.execution.row_keyed import (
    draw_first_query_separately,
    draws_randomly,
    install_row_keyed_dropout_and_attention,
    pytorch_dropout_message,
)

Log = Callable[[str], object]


def before_models(execution: str) -> None:
    """Prepare the process. To be called before a model is built. UserError for an unknown execution."""
    if execution not in (AUTO, PLAIN):
        raise UserError("no such execution", where="execution", found=execution, expected="auto or plain")
    if fast := _fast_path(execution):
        fast.keep_freed_memory()


def prepare_model(model: Any, wanted: Wanted, *, say: Log = lambda _: None) -> Execution:
    """Change how a model, still on the CPU, computes, but not its results; returns the execution. say: called if dropout may depend on the cut."""
    on_cpu = wanted.device.type == "cpu"
    if not on_cpu and wanted.execution != PLAIN:
        from tunewright.execution import gpu

        return gpu.prepare_model(model, wanted, say=say)
    if on_cpu and wanted.num_ranks == 1 and (fast := _fast_path(wanted.execution)):
        return fast.prepare_model(model, wanted, say=say)
    if wanted.is_training and wanted.dropout != PYTORCH:
        _key_dropout_by_row(model, wanted, say)
    return Execution(**wanted.values(usual_tokens(wanted)))


def _key_dropout_by_row(model: Any, wanted: Wanted, say: Log) -> None:
    if not draws_randomly(model):
        return
    reason = install_row_keyed_dropout_and_attention(model)
    if reason is None:
        draw_first_query_separately(model)
    elif reason:
        say(pytorch_dropout_message(reason))
    if not reason and wanted.device.type != "cpu":
        say(
            "Dropout masks belong to rows and are drawn on the CPU, which is slow; train.execution=auto draws them on the device."
        )


def _fast_path(execution: str) -> ModuleType | None:
    if execution == PLAIN:
        return None
    try:
        import tunewright.execution.cpu as fast
    except ImportError as error:
        if error.name not in (None, "tunewright.execution.cpu"):
            raise  # a library that the fast path needs is missing
        return None
    return fast
