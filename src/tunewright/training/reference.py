"""Reference log-probabilities of the answers, under the start model: computed once, before training, and kept in the token store's folder.

    task = with_reference(task, model, store, encoder, execution)
    store/5f3a…/reference-91c2….safetensors      train (rows, sides)  validation (rows, sides)  …

So training needs only one model in memory. The file is named by the model's weights and the precision; the store's folder determines
the rows. The model is the one that preference tuning starts from, with its adapter switched off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.batching.store import SplitStore, TokenStore
from tunewright.execution.base import Execution
from tunewright.files.atomic import write_whole
from tunewright.records import Batch
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.forward import forward_rows

Log = Callable[[str], None]


def with_reference(
    task: Task,
    model: nn.Module,
    store: TokenStore,
    encoder: TextEncoder,
    execution: Execution,
    *,
    say: Log = lambda _: None,
) -> Any:
    """The task with the reference log-probabilities of every split's answers under `model`. An existing file is used if it is complete.

    With several ranks each computes a share; the first one reads and writes.
    """
    name = f"{weights_hash(model)[:16]}-{execution.precision}{'-mismatched' if task.needs_mismatched else ''}"
    path = store.folder / f"reference-{name}.safetensors"
    num_rows = {split: len(store[split]) for split in store.splits}
    is_main = execution.rank == 0
    found = next(iter(execution.gathered([_read(path, num_rows)] if is_main else [])))
    if found is None:
        say(f"Computing the start model's log-probabilities of {sum(num_rows.values()):,} rows, once.")
        found = {}
        for split in store.splits:
            found |= reference_of(task, model, store[split], encoder, execution)
        if is_main:
            _write(path, found)
    return task.with_reference_log_probs(found)


def reference_of(
    task: Task,
    model: nn.Module,
    split: SplitStore,
    encoder: TextEncoder,
    execution: Execution,
) -> dict[str, np.ndarray]:
    """`{split: (rows, sides)}`, float64: summed log-probabilities of the answers; and of mismatched ones, if the task needs them."""
    batches = {split.name: lambda rows: task.collate(split, rows, encoder, execution.padding)}
    if task.needs_mismatched:
        batches[f"{split.name}.mismatched"] = lambda rows: task.collate_mismatched(
            split, rows, encoder, execution.padding
        )
    return {name: _log_probs(task, model, split, encoder, execution, of) for name, of in batches.items()}


def _log_probs(
    task: Task,
    model: Any,
    split: SplitStore,
    encoder: TextEncoder,
    execution: Execution,
    batch_of: Callable[[np.ndarray], Batch],
) -> np.ndarray:
    def compute(batch: Batch) -> tuple[list[np.ndarray], None]:
        return list(task.log_probs(model, batch)[0].double().cpu().numpy()), None

    name = f"scoring {split.name} with the start model"
    with model.disable_adapter() if _starts_without(model) else nullcontext(), phase(name, len(split)) as shown:
        found, _ = forward_rows(model, encoder, execution, split.lengths, batch_of, compute, progress=shown.reached)
    return np.stack(found)


def weights_hash(model: nn.Module) -> str:
    """A hash of every parameter's name, dtype and bits: the same for the same model, wherever it was loaded from."""
    digest = hashlib.blake2b(digest_size=16)
    adapted = _starts_without(model)
    for name, parameter in model.named_parameters():
        if adapted and parameter.requires_grad:
            continue  # the adapter, which the start model does not have
        flat = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(f"{name}\0{parameter.dtype}\0".encode())
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def _starts_without(model: Any) -> bool:
    """Whether the model has an adapter that is new; one that is kept from another run belongs to the start model."""
    return hasattr(model, "disable_adapter") and not getattr(model, "adapter_is_kept", False)


def _write(path: Path, found: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    write_whole(path, save(dict(found), metadata={"sha256": _sha256(found)}))


def _read(path: Path, num_rows: Mapping[str, int]) -> dict[str, np.ndarray] | None:
    """None if there is no such file, if it does not fit these rows, or if it has changed since it was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            whole = (file.metadata() or {}).get("sha256") == _sha256(found)
    except (FileNotFoundError, SafetensorError):
        return None
    right = all(split in found and len(found[split]) == rows for split, rows in num_rows.items())
    return found if whole and right else None


def _sha256(found: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode())
        digest.update(found[name].tobytes())
    return digest.hexdigest()
