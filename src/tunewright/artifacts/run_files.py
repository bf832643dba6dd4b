"""What a finished run leaves beside its model: sealed by RUN/manifest.json when the run ends, and looked at where it is read.

    seal(run, scores)                  config.yaml, ledger.json, rejected.jsonl, metrics.jsonl, scores.json; the manifests of model/ …
    changed_run_files(run)             ["scores.json"] where somebody has edited it since

`scores.json` makes a run a finished one, so it is written last; before that no manifest stands for what is still growing, and
what a resumed run reads is kept with each checkpoint: `state_of`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.files.atomic import file_sha256, json_text, write_json, write_whole
from tunewright.files.manifests import MANIFEST, SCHEMA, changed_files, describe_change

SCORES, CONFIG, METRICS = "scores.json", "config.yaml", "metrics.jsonl"
_FILES = (CONFIG, "ledger.json", "rejected.jsonl", METRICS)
_PARTS = ("model", "base", "adapter")
_SEALED = "sealed"
"""Key of scores.json: there is a manifest, or somebody has taken it away."""


def seal(run: Path, scores: Mapping[str, Any]) -> None:
    """Write scores.json, and before it the manifest that all of the run's files are held against from now on."""
    text = json_text({**scores, _SEALED: True})
    present = [name for name in (*_FILES, *(f"{part}/{MANIFEST}" for part in _PARTS)) if (run / name).is_file()]
    files = {name: file_sha256(run / name) for name in present}
    files[SCORES] = hashlib.sha256(text.encode()).hexdigest()
    write_json(run / MANIFEST, {"schema": SCHEMA, "files": files})
    write_whole(run / SCORES, text)


def unseal(run: Path) -> None:
    """A run that goes on is not a finished one: its files grow again."""
    for name in (SCORES, MANIFEST):
        (run / name).unlink(missing_ok=True)


def changed_run_files(run: Path, *, remember: bool = True) -> list[str]:
    """Of a finished run's files those that are not what it wrote. Empty for runs without a manifest: older, or not finished.

    Of the parts that may be deleted to save room (`base/`, `adapter/` of a merged model) nothing is asked where they are gone.
    """
    if not (run / MANIFEST).exists():
        return [MANIFEST] if _says_sealed(run / SCORES) else []
    listed = changed_files(run, only=(*_FILES, SCORES, *(f"{part}/{MANIFEST}" for part in _PARTS)), remember=remember)
    return [name for name in listed if "/" not in name or (run / name).parent.is_dir()]


def _says_sealed(scores: Path) -> bool:
    try:
        return json.loads(scores.read_text(encoding="utf-8"))[_SEALED] is True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def said(run: Path, name: str) -> str:
    """`RUN/scores.json has changed since it was written.`"""
    return f"{run / name} {describe_change(run, name)}."


def state_of(metrics: Path) -> dict[str, Any]:
    """What a checkpoint keeps of metrics.jsonl: how long it was and what it held, so that a resumed run knows it again."""
    data = metrics.read_bytes() if metrics.is_file() else b""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def is_known(metrics: Path, state: Mapping[str, Any] | None) -> bool:
    """Does metrics.jsonl still begin as it did when the checkpoint was written? True where the checkpoint does not tell."""
    if not state:
        return True
    data = metrics.read_bytes()[: state["bytes"]] if metrics.is_file() else b""
    return hashlib.sha256(data).hexdigest() == state["sha256"]
