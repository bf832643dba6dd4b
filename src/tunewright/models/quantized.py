"""A base whose linear layers are stored in 8 or 4 bit, by bitsandbytes, while what is computed with them stays whole.

quantize(model, heads, 4, device)     in place: the body's linear layers are stored in NF4 (Dettmers et al. 2023)
rounded(model, heads, 4, device)      in place: plain layers that hold the numbers those would stand for

A product takes the stored numbers back to floating point first, in the direction of the gradient too. So it depends on no other row
of the batch (LLM.int8() rounds activations by the batch they are in), and a model saved with `rounded` weights answers as it was
trained: what is served needs no bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunewright.errors import UserError, quoted
from tunewright.models.linear import linear_layers
from tunewright.pretrained.quiet import quiet_transformers


def check(bits: int, device: torch.device) -> None:
    """UserError where bitsandbytes is not installed, or does not know the device."""
    where = f"model.quantize {bits}bit"
    try:
        with quiet_transformers():
            import bitsandbytes
    except ImportError as error:
        raise UserError(
            f"bitsandbytes does not work here ({error})",
            where=where,
            hint='Install it (pip install "tunewright[quant]"), or leave model.quantize at none.',
        ) from None
    known = getattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    if device.type not in known:
        raise UserError(
            "bitsandbytes does not support this device",
            where=where,
            found=str(device),
            expected=quoted(sorted(known)),
            hint="Set train.device to one of these, or leave model.quantize at none.",
        )


def quantize(model: Any, heads: Sequence[str], bits: int, device: torch.device) -> int:
    """Store the linear layers of the body in `bits`, on `device`; heads stay whole. Returns the bytes this saves.

    heads: full names of modules that learn whole. UserError where there is no such layer, or no bitsandbytes.
    """
    check(bits, device)
    saved = 0
    for name, layer in _layers(model, heads, bits).items():
        small = _stored(layer, bits, device)
        saved += layer.weight.nbytes - small.weight.nbytes
        model.set_submodule(name, small)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = bits == 4, bits == 8  # PEFT looks here
    return saved


def rounded(model: Any, heads: Sequence[str], bits: int, device: torch.device) -> None:
    """Give the same layers the numbers that `bits` store, in their own dtype."""
    check(bits, device)
    for layer in _layers(model, heads, bits).values():
        whole = _whole(_stored(layer, bits, device)).to(layer.weight.device)
        layer.weight.data = (whole.T if _is_transposed(layer) else whole).contiguous()


def _layers(model: Any, heads: Sequence[str], bits: int) -> dict[str, Any]:
    if found := linear_layers(model, heads):
        return found
    raise UserError(
        "the model has no linear layers to quantize",
        where=f"model.quantize {bits}bit",
        found=type(model).__name__,
        hint="Leave model.quantize at none.",
    )


def _is_transposed(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Conv1D"  # GPT-2's: inputs × outputs


def _stored(layer: Any, bits: int, device: torch.device) -> Any:
    """A layer of bitsandbytes with the weight of `layer`, quantized on `device`."""
    import bitsandbytes

    weight = (layer.weight.T if _is_transposed(layer) else layer.weight).detach().contiguous()
    num_outputs, num_inputs = weight.shape
    shape = (num_inputs, num_outputs, layer.bias is not None)
    small: Any
    if bits == 4:
        small = bitsandbytes.nn.Linear4bit(*shape, quant_type="nf4", compress_statistics=False, device="meta")
        small.weight = bitsandbytes.nn.Params4bit(
            weight, requires_grad=False, quant_type="nf4", compress_statistics=False, module=small
        )
    else:
        small = bitsandbytes.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=0.0, device="meta")
        small.weight = bitsandbytes.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    small.bias = layer.bias
    small = small.to(device).requires_grad_(False)
    small.forward = _Forward(small, weight.dtype)
    return small


class _Forward:
    """y = W x + b with W taken back to floating point: stands where bitsandbytes' own forward pass would."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        kind = states.device.type
        if torch.is_autocast_enabled(kind):
            states = states.to(torch.get_autocast_dtype(kind))
        product = _Product.apply(states, self.layer)
        bias = self.layer.bias
        return product if bias is None else product + bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x Wᵀ; W is made anew for the gradient, not kept between the passes."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer = layer
        with torch.autocast(states.device.type, enabled=False):
            return functional.linear(states, _whole(layer).to(states.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        with torch.autocast(gradient.device.type, enabled=False):
            return gradient @ _whole(ctx.layer).to(gradient.dtype), None


def _whole(layer: Any) -> torch.Tensor:
    """The weight as floating point numbers, outputs × inputs, in the dtype that it was quantized from."""
    from bitsandbytes import functional as stored

    if hasattr(layer.weight, "quant_state"):
        return stored.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    scales = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
    return stored.int8_vectorwise_dequant(layer.weight.data, scales).to(layer.forward.dtype)


__all__ = ["check", "quantize", "rounded"]
