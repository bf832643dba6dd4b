"""Checkpoints that are complete or absent, and are verified before they are loaded.

    checkpoints/step-00000500/   model.safetensors  optimizer.safetensors  state.json  manifest.json (sha256 of each)

A folder is written under a temporary name, flushed, and renamed into place. Loading checks every file against the manifest; a
damaged checkpoint is reported and the newest complete one before it is used. Tensors are restored by copying in place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tunewright.files.atomic import file_sha256, link_or_copy, read_json, remove_leftovers, whole_folder, write_json

SCHEMA = 1
_PATTERN = "step-*"
_STATE, _MANIFEST = "state.json", "manifest.json"


class CheckpointDamaged(Exception):
    """A checkpoint does not match its manifest."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. state: counters, best score and history, as the run wrote them."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def save(root: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
    """Write the checkpoint of `state["step"]`. Returns its folder once it is safely on disk."""
    path = folder_of(root, state["step"])
    with whole_folder(path) as folder:
        save_file(_unshared(_learned(model)), folder / "model.safetensors")
        tensors, scalars = _optimizer_state(model, optimizer)
        save_file(tensors, folder / "optimizer.safetensors")
        write_json(folder / _STATE, {"schema": SCHEMA, **state, "optimizer_scalars": scalars})
        files = {file.name: _facts(file) for file in sorted(folder.iterdir())}
        write_json(folder / _MANIFEST, {"schema": SCHEMA, "files": files})
    return path


def save_state(root: Path, state: dict[str, Any]) -> None:
    """Replace the state of the checkpoint of `state["step"]`, which this process has just saved; its tensors are not written again."""
    path = folder_of(root, state["step"])
    files = read_json(path / _MANIFEST)["files"]
    scalars = read_json(path / _STATE)["optimizer_scalars"]
    with whole_folder(path) as folder:
        for name in files.keys() - {_STATE}:
            link_or_copy(path / name, folder / name)
        write_json(folder / _STATE, {"schema": SCHEMA, **state, "optimizer_scalars": scalars})
        write_json(folder / _MANIFEST, {"schema": SCHEMA, "files": {**files, _STATE: _facts(folder / _STATE)}})


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def verify(folder: Path) -> Checkpoint:
    """Check every file of a checkpoint. CheckpointDamaged says what is wrong."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        schema = manifest["schema"]
        files = {name: (int(facts["bytes"]), facts["sha256"]) for name, facts in manifest["files"].items()}
    except FileNotFoundError:
        raise CheckpointDamaged("manifest.json is gone") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        raise CheckpointDamaged("manifest.json is broken") from None
    if schema != SCHEMA:
        raise CheckpointDamaged(f"it was written by another version (schema {schema})")
    if set(files) != {"model.safetensors", "optimizer.safetensors", "state.json"}:
        raise CheckpointDamaged("manifest.json is broken")
    for name, (num_bytes, sha256) in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointDamaged(f"{name} is gone")
        if path.stat().st_size != num_bytes:
            raise CheckpointDamaged(f"{name} has {path.stat().st_size:,} bytes, not {num_bytes:,}")
        if file_sha256(path) != sha256:
            raise CheckpointDamaged(f"{name} has changed since it was written")
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if folder.name != folder_of(folder.parent, state["step"]).name:
        raise CheckpointDamaged(f"it is the checkpoint of step {state['step']}")
    return Checkpoint(folder, state)


def newest(root: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest complete checkpoint; damaged ones are reported through `say` and skipped."""
    remove_leftovers(root)
    for folder in sorted(root.glob(_PATTERN), reverse=True):
        try:
            return verify(folder)
        except CheckpointDamaged as damage:
            say(f"Checkpoint {folder.name} is damaged ({damage}); looking for an older one.")
    return None


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy a checkpoint's weights into `model`. CheckpointDamaged if they do not fit this model."""
    own = _learned(model)
    try:
        saved = load_file(checkpoint.folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointDamaged(str(error)) from None
    if _shapes(saved) != _shapes(_unshared(own)):
        raise CheckpointDamaged("its weights are those of another model")
    for name, tensor in saved.items():
        own[name].copy_(tensor)


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore the optimizer's state, bit for bit."""
    saved = load_file(checkpoint.folder / "optimizer.safetensors")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            entries = {
                key: saved[f"{key}/{name}"].clone()
                for key in checkpoint.state["optimizer_scalars"]["keys"]
                if f"{key}/{name}" in saved
            }
            for key, value in entries.items():
                entries[key] = value if value.dim() == 0 else value.to(parameter.device)
                if key == "step" and group.get("fused"):
                    entries[key] = value.to(parameter.device)
            optimizer.state[parameter] = entries


def prune(root: Path, *, keep: int, step: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints (at least two, in case one is damaged) and the best one.

    step: the one just saved. Later ones are damaged, or training would have continued from them.
    """
    folders = sorted(root.glob(_PATTERN))
    kept = set([folder for folder in folders if folder <= folder_of(root, step)][-max(2, keep) :])
    if best_step is not None:
        kept.add(folder_of(root, best_step))
    for folder in folders:
        if folder not in kept:
            doomed = folder.with_name(f".tmp-old-{folder.name}")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """All of a model's tensors; with a PEFT adapter only the trained ones: the base is frozen and loaded again."""
    tensors = model.state_dict()
    if not hasattr(model, "peft_config"):
        return tensors
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in tensors.items() if name in learned}


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights once, under their first name: safetensors refuses shared memory."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    out = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key not in seen or tensor.numel() == 0:
            seen.add(key)
            out[name] = tensor.detach().contiguous()
    return out


def _optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """`exp_avg/bert.…weight` -> tensor for every state tensor, and the names of the kinds of state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, torch.Tensor] = {}
    keys: set[str] = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{key}/{names[id(parameter)]}"] = value.detach().contiguous().clone()
                    keys.add(key)
    return tensors, {"keys": sorted(keys)}
