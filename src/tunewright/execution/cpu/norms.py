"""Root mean square norms (Zhang and Sennrich, 2019) with a hand-written backward pass instead of a recorded one.

    y = x / sqrt(mean(x²) + eps) · scale          one operation for autograd, which otherwise records six and sums what it broadcast

The models of transformers each have a class that computes this with single operations (Llama's, Qwen's, T5's; Gemma's scales
by 1 + weight). On a CPU a training step of a small Llama takes 5 % longer with those. Installed only if a check of the module gives
the same results.

Shapes: T tokens (all leading dimensions), H features.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from tunewright.execution.cpu.workspace import in_dtype, scratch
from tunewright.execution.equivalence_check import try_logits

_EPS = ("variance_epsilon", "eps")
_SCALED_BY_WEIGHT, _BY_WEIGHT_AND_ONE = 0.0, 1.0
_PRODUCTS, _WIDE, _GRAD = "norm products", "norm", "norm grad"  # slots of scratch memory
_TOLERANCE = 1e-5


def install_fused_rms_norm(model: nn.Module) -> int:
    """Let every RMS norm of `model` compute its gradient in one operation; returns their number. For computing on a CPU."""
    found = 0
    for module in model.modules():
        one = _added_to_weight(module)
        if one is not None:
            # As a partial, not a closure: in a copy of the model it is bound to the copy.
            module.forward = partial(_forward, module, module.forward, one)
            found += 1
    return found


def emit_bf16_from_norms(model: nn.Module) -> bool:
    """Let the norms return bf16 under autocast, rounding once for all layers that would each round their states.

    Only if the next layers round them anyway: the logits of a check are bit-identical. Else False, and nothing changed.
    """
    norms: list[Any] = [module for module in model.modules() if _is_fused(module)]
    if not norms:
        return False
    was_training = model.training
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        before = try_logits(model)
        for norm in norms:
            norm.gives_bf16 = True
        after = try_logits(model)
    model.train(was_training)
    if before and after and all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        return True
    for norm in norms:
        del norm.gives_bf16
    return False


def _is_fused(module: nn.Module) -> bool:
    forward = vars(module).get("forward")
    return isinstance(forward, partial) and forward.func is _forward


def _added_to_weight(module: nn.Module) -> float | None:
    """What the norm adds to its weight before scaling by it, determined from its output; None if the module is not an RMS norm."""
    weight, eps = getattr(module, "weight", None), _eps(module)
    if eps is None or not isinstance(weight, nn.Parameter) or weight.dim() != 1 or "forward" in vars(module):
        return None
    if any(True for _ in module.children()) or len(list(module.parameters())) != 1 or weight.dtype.itemsize < 4:
        return None
    # Small numbers, so that eps matters; and different ones, so that a subtracted mean would show.
    x_TH = torch.linspace(-1, 3, 3 * len(weight), dtype=weight.dtype, device=weight.device).view(3, -1) * eps**0.5
    with torch.no_grad():
        try:
            given_TH = module(x_TH)
        except Exception:  # a module that needs more than states may raise anything
            return None
        for one in (_SCALED_BY_WEIGHT, _BY_WEIGHT_AND_ONE):
            ours_TH = _RootMeanSquareNorm.apply(x_TH, weight, eps, one, x_TH.dtype)
            if _same(given_TH, ours_TH):
                return one
    return None


def _same(given: Any, ours: torch.Tensor) -> bool:
    if not isinstance(given, torch.Tensor) or given.shape != ours.shape or given.dtype != ours.dtype:
        return False
    return bool(ours.any()) and torch.allclose(given, ours, rtol=_TOLERANCE, atol=_TOLERANCE * float(ours.abs().max()))


def _eps(module: nn.Module) -> float | None:
    found = next((getattr(module, name) for name in _EPS if hasattr(module, name)), None)
    return found if isinstance(found, float) and found > 0 else None


def _forward(module: nn.Module, stock: Any, one: float, *args: Any, **kwargs: Any) -> torch.Tensor:
    x_TH = args[0] if len(args) == 1 and not kwargs else None
    if x_TH is None or x_TH.dtype != module.weight.dtype or x_TH.device.type != "cpu":
        return stock(*args, **kwargs)
    rounds = getattr(module, "gives_bf16", False) and torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if rounds else x_TH.dtype
    return _RootMeanSquareNorm.apply(x_TH, module.weight, _eps(module), one, dtype)


class _RootMeanSquareNorm(torch.autograd.Function):
    """With r = 1 / sqrt(mean(x²) + eps), s the scale and g the gradient of y: d x = r g s - x r³ mean(g x s), d s = Σ_T g x r."""

    @staticmethod
    def forward(ctx, x, weight, eps, one, dtype):
        root_T1 = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse_T1 = root_T1.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        scale_H = weight + one if one else weight
        ctx.save_for_backward(x, scale_H, inverse_T1)
        if dtype == x.dtype:
            return (x * inverse_T1).mul_(scale_H)
        return torch.mul(x, inverse_T1, out=scratch(_WIDE, x.shape, x.dtype)).mul_(scale_H).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        x, scale_H, inverse_T1 = ctx.saved_tensors
        grad = in_dtype(x.dtype, grad, _GRAD)
        products_TH = torch.mul(grad, x, out=scratch(_PRODUCTS, x.shape, x.dtype)).flatten(0, -2)
        inverse_T = inverse_T1.flatten()
        d_x = d_weight = None
        if ctx.needs_input_grad[0]:
            from_root_T = torch.mv(products_TH, scale_H).div_(-x.shape[-1]).mul_(inverse_T.pow(3))
            d_x = (grad * scale_H).mul_(inverse_T1).addcmul_(x, from_root_T.view_as(inverse_T1))
        if ctx.needs_input_grad[1]:
            d_weight = torch.mv(products_TH.T, inverse_T)
        return d_x, d_weight, None, None, None
