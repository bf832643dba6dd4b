"""May a run folder go on with this config? Harmless changes pass, longer training passes and is said, the rest is refused.

compare_configs(saved, now, folder=run)     ["train.epochs: 3.0 -> 5.0, training goes on to the new end"]
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tunewright.config import RunConfig
from tunewright.errors import UserError

HARMLESS = {
    "output",
    "train.log_every",
    "train.log_to",
    "train.save_every",
    "train.keep",
    "train.micro_batch_tokens",
    "train.device",
    "evaluate.baselines",
    "evaluate.worst_rows",
}
RESOLVED = {"task", "train.precision", "train.learning_rate", "train.head_learning_rate", "train.micro_batch_tokens"}
"""Keys that a run settles when it starts, where they say `auto`; config.yaml in its folder holds what they became."""
EXTENDABLE = {"train.epochs", "train.max_steps", "train.early_stopping"}


def compare_configs(saved: RunConfig, now: RunConfig, *, folder: Path) -> list[str]:
    """What to tell about changes that are allowed. UserError that shows every change that is not."""
    before, after = flat(saved.as_dict()), flat(now.as_dict())
    changed = [key for key in after if before.get(key) != after[key] and not (key in RESOLVED and after[key] == "auto")]
    refused = [
        key for key in changed if key not in HARMLESS | EXTENDABLE or _shortens(key, before.get(key), after[key])
    ]
    if refused:
        shown = "\n".join(f"  {key}: {before.get(key)!r} -> {after[key]!r}" for key in refused)
        raise UserError(
            f"this folder holds a run with another config:\n{shown}",
            where=f"output {folder}",
            mend="Set output to a new folder, or delete this one.",
        )
    return [
        f"{key}: {before.get(key)} -> {after[key]}, training goes on to the new end"
        for key in changed
        if key in EXTENDABLE
    ]


def settled(saved: RunConfig, now: RunConfig) -> RunConfig:
    """`now`, its `auto` values as the run in the folder settled them: a resumed run goes on as it began."""
    values = now.as_dict()
    for key in RESOLVED:
        section, _, name = key.rpartition(".")
        place, source = (values[section], saved.as_dict()[section]) if section else (values, saved.as_dict())
        if place[name] == "auto":
            place[name] = source[name]
    return RunConfig.model_validate(values)


def _shortens(key: str, before: Any, after: Any) -> bool:
    """Fewer epochs or steps than were planned: some may be behind the run already."""
    return key in ("train.epochs", "train.max_steps") and (after or math.inf) < (before or math.inf)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and prefix.count(".") == 0 and key in ("model", "data", "train", "evaluate"):
            out |= flat(value, f"{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
