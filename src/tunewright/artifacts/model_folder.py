"""A trained model on the disk: `model/` in plain Hugging Face layout, plus `tunewright.json` with what its use needs.

    RUN/model/config.json  model.safetensors  tokenizer.json  tokenizer_config.json  tunewright.json  golden.json  manifest.json

`transformers.pipeline` opens it as it is. `tunewright.json` holds the task (labels, columns, threshold) and how text is encoded, so
that prediction encodes exactly as training did.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from tunewright import hints
from tunewright.artifacts.run_files import CONFIG, changed_run_files, said
from tunewright.artifacts.value_types import fits, wrong_field
from tunewright.config.renamed import upgraded_state
from tunewright.errors import UserError, did_you_mean
from tunewright.files.atomic import link_or_copy, whole_folder, write_json
from tunewright.files.manifests import MANIFEST as MANIFEST
from tunewright.files.manifests import changed_files as changed_files
from tunewright.files.manifests import check_unchanged, describe_change, refuse_changed
from tunewright.files.manifests import write_manifest as write_manifest
from tunewright.files.paths import expanded
from tunewright.plugins import find
from tunewright.pretrained.folder_checks import read_object
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task

SCHEMA = 2
"""1: what version 0.1 wrote, the keys of some tasks' states under other names."""
FILE = "tunewright.json"
_MEND = "Restore the file, or train again."
_EXPECTED: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("task", "the name of a task", lambda value: isinstance(value, str)),
    ("task_state", "an object", lambda value: isinstance(value, dict)),
    ("encode", "an object", lambda value: isinstance(value, dict)),
    ("encode.max_length", "a whole number from 1 on", lambda value: fits(value, int) and 0 < value < 2**31),
    ("encode.truncation_side", "left or right", lambda value: value in ("left", "right")),
    ("encode.padding_side", "left or right", lambda value: value in ("left", "right")),
    ("adapter", "an object", lambda value: value is None or isinstance(value, dict)),
    ("adapter.name", "a text", lambda value: value is None or isinstance(value, str)),
    ("adapter.merged", "true or false", lambda value: value is None or isinstance(value, bool)),
    ("export", "an object", lambda value: value is None or isinstance(value, dict)),
)
"""What every reader of `tunewright.json` may rely on: key, what it must be, whether it is."""


@dataclass(frozen=True)
class SavedModel:
    """A model folder and its `tunewright.json`."""

    folder: Path
    facts: dict[str, Any]

    @property
    def source(self) -> ModelFolder:
        if self.unmerged is not None:
            return ModelFolder(str(self.folder), self.folder.parent / "base", self.folder)
        return ModelFolder(str(self.folder), self.folder)

    @property
    def unmerged(self) -> str | None:
        """The adapter that cannot be merged and stands beside `model/`, if there is one."""
        adapter = self.facts.get("adapter")
        return str(adapter["name"]) if adapter and not adapter["merged"] else None

    @property
    def sample(self) -> str | tuple[str, str]:
        """An input that this model takes, to propose: a text, two where it reads pairs, one with a gap where it fills gaps."""
        if self.facts["task"] == "mlm":
            return f"your {self._mask_token} text"
        columns = self.facts["task_state"].get("columns")
        pair = columns.get("pair") if isinstance(columns, dict) else None
        return ("first text", "second text") if pair else "your text"

    @property
    def _mask_token(self) -> str:
        """As the tokenizer beside the model has it; no tokenizer is loaded."""
        try:
            found = json.loads((self.folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("mask_token")
        except (OSError, ValueError, AttributeError):
            found = None
        return str(found.get("content") if isinstance(found, dict) else found or "[MASK]")

    def check(self, *, remember: bool = True, say: Callable[[str], object] = lambda _: None) -> None:
        """UserError where what is about to be used is not what was saved.

        say: told what else has changed in the run (scores, what a merged adapter was made of), and where no manifest can tell.
        remember: files that were hashed before and not touched since are not read again.
        """
        with phase("checking the run's files"):
            self._check(remember=remember, say=say)

    def _check(self, *, remember: bool, say: Callable[[str], object]) -> None:
        run = self.folder.parent
        sealed = changed_run_files(run, remember=remember) if self.folder.name == "model" else []
        own_manifest = f"model/{MANIFEST}"
        if not check_unchanged(self.folder, remember=remember) and own_manifest not in sealed:
            say(f"{self.folder} has no {MANIFEST}, so its files cannot be checked.")
        for part in ("base", "adapter") if self.facts.get("adapter") and self.folder.name == "model" else ():
            if self.unmerged is not None:
                check_unchanged(run / part, remember=remember)
            elif (run / part / MANIFEST).exists():
                for name in changed_files(run / part, remember=remember)[:1]:
                    say(
                        f"{run / part / name} {describe_change(run / part, name)}; {self.folder} was made before and is used as it is."
                    )
        for name in sealed:
            if name in (CONFIG, own_manifest) or (self.unmerged is not None and "/" in name):
                refuse_changed(run, name)
            say(said(run, name))

    def task(self) -> Task:
        """The task as it was trained. UserError where its state is not what a task writes."""
        kind = find("tasks", self.facts["task"]).Task
        try:
            task = kind.from_state(self.facts["task_state"])
        except UserError:
            raise
        except Exception as error:  # a missing key or a value of another type, met anywhere in the task
            raise self._not_as_written("task_state", f"{type(error).__name__}: {error}") from None
        if is_dataclass(task) and (wrong := wrong_field(task)):
            raise self._not_as_written(f"task_state.{wrong}", "a value of another type")
        again = json.loads(json.dumps(task.state()))
        lost = again.keys() - self.facts["task_state"].keys()
        if lost and self.facts["schema"] == SCHEMA:  # a new field of a task's state is a new schema
            raise self._not_as_written(f"task_state.{min(lost)}", "no such key")
        for key, value in self.facts["task_state"].items():
            negative = fits(value, int) and value < 0  # no count that a task keeps is negative
            if negative or (
                key in again and again[key] != value
            ):  # a text is a list of letters to whoever asks for a list
                raise self._not_as_written(f"task_state.{key}", repr(value))
        return task

    def encoder(self) -> Any:
        from tunewright.tokenization.encoder import for_computing, load_encoder

        return for_computing(load_encoder(self.source, **self.facts["encode"]), self.source)

    def _not_as_written(self, key: str, found: str) -> UserError:
        return UserError(f"{key} is not what was written", where=str(self.folder / FILE), found=found[:200], hint=_MEND)


def save_model(
    path: Path,
    model: Any,
    task: Task,
    encoder: Any,
    *,
    precision: str,
    finish: Callable[[Path], None] | None = None,
    extra: Mapping[str, Any] | None = None,
    tokenizer: Path | None = None,
) -> None:
    """Write `model/`, whole or not at all. The tokenizer is saved as the task wants other programs to use it.

    model: None where its weights stand elsewhere. finish: writes what else belongs into the folder, before its files are listed
    with their hashes. extra: further facts for `tunewright.json`. tokenizer: a folder that `save_tokenizer` wrote, to take it from.
    """
    from tunewright.pretrained.quiet import quiet_transformers

    with quiet_transformers(), whole_folder(path) as folder:
        if model is not None:
            if stops := task.stop_ids(encoder):
                model.generation_config.eos_token_id = stops
            model.save_pretrained(folder)
        if tokenizer is None:
            _write_tokenizer(folder, task, encoder)
        else:
            shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
        facts = {
            "schema": SCHEMA,
            "task": task.name,
            "task_state": task.state(),
            "encode": {
                "max_length": encoder.max_length,
                "truncation_side": encoder.truncation_side,
                "padding_side": encoder.tokenizer.padding_side,
            },
            "trained_precision": precision,
            **(extra or {}),
        }
        write_json(folder / FILE, facts)
        if finish is not None:
            finish(folder)
        write_manifest(folder)


def save_tokenizer(path: Path, task: Task, encoder: Any) -> None:
    """The tokenizer alone, as `save_model` saves it: so that what cannot be saved is known before anything is learned."""
    from tunewright.pretrained.quiet import quiet_transformers

    with quiet_transformers(), whole_folder(path) as folder:
        _write_tokenizer(folder, task, encoder)
        write_manifest(folder)


def _write_tokenizer(folder: Path, task: Task, encoder: Any) -> None:
    """A copy with the settings that other programs need: the encoder's own goes on encoding as it did."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.init_kwargs |= {"model_max_length": encoder.max_length}
    task.finish_tokenizer(tokenizer)
    tokenizer.save_pretrained(folder)
    task.finish_tokenizer_files(folder, encoder)


def add_to_model(path: Path, finish: Callable[[Path], None]) -> None:
    """Write further files into a saved model's folder, which stays whole all the time."""
    with whole_folder(path) as folder:
        for file in path.rglob("*"):
            if file.is_file() and file.name != MANIFEST:
                (folder / file.relative_to(path)).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, folder / file.relative_to(path))
        finish(folder)
        write_manifest(folder)


def _facts(path: Path) -> dict[str, Any]:
    """tunewright.json. UserError where it is damaged, or a key is missing or of another type."""
    facts = read_object(path)
    if facts.get("schema") not in (1, SCHEMA):
        raise UserError(
            "written by another version of tunewright",
            where=str(path),
            found=f"schema {facts.get('schema')}",
            expected=f"at most {SCHEMA}",
        )
    for key, expected, holds in _EXPECTED:
        value: Any = facts
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not holds(value):
            found = "nothing" if value is None else repr(value)[:80]
            raise UserError(
                f"{key} is not what was written", where=str(path), found=found, expected=expected, hint=_MEND
            )
    if facts.get("adapter") and {"name", "merged"} - facts["adapter"].keys():
        raise UserError("adapter is not what was written", where=str(path), hint=_MEND)
    if more := facts["encode"].keys() - {"max_length", "truncation_side", "padding_side"}:
        raise UserError("encode is not what was written", where=str(path), found=", ".join(sorted(more)), hint=_MEND)
    if facts["schema"] == 1:
        facts["task_state"] = upgraded_state(facts["task"], facts["task_state"])
    return facts


class HasFolder(Protocol):
    """What `train` returned: it knows its folder."""

    @property
    def folder(self) -> Path: ...


Run = str | Path | HasFolder
"""A trained run as people name it: its folder, its `model/` folder, or what `train` returned."""


def path_of(run: Run) -> str | Path:
    return run if isinstance(run, (str, Path)) else run.folder


def open_saved(run: Run) -> SavedModel:
    """Accepts RUN and RUN/model. UserError where there is no finished model of ours."""
    path = Path(expanded(str(path_of(run))))
    for folder in (path / "model", path):
        if (folder / FILE).is_file():
            return SavedModel(folder, _facts(folder / FILE))
    if (path / "config.yaml").is_file():
        raise UserError(
            "this run has no model yet",
            where=str(path),
            hint=f"Finish it: {hints.train(path / 'config.yaml')}",
        )
    if path.is_dir():
        raise UserError(
            "not a run of tunewright",
            where=str(path),
            expected=f"a folder with model/{FILE}",
            hint=f"`{hints.runs()}` lists the runs here.",
        )
    if path.is_file():
        raise UserError(
            "a file, not the folder of a run",
            where=str(path),
            hint="Name the run first, then the file: RUN --file FILE.",
        )
    near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else None
    raise UserError(
        "no such run",
        where=str(path),
        hint=f"Did you mean {path.parent / near}?" if near else f"`{hints.runs()}` lists the runs here.",
    )
