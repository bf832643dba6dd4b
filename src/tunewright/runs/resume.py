"""May a run folder go on with this config? Harmless changes pass, longer training passes and is said, the rest is refused.

compare_configs(saved, now, folder=run)     ["train.epochs: 3.0 -> 5.0, training goes on to the new end"]
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.config.load import load_config
from tunewright.config.renamed import upgraded
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.files.atomic import is_leftover, refused
from tunewright.pretrained.hub import DEFAULT_ENCODER, PACKAGED_ENCODER

HARMLESS = {
    "output",
    "plugins",
    "train.log_every",
    "train.log_to",
    "train.save_every",
    "train.keep_checkpoints",
    "train.micro_batch_tokens",
    "train.device",
    "train.execution",
    "evaluate.baselines",
    "evaluate.worst_rows",
}
RESOLVED = {
    "task.name",
    "train.precision",
    "train.learning_rate",
    "train.head_learning_rate",
    "train.micro_batch_tokens",
}
"""Keys that a run settles when it starts, where they say `auto`; config.yaml in its folder holds what they became."""
_SAME_MODEL = {DEFAULT_ENCODER, PACKAGED_ENCODER}
EXTENDABLE = {"train.epochs", "train.max_steps", "train.early_stopping"}


def check_folder(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """(the config as its run folder settles it, what to tell). UserError for a folder that no run can be written to."""
    folder, saved = config.run_folder, config.run_folder / "config.yaml"
    if saved.is_file():
        before = load_config(saved, of_run=True)
        notes = compare_configs(before, config, folder=folder)
        return settled(before, config), notes
    where = f"output {folder}"
    if folder.exists() and not folder.is_dir():
        raise UserError(
            "the output of a run must be a folder", where=where, found="a file", hint="Choose another output."
        )
    if folder.exists() and not all(map(is_leftover, folder.iterdir())):
        raise UserError("the folder is not empty and does not hold a run", where=where, hint="Choose another output.")
    if reason := refused(folder):
        raise UserError(f"the folder cannot be created ({reason})", where=where, hint="Choose another output.")
    return config, []


def is_finished(config: RunConfig) -> bool:
    """Does the run folder hold a model that this config has nothing to add to?"""
    folder = config.run_folder
    if not (folder / "scores.json").is_file() or not (folder / "model" / "tunewright.json").is_file():
        return False
    saved, now = load_config(folder / "config.yaml", of_run=True).train, config.train
    return (saved.epochs, saved.max_steps, saved.early_stopping) == (now.epochs, now.max_steps, now.early_stopping)


def compare_configs(saved: RunConfig, now: RunConfig, *, folder: Path) -> list[str]:
    """What to tell about changes that are allowed. UserError that shows every change that is not."""
    return _compare(flat(saved.as_dict()), flat(now.as_dict()), folder=folder)


def check_settled(saved: Mapping[str, Any] | None, now: Mapping[str, Any], *, folder: Path) -> None:
    """UserError where a checkpoint was made under another config than the folder's config.yaml says now.

    Keys that the checkpoint does not know are newer than it.
    """
    if saved is None:
        return
    before, after = flat(upgraded(saved, of_run=True)[0]), flat(json.loads(json.dumps(now)))
    _compare(before, {key: value for key, value in after.items() if key in before}, folder=folder)


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], *, folder: Path) -> list[str]:
    changed = [
        key
        for key in after
        if before.get(key) != after[key]
        and not (key in RESOLVED and after[key] == "auto")
        and not (key == "model.name" and {before.get(key), after[key]} == _SAME_MODEL)
    ]
    refused = [
        key for key in changed if key not in HARMLESS | EXTENDABLE or _shortens(key, before.get(key), after[key])
    ]
    if refused:
        shown = "\n".join(f"  {key}: {before.get(key)!r} -> {after[key]!r}" for key in refused)
        raise UserError(
            f"this folder holds a run with another config:\n{shown}",
            where=f"output {folder}",
            hint="Set output to a new folder, or delete this one.",
        )
    return [
        f"{key}: {before.get(key)} -> {after[key]}, training goes on to the new end"
        for key in changed
        if key in EXTENDABLE
    ]


def settled(saved: RunConfig, now: RunConfig) -> RunConfig:
    """`now`, its `auto` values as the run in the folder settled them: a resumed run goes on as it began."""
    values = now.as_dict()
    values["output"] = str(now.run_folder)  # which a hash of the values names, where the user names none
    if values["task"]["name"] == "auto":
        values["task"] = saved.as_dict()["task"]
    for key in RESOLVED:
        section, _, name = key.rpartition(".")
        place, source = (values[section], saved.as_dict()[section]) if section else (values, saved.as_dict())
        if place[name] == "auto":
            place[name] = source[name]
    return RunConfig.model_validate(values).as_found(now.found_by, now.opened)


def _shortens(key: str, before: Any, after: Any) -> bool:
    """Fewer epochs or steps than were planned: some may be behind the run already."""
    return key in ("train.epochs", "train.max_steps") and (after or math.inf) < (before or math.inf)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if (
            isinstance(value, dict)
            and prefix.count(".") == 0
            and key in ("task", "model", "data", "adapter", "train", "evaluate")
        ):
            out |= flat(value, f"{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
