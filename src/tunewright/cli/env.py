"""tunewright env [--json]"""

from __future__ import annotations

import json
from typing import Any

from tunewright.cli.options import Json

NAME = "env"


def run(as_json: Json = False) -> None:
    """Print what a bug report needs: versions, processor, memory and devices. No paths."""
    from tunewright.runs.environment import report

    found = report()
    if as_json:
        print(json.dumps({"schema": 1, **found}))
        return
    print("\n".join(f"{label:<11}{text}" for label, text in lines(found)))


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Each fact with its label, as it is pasted into a report."""
    cpu, packages = found["cpu"], found["packages"]
    sizes = [f", {device['memory_gb']} GB" if device["memory_gb"] else "" for device in found["devices"]]
    devices = [f"{device['name']}{size}" for device, size in zip(found["devices"], sizes, strict=True)]
    if "torch" in cpu:
        computing = [("torch", cpu["torch"])]
    else:
        computing = [
            (
                "computing",
                f"{cpu['threads_used']} threads, {cpu['instructions']}; train.precision=auto is {cpu['precision']}",
            ),
            ("devices", "; ".join(devices) or "none besides the cpu"),
        ]
    variables = " ".join(f"{name}={value}" for name, value in found["variables"].items())
    return [
        ("tunewright", found["tunewright"]),
        ("python", f"{found['python']}, {found['system']}"),
        ("cpu", f"{cpu['name']}, {cpu['cores']} cores, {cpu['threads']} threads"),
        ("memory", f"{found['memory_gb']} GB"),
        *computing,
        *([("variables", variables)] if variables else []),
        *(("" if number else "packages", f"{name} {version}") for number, (name, version) in enumerate(packages.items())),
        *(("notice", f"newer than what was tested: {one}") for one in found["newer_than_tested"]),
    ]  # fmt: skip
