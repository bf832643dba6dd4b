"""Real training steps on a pretended accelerator, in a build of torch for CPUs: `python -m tests.execution.pretended CONFIGS.json`.

torch's slot for other backends (PrivateUse1) is registered from Python: a tensor "on" the device says so and holds a CPU tensor, so
that results are real numbers. Each operator is watched:

    a CPU tensor of one dimension or more meets a device tensor     Mixed is raised, as CUDA would refuse it
    .item(), .tolist(), .cpu(), nonzero, a boolean mask             a wait: the host cannot go on before the device has
    a float64 result                                                counted: Apple's GPUs have none

CONFIGS.json: {name: config}. For each a line of JSON on stdout: relative differences of gradients, counts, or the error. What cannot
be seen here: autocast, kernels that only CUDA has, time and memory. The backend's name is global, hence a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

import tunewright

NAME = "pretended"
_SOURCES = str(Path(tunewright.__file__).parent)
_WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "is_nonzero", "equal", "bincount",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_MAY_MIX = {"copy_", "_to_copy", *_INDEXING}


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def is_autocast_enabled(self) -> bool:
        return False


_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
DEVICE = torch.device(NAME, 0)
torch.__future__.set_swap_module_params_on_conversion(True)


class Mixed(Exception):
    """A tensor on the CPU met one on the device."""


@dataclass
class Counts:
    """Line of ours that asked -> how often. float64: results of that dtype on the device."""

    waits: Counter[str] = field(default_factory=Counter)
    float64: Counter[str] = field(default_factory=Counter)


counts = Counts()


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `held` has the numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> OnDevice:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE, requires_grad=requires_grad,
        )  # fmt: skip

    def __init__(self, held: torch.Tensor, requires_grad: bool = False) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    def tolist(self) -> Any:
        counts.waits[f"tolist, {_place()}"] += 1
        return self.held.tolist()

    def numpy(self) -> Any:  # type: ignore[override]
        raise TypeError("a device tensor has no NumPy array: call .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _place() -> str:
    """The innermost line of the package on the stack."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_SOURCES)]
    if not frames:
        return "outside of tunewright"
    return f"{frames[-1].filename[len(_SOURCES) + 1 :]}:{frames[-1].lineno} {frames[-1].name}"


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    if torch.is_inference_mode_enabled() and func._can_decompose():  # there `to` and `matmul` arrive whole
        with _mode or contextlib.nullcontext():
            done = func.decompose(*args, **kwargs)
        if done is not NotImplemented:
            return done
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    on_device = [x for x in tensors if isinstance(x, OnDevice)]
    on_cpu = [x for x in tensors if not isinstance(x, OnDevice)]
    device = kwargs.get("device")
    if on_device:
        _watch(name, args, kwargs, on_device, on_cpu)
    goes_to_device = bool(on_device) if device is None else _is_ours(device)
    if device is not None and _is_ours(device):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(x.held): x for x in on_device}
    held = tree_map(lambda x: x.held if isinstance(x, OnDevice) else x, (args, kwargs))
    found = func(*held[0], **held[1])
    if name == "_local_scalar_dense":
        return found

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, OnDevice) or not goes_to_device:
            return x
        if id(x) in known:
            return known[id(x)]
        if any(x is y for y in on_cpu):
            return x
        if x.dtype == torch.float64:
            counts.float64[f"{name}, {_place()}"] += 1
        return OnDevice(x)

    return tree_map(wrapped, found)


def _watch(name: str, args: Any, kwargs: Any, on_device: list[OnDevice], on_cpu: list[torch.Tensor]) -> None:
    device = kwargs.get("device")
    leaves_device = name == "_to_copy" and device is not None and not _is_ours(device)
    if name in _WAITING or leaves_device or (name == "copy_" and on_cpu and not isinstance(args[0], OnDevice)):
        counts.waits[f"{name}, {_place()}"] += 1
    if name in _INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        counts.waits[f"boolean mask, {_place()}"] += 1
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        counts.waits[f"{name}, {_place()}"] += 1
    if name not in _MAY_MIX and (strays := [tuple(x.shape) for x in on_cpu if x.dim()]):
        raise Mixed(f"{name}: {[tuple(x.shape) for x in on_device]} on the device, {strays} on the CPU, at {_place()}")


_mode: TorchDispatchMode | None = None


class Pretending(TorchDispatchMode):
    """Inside, the device exists."""

    def __enter__(self) -> Any:
        global _mode
        _mode = self
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device=…)` becomes a copy that can be watched
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self.before)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


# What is asked of each configuration


def report(values: dict[str, Any]) -> dict[str, Any]:
    """exact: the largest difference of a gradient on the device from fp64 on the CPU, without dropout, over the gradient's norm.
    cuts: that of two cuts, with dropout. waits: lines and counts, of one step. micro_batches: of that step."""
    from tunewright.execution.row_dropout import RowDropout
    from tunewright.runs import setup
    from tunewright.training import processes

    alone = setup.build_components(_config(values, "cpu"))
    alone.model.double()
    alone = replace(alone, execution=replace(alone.execution, precision="fp64"))
    reference = _gradient(alone, budget=10**6, dropout=False)
    choose = processes.choose_device
    processes.choose_device = lambda name: DEVICE
    try:
        with Pretending():
            parts = setup.build_components(_config(values, "device"))
            strays = [name for name, p in [*parts.model.named_parameters(), *parts.model.named_buffers()] if not isinstance(p, OnDevice)]  # fmt: skip
            exact = _difference(_gradient(parts, budget=10**6, dropout=False), reference)
            whole = _gradient(parts, budget=10**6)
            counts.waits.clear()
            counts.float64.clear()
            cut = _gradient(parts, budget=100)
            waits, float64 = dict(counts.waits), dict(counts.float64)
            pieces = len(replace(parts.execution, token_budget=100).split(parts.rows.lengths[:16])[0])
            told = {"evaluation": _evaluate(parts)}
    finally:
        processes.choose_device = choose
    drops = any(isinstance(module, RowDropout) and module.p for module in parts.model.modules())
    return {
        "strays": strays, "exact": exact, "cuts": _difference(cut, whole), "drops": drops, "waits": waits,
        "float64": float64, "micro_batches": pieces, **told,
    }  # fmt: skip


def _config(values: dict[str, Any], where: str) -> Any:
    from tunewright.config.load import parse_config

    execution = "plain" if where == "cpu" else "auto"
    train = {**values["train"], "precision": "fp32", "execution": execution}
    return parse_config({**values, "train": train, "output": f"{values['output']}-{where}"})


def _gradient(parts: Any, *, budget: int, dropout: bool = True) -> dict[str, torch.Tensor]:
    from tunewright.training.engine import accumulate_gradient

    parts.model.zero_grad(set_to_none=True)
    rates = {module: module.p for module in parts.model.modules() if isinstance(module, torch.nn.Dropout)}
    attention = {module: module.attention_dropout for module in parts.model.modules() if hasattr(module, "attention_dropout")}  # fmt: skip
    if not dropout:
        for module in rates:
            module.p = 0.0
        for module in attention:
            if isinstance(module.attention_dropout, float):
                module.attention_dropout = 0.0
    weights = parts.task.for_epoch(seed=3, epoch=1).weights(parts.rows)
    accumulate_gradient(
        parts.model.train(), parts.task, parts.rows, parts.encoder, np.arange(16), weights,
        seed=3, epoch=1, step=2, execution=replace(parts.execution, token_budget=budget),
    )  # fmt: skip
    for module, p in rates.items():
        module.p = p
    for module, p in attention.items():
        module.attention_dropout = p
    found = {name: p.grad for name, p in parts.model.named_parameters() if p.grad is not None}
    return {name: (grad.held if isinstance(grad, OnDevice) else grad).double() for name, grad in found.items()}


def _difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    if found.keys() != expected.keys():
        return float("nan")
    norm = float(torch.sqrt(sum((grad**2).sum() for grad in expected.values())))  # type: ignore[arg-type]
    return max(float((found[name] - grad).abs().max()) for name, grad in expected.items()) / norm


def _evaluate(parts: Any) -> float:
    from tunewright.evaluation.score_split import evaluate_split

    found = evaluate_split(parts.model, parts.task, parts.rows, parts.encoder, execution=parts.execution)
    return float(found.metrics["loss"])


def main() -> None:
    for name, values in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")).items():
        try:
            found = report(values)
        except Exception as error:
            lines = traceback.format_exception(error)
            found = {"error": f"{type(error).__name__}: {error}", "trace": "".join(lines)[-3000:]}
        print(json.dumps({"name": name, **found}), flush=True)


if __name__ == "__main__":
    main()
