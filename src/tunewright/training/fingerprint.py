"""What a run is made from, as hashes: kept with every checkpoint, so that no run goes on with other rows or another base.

origin_of(parts)      {"rows": "5f3a…", "base": None}
check(saved, now, folder=run)        UserError where a file or the model was exchanged while the run stood still
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
    """rows: what the token store holds of every split, and its labels. base: weights that no checkpoint holds, None where each holds all.

    To be asked before a checkpoint is taken up.
    """
    stays = parts.task.needs_reference or not all(p.requires_grad for p in parts.model.parameters())
    return {
        "rows": hash_of_rows(parts.prepared.store.manifest),
        "base": weights_hash(parts.model) if stays else None,
    }


def hash_of_rows(manifest: Mapping[str, Any]) -> str:
    """sha256 over what a token store's manifest says of its rows and labels: the same in the process that made the store and in all that open it."""
    return json_sha256([manifest["splits"], manifest["task_state"]])


def _first_hash_of_rows(manifest: Mapping[str, Any]) -> str:
    """What the process that made the store took for the hash up to version 0.1: numbers of rejected rows sorted as numbers, not as texts."""
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
    hint: str = "Put back what was there, or set output to a new folder.",
) -> None:
    """UserError at the first part that is known and another one now. manifests: of the token store whose rows are meant,
    as any version may have written it."""
    for part, (problem, found) in _REASON.items():
        if part not in saved or part not in now or saved[part] == now[part]:
            continue
        if part == "rows" and any(saved[part] in (hash_of_rows(one), _first_hash_of_rows(one)) for one in manifests):
            continue
        raise UserError(problem, where=f"output {folder}", found=found, hint=hint)
