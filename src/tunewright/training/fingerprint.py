"""Hashes of a run's rows and base model: kept with every checkpoint, so that no run continues with other rows or another base.

origin_of(parts)      {"rows": "5f3a…", "base": None}
check(saved, now, folder=run)        UserError if a file or the model was replaced while the run was stopped
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.files.atomic import json_sha256
from tunewright.training.reference import weights_hash

_REASON = {
    "rows": ("the rows are not those that this run began with", "the data files (or the tokenizer) have changed"),
    "base": ("the model is not the one that this run began with", "its weights have changed"),
}


def origin_of(parts: Any) -> dict[str, str | None]:
    """rows: of every split in the token store, and the labels. base: weights that are in no checkpoint; None if checkpoints hold all weights.

    To be called before a checkpoint is loaded.
    """
    stays = parts.task.needs_reference or not all(p.requires_grad for p in parts.model.parameters())
    return {
        "rows": hash_of_rows(parts.prepared.store.manifest),
        "base": weights_hash(parts.model) if stays else None,
    }


def hash_of_rows(manifest: Mapping[str, Any]) -> str:
    """sha256 of the rows and labels in a token store's manifest: the same in the process that made the store and in all that open it."""
    return json_sha256([manifest["splits"], manifest["task_state"]])


def _first_hash_of_rows(manifest: Mapping[str, Any]) -> str:
    """The hash that the process which made the store computed up to version 0.1: numbers of rejected rows sorted as numbers, not as texts."""
    splits = {
        name: {**split, "shards": [_with_numbers(shard) for shard in split["shards"]]}
        for name, split in manifest["splits"].items()
    }
    rows = json.dumps([splits, manifest["task_state"]], sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()


def _with_numbers(shard: Mapping[str, Any]) -> dict[str, Any]:
    return {**shard, "rejected": {int(number): why for number, why in shard["rejected"].items()}}


def check(
    saved: Mapping[str, str | None],
    now: Mapping[str, str | None],
    *,
    folder: Path,
    manifests: Sequence[Mapping[str, Any]] = (),
    hint: str = "Restore the old files, or set output to a new folder.",
) -> None:
    """UserError at the first part that is recorded and differs now. manifests: of the token store with these rows,
    as any version may have written it."""
    for part, (problem, found) in _REASON.items():
        if part not in saved or part not in now or saved[part] == now[part]:
            continue
        if part == "rows" and any(saved[part] in (hash_of_rows(one), _first_hash_of_rows(one)) for one in manifests):
            continue
        raise UserError(problem, where=f"output {folder}", found=found, hint=hint)
