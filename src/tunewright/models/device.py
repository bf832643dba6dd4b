"""Which device a model is computed on, and in which precision: what the machine says of itself, never how fast it seemed.

choose_device("auto")                        device("cpu")
resolve_precision("auto", device("cpu"))     "bf16" where this processor multiplies bf16 matrices faster than fp32 ones
"""

from __future__ import annotations

import torch

from tunewright.errors import UserError, first_line


def fast_bf16(device: torch.device) -> bool:
    """Does the device multiply bf16 matrices faster than fp32 ones?"""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _multiplies_bf16()
    return False


def resolve_precision(wanted: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the device is fast at it, else fp32."""
    return ("bf16" if fast_bf16(device) else "fp32") if wanted == "auto" else wanted


def _multiplies_bf16() -> bool:
    """Does this processor multiply bf16 matrices faster than fp32 ones? It is asked and not timed: a machine must choose alike every time.

    Those with AMX have tiles for it (4 times fp32). AMD's avx512_bf16 does two products where fp32 does one (2.3 times on an
    EPYC of the fourth generation); an Intel Xeon with the same instructions and no AMX was slower in bf16 (0.6 times).
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        able = capabilities()
        by_amd = str(able.get("cpu_name", "")).startswith("AMD")
        return bool(able.get("amx_bf16") or (by_amd and able.get("avx512_bf16")))
    older = getattr(torch.cpu, "_is_amx_tile_supported", None)  # before torch 2.11
    return older is not None and bool(older())


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one. UserError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"no device {name!r} here ({first_line(error, limit=120)})",
            where="train.device",
            hint="Set train.device=auto.",
        ) from None
    return device
