"""The linear layers that an adapter may change: those of a model's body, by full name, and the shortest list that names them.

shortest_names(bert, ["bert.encoder.layer.0.attention.self.query", …])      ["query"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

_KINDS = ("Linear", "Conv1D", "Linear4bit", "Linear8bitLt", "NonDynamicallyQuantizableLinear")


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ in _KINDS


def linear_layers(model: Any, heads: Sequence[str]) -> dict[str, nn.Module]:
    """Full name -> linear layer, in order, without heads and without the output rows."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        name: module
        for name, module in model.named_modules()
        if _is_linear(module) and module is not output and not any(f"{name}.".startswith(f"{head}.") for head in heads)
        and _in_body(model, module)
    }  # fmt: skip


def _in_body(model: Any, module: nn.Module) -> bool:
    return any(module is inner for inner in model.base_model.modules())


def named_layers(layers: Mapping[str, nn.Module], wanted: Sequence[str]) -> list[str]:
    """Those whose name is one of `wanted`, or ends in it after a dot."""
    return [name for name in layers if any(name == one or name.endswith(f".{one}") for one in wanted)]


def shortest_names(model: Any, targets: Iterable[str]) -> list[str]:
    """The last parts of the names where they name these layers and no others, else the full names."""
    targets = set(targets)
    last = sorted({name.rpartition(".")[2] for name in targets})
    meant = {name for name, module in model.named_modules() if name.rpartition(".")[2] in last}
    return last if meant == targets else sorted(targets)


def num_weights(parameter: Any) -> int:
    """Numbers that a parameter stands for: weights of 4 bit are stored two to a byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else packed.shape.numel()


def dtype_name(parameter: Any) -> str:
    """`float32`, or how a rounded weight is stored: `8-bit`, `4-bit`."""
    if getattr(parameter, "quant_state", None) is not None:
        return "4-bit"
    return "8-bit" if type(parameter).__name__ == "Int8Params" else str(parameter.dtype).removeprefix("torch.")
