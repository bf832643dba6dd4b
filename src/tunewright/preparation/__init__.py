"""Files -> token store: the first half of every run. Reads twice: once to understand and split, once to encode.

    prepared = prepare(config)
    prepared.store["train"].lengths      # int32 tokens of every kept training row
    prepared.reused                      # True: nothing had changed since last time

`inputs` opens the files, `survey` gives every row its fate in 29 bytes a row, `encode` writes the shards. The store's folder is
named by a fingerprint of everything that decides its content: files, columns, splits, labels, tokenizer, limits.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunewright import __version__
from tunewright.adapters.base import longest_row
from tunewright.batching import store as stores
from tunewright.batching.store import StoreDamaged, TokenStore
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError, counted
from tunewright.files.atomic import json_sha256, write_json
from tunewright.files.known_hashes import KnownHashes
from tunewright.plugins import find
from tunewright.preparation.encode import Log, encode_file, encode_splits, match_tokenizer, token_ledger
from tunewright.preparation.first_pass import assign_rows, facts_of, first_pass
from tunewright.preparation.inputs import (
    SPLITS,
    TEST,
    VALIDATION,
    Inputs,
    for_inputs,
    open_inputs,
    open_like,
    options_of_run,
    read_options,
)
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading.ledger import Ledger, RejectFile, after_rejects, bad_rows_error, first_rejects
from tunewright.reading.split import TRAIN
from tunewright.reading.unchanged import Unchanged
from tunewright.reporting import html
from tunewright.reporting.phases import phase
from tunewright.tasks.base import Task
from tunewright.tokenization.fast import FastPathDiffers

__all__ = [
    "SPLITS", "TEST", "TRAIN", "VALIDATION", "Inputs", "Prepared", "encode_file", "for_inputs", "open_inputs", "open_like", "options_of_run",
    "prepare", "read_options",
]  # fmt: skip

_ROWS_SHOWN, _TOKENS_SHOWN = 5, 48


@dataclass(frozen=True, repr=False)
class Prepared:
    """A finished store, and what was said while it was made."""

    store: TokenStore
    model: ModelFolder
    reused: bool
    files: Unchanged
    inputs: Inputs
    """The opened sources, for whoever reads them again."""

    @property
    def manifest(self) -> dict[str, Any]:
        return self.store.manifest

    def task(self) -> Task:
        """The task as the store knows it (labels, columns)."""
        return find("tasks", self.manifest["task"]).Task.from_state(self.manifest["task_state"])

    def __repr__(self) -> str:
        splits = self.manifest["splits"].items()
        sizes = (
            f"  {name}: {counted(split['rows'], 'row')}, {counted(split['tokens'], 'token')}" for name, split in splits
        )
        return "\n".join([f"Token store {self.store.folder}: {self.manifest['task']}", *sizes])

    def _repr_html_(self) -> str:
        from tunewright.tokenization.encoder import load_encoder  # with transformers, which nothing else here waits for

        return html_of(self.store, load_encoder(self.model, max_length=self.manifest["max_length"]).tokenizer)


def html_of(store: TokenStore, tokenizer: Any) -> str:
    """What became of the rows of each source, and the first training rows as tokens."""
    sources = store.manifest["ledger"]["sources"]
    columns = [
        "source",
        *(key for key in sources[0] if key not in ("source", "splits") and not isinstance(sources[0][key], dict)),
    ]
    rows = store[TRAIN]
    first = range(min(_ROWS_SHOWN, len(rows)))
    tokens = [
        [rows.address(n), html.with_tokens(tokenizer.convert_ids_to_tokens(rows.input_ids(n)[:_TOKENS_SHOWN].tolist()))]
        for n in first
    ]
    ledger = html.table(columns, [[source.get(column) for column in columns] for source in sources], title="rows")
    return ledger + html.table(["row", "tokens"], tokens, title="the first training rows")


def prepare(
    config: RunConfig,
    *,
    say: Log = lambda _: None,
    opened: Callable[[Inputs], None] = lambda _: None,
    verify: bool = False,
) -> Prepared:
    """Make the token store of a config, or take the one that is there. UserError for everything the user can correct.

    opened: is shown what was decided about the files, before they are read.
    verify: read and hash every file again, also those that have not been touched since they were last hashed.
    """
    from filelock import FileLock

    with phase("opening the files"):
        inputs = open_inputs(config)
    opened(inputs)
    with phase("finding the model"):
        model = config.model.locate()
    known = KnownHashes(config.store_folder / "hashes.json", trusted=not verify)
    files = Unchanged.hashed((source for _, source in inputs.of()), known.sha256)
    fingerprint = _fingerprint(config, inputs, model, files)
    folder = config.store_folder / fingerprint[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"nothing can be written there ({error.strerror})",
            where=f"output {config.run_folder}",
            hint="Set output to another folder.",
        ) from None
    with FileLock(folder.with_suffix(".lock")):
        try:
            store = stores.open_store(folder, fingerprint, sha256=known.sha256)
            known.save()
            if config.data.on_bad_rows == "stop":
                _refuse_rejects(store)
            return Prepared(store, model, reused=True, files=files, inputs=inputs)
        except StoreDamaged as damage:
            if (folder / "manifest.json").exists():
                say(f"The token store {folder} cannot be used ({damage}); it is built again.")
                shutil.rmtree(folder)
                folder.mkdir()
        try:
            store = _build_unchanged(config, inputs, model, folder, fingerprint, files, known, say)
        except FastPathDiffers as difference:
            say(
                f"Fast tokenization gives other ids on {str(difference)[:100]!r}; all rows are encoded by the plain tokenizer."
            )
            shutil.rmtree(folder)
            folder.mkdir()
            store = _build_unchanged(config, inputs, model, folder, fingerprint, files, known, say, fast=False)
        known.save()
        return Prepared(store, model, reused=False, files=files, inputs=inputs)


def _refuse_rejects(store: TokenStore) -> None:
    """A store that was made with `on_bad_rows: skip` is no way around `stop`."""
    sources = store.manifest["ledger"]["sources"]
    count = sum(source["rejected"] for source in sources)
    if count:
        path = store.folder / "rejected.jsonl"
        raise bad_rows_error(first_rejects(path), count, sum(source["read"] for source in sources), path)


def _fingerprint(config: RunConfig, inputs: Inputs, model: ModelFolder, unchanged: Unchanged) -> str:
    """sha256 over all that decides the store's content."""
    files = [
        [split, source.name, *source.names_read, *(unchanged.sha256[path] for path in source.files())]
        for split, source in inputs.of()
    ]
    data = config.data.model_dump(mode="json", exclude={"padding", "padding_side", "on_bad_rows"})
    data["max_length"] = longest_row(config, model)
    parts = {
        "schema": stores.SCHEMA, "tunewright": __version__, "tokenizers": version("tokenizers"),
        "task": [inputs.task.name, inputs.task.state()], "data": data, "files": files, "tokenizer": model.tokenizer_hash(),
    }  # fmt: skip
    return json_sha256(parts)


def _build_unchanged(
    config: RunConfig, inputs: Inputs, model: ModelFolder, folder: Path, fingerprint: str, files: Unchanged,
    known: KnownHashes, say: Log, *, fast: bool = True,
) -> TokenStore:  # fmt: skip
    """The store of the files that its fingerprint was taken of. Of others nothing is kept: UserError."""
    try:
        with files.while_read():
            return _build(
                config,
                inputs,
                model,
                folder,
                fingerprint,
                say,
                fast=fast,
                check=files.check,
                sha256=known.sha256_of_own,
            )
    except UserError:
        try:
            files.check()
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _build(
    config: RunConfig,
    inputs: Inputs,
    model: ModelFolder,
    folder: Path,
    fingerprint: str,
    say: Log,
    *,
    fast: bool,
    check: Callable[[], None],
    sha256: Callable[[Path], str],
) -> TokenStore:
    ledger = Ledger()
    with RejectFile(folder / "rejected.jsonl") as rejects:
        survey = first_pass(config, inputs, ledger, rejects)
        _stop_at_rejects(config, ledger, rejects)
        try:
            task = inputs.task.with_labels(survey.counts, model, where=inputs.sources[TRAIN][0].name)
        except UserError as error:
            rejects.flush()
            raise after_rejects(error, rejects.first, rejects.count, sum(ledger.read.values()), rejects.path) from None
        fates = assign_rows(config, inputs, survey, ledger)
        splits, encoder = encode_splits(
            config,
            inputs,
            model,
            task,
            fates,
            folder,
            ledger=ledger,
            rejects=rejects,
            say=say,
            fast=fast,
            check=check,
            sha256=sha256,
        )
    _stop_at_rejects(config, ledger, rejects)
    if TRAIN not in splits:
        raise UserError(
            "no training row is left",
            where=inputs.sources[TRAIN][0].name,
            found=ledger.format_counts() or None,
            hint=f"See {rejects.path}.",
        )
    ledger.facts |= facts_of(config, survey, fates, task.known_names)
    ledger.facts["tokens"] = token_ledger(splits)
    written = ledger.as_dict()
    write_json(folder / "ledger.json", written)
    extra = {
        "task": task.name, "task_state": task.state(), "columns_found_by": inputs.reason,
        "max_length": encoder.max_length, "tokenizer": match_tokenizer(survey.texts, model, encoder),
        **stores.names_of_sources([source.name for _, source in inputs.of()]),
        "notes": [f"{source.name}: {note}" for _, source in inputs.of() for note in source.notes], "ledger": written,
    }  # fmt: skip
    check()
    return stores.finish_store(folder, fingerprint, splits, extra)


def _stop_at_rejects(config: RunConfig, ledger: Ledger, rejects: RejectFile) -> None:
    if rejects.count and config.data.on_bad_rows == "stop":
        rejects.flush()
        raise bad_rows_error(rejects.first, rejects.count, sum(ledger.read.values()), rejects.path)
