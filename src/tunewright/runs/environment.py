"""What bit-identical results depend on: recorded with every checkpoint, compared when one is resumed.

describe("cpu")     {"torch": "2.13.0", "threads": 2, "instructions": "AVX512", "ranks": 1, "execution": "cpu", …}
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from tunewright import __version__

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def describe(execution: str) -> dict[str, Any]:
    """execution: the name of the one that computes the steps."""
    import torch

    return {
        "python": platform.python_version(),
        "tunewright": __version__,
        **{name: version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "execution": execution,
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`threads was 2, is 1` for everything that has changed and was recorded."""
    return [f"{key} was {before[key]}, is {value}" for key, value in now.items() if before.get(key, value) != value]
