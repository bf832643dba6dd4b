"""What a run keeps: `model/` with golden examples; with an adapter also `adapter/` (PEFT's layout) and `base/`.

RUN/model/     plain, the adapter merged into it; of prefix and prompt tuning tokenizer and tunewright.json alone
RUN/adapter/   adapter_config.json  adapter_model.safetensors  tunewright.json (which base: name, revision, content)
RUN/base/      the base as training began: its fresh head, its labels

Whatever can be written before the first step is written then (the tokenizer, the base). The weights are saved right after the last
step; steps that may fail (golden examples, merging) only complete them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.adapters.base import added_rows, attach, base_dtype, fit_virtual_tokens, round_base
from tunewright.adapters.config import NONE, adapter_of
from tunewright.adapters.peft_files import read_config
from tunewright.artifacts import golden_examples
from tunewright.artifacts.model_folder import (
    SCHEMA,
    SavedModel,
    add_to_model,
    changed_files,
    save_model,
    save_tokenizer,
    write_manifest,
)
from tunewright.errors import UserError, first_line
from tunewright.files.atomic import file_sha256, whole_folder, write_json
from tunewright.files.manifests import MANIFEST
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tasks.base import Task

BASE, ADAPTER = "base", "adapter"
TOKENIZER = "checkpoints/tokenizer"


def save_beginning(run: Path, parts: Any, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a run leaves and can be written before it learns anything: the tokenizer; of one with an adapter `base/`.

    known: their hashes, as the checkpoint has them that the run goes on from; what is no longer that is written anew. Gives the hashes.
    """
    written = {TOKENIZER: partial(save_tokenizer, run / TOKENIZER, parts.task, parts.encoder)}
    if adapter_of(parts.config.adapter) is not None:
        written[BASE] = partial(_save_base, run / BASE, parts)
    for name, write in written.items():
        if not _is_as_known(run / name, (known or {}).get(name)):
            write()
    return {name: file_sha256(run / name / MANIFEST) for name in written}


def _is_as_known(folder: Path, sha256: str | None) -> bool:
    """Does the folder's manifest have this hash, and are all files that it lists unchanged?"""
    manifest = folder / MANIFEST
    return manifest.is_file() and file_sha256(manifest) == sha256 and not changed_files(folder)


def save_weights(run: Path, parts: Any) -> None:
    """Save the trained weights in a usable form, right after the last step; the network itself does not change.

    A plain model then lacks only its golden examples; an adapter is used on its base until it is merged.
    """
    if adapter_of(parts.config.adapter) is None:
        with widened(parts.model, parts.execution.precision):
            _save(run, parts, parts.model)
        return
    start = parts.config.model
    identity = {"name": start.name, "revision": start.revision, "sha256": weights_sha256(run / BASE)}
    with widened(parts.model, parts.execution.precision):
        _save_adapter(run / ADAPTER, parts.model, run / BASE, identity)
    _save(run, parts, None, merged=False)


def save_trained(run: Path, parts: Any, golden_texts: Sequence[golden_examples.GoldenText] | None) -> None:
    """Complete what `save_weights` wrote: golden examples; an adapter is merged into its base, which consumes the network.

    golden_texts: None where the files could not be read again.
    """
    adapter = adapter_of(parts.config.adapter)
    if adapter is None:
        with widened(parts.model, parts.execution.precision):
            finish = _golden(parts, parts.model, golden_texts)
        if finish is not None:
            add_to_model(run / "model", finish)
        return
    network = parts.model if parts.config.model.bits is None else _on_whole_base(parts, adapter)
    if parts.execution.precision != "fp64":
        network.float()
    finish = _golden(parts, network, golden_texts)
    _save(run, parts, _merged(network) if adapter.merges else None, merged=adapter.merges, finish=finish)


def _save(run: Path, parts: Any, model: Any, *, merged: bool | None = None, finish: Any = None) -> None:
    """`model/`. merged: whether the adapter is in its weights; None where there is none."""
    extra = None
    if merged is not None:
        extra = {"adapter": {"name": parts.config.adapter.name, "merged": merged, "base": base_of(run)}}
    tokenizer = run / TOKENIZER
    save_model(
        run / "model", model, parts.task, parts.encoder, precision=parts.execution.precision, finish=finish, extra=extra,
        tokenizer=None if changed_files(tokenizer) else tokenizer,
    )  # fmt: skip


@contextmanager
def widened(network: Any, precision: str) -> Iterator[None]:
    """Inside, weights in half precision are held in fp32, with the same values. Afterwards they are restored."""
    import torch

    tensors = (*network.parameters(), *network.buffers())
    halves = [tensor for tensor in tensors if tensor.dtype in (torch.float16, torch.bfloat16)]
    kept = [tensor.data for tensor in halves]
    try:
        if precision != "fp64":
            for tensor in halves:
                tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, data in zip(halves, kept, strict=True):
            tensor.data = data


def _merged(network: Any) -> Any:
    """The plain model. Fully trained heads are put back by ourselves: PEFT assumes that a head is a single layer with a weight."""
    from peft.utils import ModulesToSaveWrapper

    heads = [(name, module) for name, module in network.named_modules() if isinstance(module, ModulesToSaveWrapper)]
    for name, wrapper in heads:
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, wrapper.modules_to_save[wrapper.active_adapters[0]])
    return network.merge_and_unload(safe_merge=True)


def _golden(
    parts: Any, network: Any, texts: Sequence[golden_examples.GoldenText] | None
) -> Callable[[Path], None] | None:
    if texts is None:
        return None
    return partial(golden_examples.write, written=golden_examples.record(texts, network, parts.task, parts.encoder))


def _save_base(path: Path, parts: Any) -> None:
    """The base as training began, built again as it was then: a pure function of checkpoint and seed."""
    from tunewright.pretrained.quiet import quiet_transformers

    model, _ = _base_again(parts)
    with quiet_transformers(), whole_folder(path) as folder:
        model.save_pretrained(folder)
        parts.encoder.tokenizer.save_pretrained(folder)
        write_manifest(folder)


def _base_again(parts: Any) -> tuple[Any, list[str]]:
    """(the base as training began, names of its fresh parameters). What was quantized holds the rounded numbers whole."""
    config = parts.config
    source, _ = resolve_base(config, parts.prepared.model)
    model, fresh = parts.task.build_model(source, seed=config.train.seed, dtype=base_dtype(parts.execution.precision))
    round_base(model, fresh, config.model.bits, parts.execution.device, whole=True)
    return model, fresh


def _on_whole_base(parts: Any, adapter: Any) -> Any:
    """A model trained on a quantized base, on the same values unquantized: it can be merged, and used without bitsandbytes."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model, fresh = _base_again(parts)
    rows = added_rows(parts.config, parts.encoder.tokenizer)
    network, _ = attach(adapter, model, fresh, seed=parts.config.train.seed, rows=rows)
    set_peft_model_state_dict(network, get_peft_model_state_dict(parts.model, save_embedding_layers=False))
    return network.to(parts.execution.device).eval()


def weights_sha256(folder: Path) -> str:
    """sha256 over the weights of a model folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name}\0{file_sha256(file)}\0".encode())
    return digest.hexdigest()


def _save_adapter(path: Path, network: Any, base: Path, identity: dict[str, Any]) -> None:
    """PEFT's layout, pointing at `base/`: it alone has the head that the adapter's was made for."""
    from tunewright.pretrained.quiet import quiet_transformers

    for config in network.peft_config.values():
        config.base_model_name_or_path = str(base.resolve())
    with quiet_transformers(), whole_folder(path) as folder:
        network.save_pretrained(folder, save_embedding_layers=False)
        write_json(folder / "tunewright.json", {"schema": SCHEMA, "base": identity})
        write_manifest(folder)


def resolve_base(config: Any, source: ModelFolder) -> tuple[ModelFolder, Path | None]:
    """(the folder that a run's model is built from, the run whose adapter goes on in it). UserError where none can."""
    run = Path(config.model.name)
    run = run.parent if run.name in ("model", BASE) and (run.parent / ADAPTER).is_dir() else run
    found = (run / ADAPTER / "adapter_config.json").is_file()
    if not config.adapter.continue_training:
        if found and source.folder.name == BASE and Path(config.model.name).name != BASE:
            raise UserError(
                "this run's adapter is not merged into its model",
                where=f"model {config.model.name}",
                hint=f"Set adapter.continue_training=true with the same adapter, or model={run / BASE} to start without it.",
            )
        return source, None
    if config.adapter.name == NONE or not found:
        raise UserError(
            "there is no adapter to continue with",
            where="adapter.continue_training",
            found=f"adapter={config.adapter.name}, model={config.model.name}",
            expected="a run that trained the same kind of adapter",
            hint="Set model to that run, or leave adapter.continue_training out.",
        )
    return replace(source, folder=run / BASE), run


def load_adapter_weights(run: Path, adapted: Any, heads: Sequence[str]) -> None:
    """Give a fresh adapter the weights of RUN/adapter; a head of another shape starts anew. UserError for another kind of adapter."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    try:
        saved = load_file(run / ADAPTER / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the adapter's weights cannot be read ({error})", where=str(run / ADAPTER), hint="Restore the folder, or train again."
        ) from None  # fmt: skip
    fitting = {name: saved[name] for name in own if name in saved and saved[name].shape == own[name].shape}
    of_heads = {name.replace(".modules_to_save.default", "") for name in heads}
    if missing := [name for name in own if name not in fitting and name not in of_heads]:
        raise UserError(
            f"{run / ADAPTER} is another adapter than the config describes",
            where="adapter",
            found=f"{missing[0]}: {tuple(saved[missing[0]].shape) if missing[0] in saved else 'not there'}",
            expected=str(tuple(own[missing[0]].shape)),
            hint="Give the settings it was trained with, or leave adapter.continue_training out.",
        )
    set_peft_model_state_dict(adapted, fitting)
    adapted.adapter_is_kept = True  # part of the start model: what preference tuning refers to has it


def load_network(task: Task, saved: SavedModel, *, dtype: Any) -> Any:
    """The trained network of a saved model, its adapter on its base where it is not merged.

    UserError when weights are missing: a head must not start fresh here.
    """
    network, fresh = task.build_model(saved.source, seed=0, dtype=dtype)
    if fresh:
        raise UserError(
            "weights are missing",
            where=str(saved.source.folder),
            found=", ".join(fresh),
            hint="Restore model.safetensors, or train again.",
        )
    return network if saved.unmerged is None else with_adapter(network, saved.folder.parent)


def base_of(run: Path) -> dict[str, Any]:
    """Name, revision and content hash of the base that RUN/adapter was trained on. UserError where it does not say."""
    path = run / ADAPTER / "tunewright.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["base"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            "the adapter does not say which base it belongs to",
            where=str(path),
            hint="Restore the file, or train again.",
        ) from None


def with_adapter(network: Any, run: Path, *, plain: bool = False) -> Any:
    """RUN/adapter on a network made from RUN/base. UserError for another base than it was trained on.

    plain: as PEFT alone does it.
    """
    from tunewright.pretrained.quiet import quiet_transformers

    wanted, found = base_of(run)["sha256"], weights_sha256(run / BASE)
    if found != wanted:
        raise UserError(
            "the adapter was trained on a different base",
            where=str(run / BASE),
            found=f"content {found[:12]}",
            expected=wanted[:12],
            hint="Restore the folder, or train again.",
        )
    with quiet_transformers():
        from peft import PeftModel

        try:
            if not (run / ADAPTER / "adapter_model.safetensors").is_file():
                raise OSError("adapter_model.safetensors is gone")  # PEFT would ask the Hub for it
            config = read_config(run / ADAPTER)
            adapted = PeftModel.from_pretrained(network, run / ADAPTER, config=config, torch_device="cpu")
        except UserError:
            raise
        except Exception as error:  # damaged files make the library raise anything
            raise UserError(
                f"the adapter cannot be loaded ({first_line(error)})",
                where=str(run / ADAPTER),
                hint="Restore the folder, or train again.",
            ) from None
    if not plain:
        fit_virtual_tokens(adapted)
    return adapted
