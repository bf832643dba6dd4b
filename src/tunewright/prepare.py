"""Files -> token store: the first half of every run. Reads twice: once to understand and split, once to encode.

    prepared = prepare(config)
    prepared.store["train"].lengths      # int32 tokens of every kept training row
    prepared.reused                      # True: nothing had changed since last time

The first pass keeps 29 bytes a row (hashes, label, group, fate), so memory does not grow with the texts. The store's folder is
named by a fingerprint of everything that decides its content: files, columns, splits, labels, tokenizer, limits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.atomic import file_sha256, write_json
from tunewright.config import RunConfig
from tunewright.errors import RowError, UserError, did_you_mean, quoted
from tunewright.models.source import ModelFolder, locate_model
from tunewright.plugins import find
from tunewright.reading import ReadOptions, Source, open_source, splits_of
from tunewright.reading.align import aligned
from tunewright.reading.detect import Roles, detect_roles, find_column, peek
from tunewright.reading.ledger import (
    FILTERED,
    KEPT,
    NOT_SELECTED,
    REJECTED,
    Ledger,
    RejectFile,
    bad_rows_error,
    first_rejects,
)
from tunewright.reading.split import TRAIN, assign, subset
from tunewright.records import Example, Reject, Row
from tunewright.text.columns import TextColumns
from tunewright.text.labels import MAX_LABELS, LabelSpace, check_labels
from tunewright.tokens import store as stores
from tunewright.tokens.store import SplitStore, SplitWriter, StoreDamaged, TokenStore

VALIDATION, TEST = "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
_DEFAULT_TEST_RATIO = 0.1
_ENCODE_ROWS = 1_024
_MOST_REASONS = 1_000
_SPLIT_NAMES = {TRAIN: (TRAIN, "training"), VALIDATION: (VALIDATION, "valid", "dev", "eval"), TEST: (TEST, "testing")}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A finished store, and what was said while it was made."""

    store: TokenStore
    model: ModelFolder
    reused: bool

    @property
    def manifest(self) -> dict[str, Any]:
        return self.store.manifest

    def task(self) -> Any:
        """The task as the store knows it (labels, columns)."""
        return find("tasks", self.manifest["task"]).Task.from_state(self.manifest["task_state"])


@dataclass(frozen=True)
class Inputs:
    """The opened sources of each split, and what their columns are for."""

    sources: dict[str, list[Source]]
    columns: TextColumns
    multi_label: bool
    label_names: tuple[str, ...] | None
    reason: str

    def of(self, *splits: str) -> Iterator[tuple[str, Source]]:
        for split in splits or SPLITS:
            for source in self.sources.get(split, ()):
                yield split, source


def prepare(config: RunConfig, *, say: Say = lambda _: None) -> Prepared:
    """Make the token store of a config, or take the one that stands there. UserError for everything the user can mend."""
    from filelock import FileLock

    inputs = open_inputs(config)
    model = locate_model(config.model.name, revision=config.model.revision)
    fingerprint = _fingerprint(config, inputs, model)
    folder = config.store_folder / fingerprint[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"nothing can be written there ({error.strerror})",
            where=f"output {config.run_folder}",
            mend="Set output to another folder.",
        ) from None
    with FileLock(folder.with_suffix(".lock")):
        try:
            store = stores.open_store(folder, fingerprint)
            if config.data.on_bad_rows == "stop":
                _refuse_rejects(store)
            return Prepared(store, model, reused=True)
        except StoreDamaged as damage:
            if (folder / "manifest.json").exists():
                say(f"The token store {folder} cannot be used ({damage}); it is built again.")
                shutil.rmtree(folder)
                folder.mkdir()
        return Prepared(_build(config, inputs, model, folder, fingerprint, say), model, reused=False)


def _refuse_rejects(store: TokenStore) -> None:
    """A store that was made with `on_bad_rows: skip` is no way around `stop`."""
    sources = store.manifest["ledger"]["sources"]
    count = sum(source["rejected"] for source in sources)
    if count:
        path = store.folder / "rejected.jsonl"
        raise bad_rows_error(first_rejects(path), count, sum(source["read"] for source in sources), path)


def open_inputs(config: RunConfig) -> Inputs:
    """Open every source and settle the columns. Reads only the beginning of the files; imports no torch."""
    sources = _open_sources(config)
    first = sources[TRAIN][0]
    rows, columns = peek(first)
    if not rows:
        reject = next((row for row in first.rows() if isinstance(row, Reject)), None)
        raise UserError(
            "no usable row",
            where=reject.address if reject else first.name,
            found=reject.reason if reject else "no rows",
            mend="Mend the file; data.format and data.encoding say how it is read.",
        )
    roles = settle_roles(config, columns, rows, where=first.name)
    data = config.data
    if roles.label is None:
        raise UserError(
            "no label column found",
            where=first.name,
            found=quoted(columns),
            mend="Set data.label to the column with the labels.",
        )
    names = data.label_names or first.class_names.get(roles.label)
    return Inputs(
        sources={
            split: [aligned(one, text=roles.text, pair=roles.pair, label=roles.label) for one in of_split]
            for split, of_split in sources.items()
        },
        columns=TextColumns(roles.text, roles.pair, roles.label, data.weight, data.label_delimiter),
        multi_label=roles.multi_label or bool(data.label_delimiter) if data.multi_label is None else data.multi_label,
        label_names=tuple(names) if names else None,
        reason=roles.reason,
    )


def settle_roles(config: RunConfig, columns: Sequence[str], rows: Sequence[Row], *, where: str) -> Roles:
    """What the config names, checked against the columns; the rest detected."""
    data = config.data
    named = [data.text] if isinstance(data.text, str) else list(data.text or ())
    for key, names in (
        ("text", named),
        ("pair", [data.pair]),
        ("label", [data.label]),
        ("group_by", [data.group_by]),
        ("weight", [data.weight]),
    ):
        for name in names:
            if name is not None:
                find_column(name, columns, where=where, key=f"data.{key}")
    return detect_roles(columns, rows, text=tuple(named), pair=data.pair, label=data.label)


def read_options(config: RunConfig, *, split: str | None = None) -> ReadOptions:
    data = config.data
    return ReadOptions(
        format=data.format,
        encoding=data.encoding,
        delimiter=data.delimiter,
        header=data.header,
        max_row_bytes=data.max_row_bytes,
        config=data.config,
        revision=data.revision,
        split=split,
    )


def _open_sources(config: RunConfig) -> dict[str, list[Source]]:
    data = config.data
    named = {TRAIN: data.train_split, VALIDATION: data.validation_split, TEST: data.test_split}
    paths = {split: _as_list(getattr(data, split)) for split in SPLITS}
    inner = {path: splits_of(path, read_options(config)) for split in SPLITS for path in paths[split]}
    for split in (VALIDATION, TEST):  # a source that brings its own validation and test splits
        path = paths[TRAIN][0]
        if not paths[split] and len(inner[path]) > 1 and (named[split] or _own_split(inner[path], split)):
            paths[split] = [path]
    return {
        split: [
            open_source(path, read_options(config, split=_choose_split(path, inner[path], split, named[split])))
            for path in paths[split]
        ]
        for split in SPLITS
        if paths[split]
    }


def _as_list(paths: str | list[str] | None) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths or ())


def _own_split(splits: Sequence[str], split: str) -> str | None:
    return next((name for name in _SPLIT_NAMES[split] if name in splits), None)


def _choose_split(path: str, splits: Sequence[str], split: str, named: str | None) -> str | None:
    if not splits:
        return named
    chosen = named or (splits[0] if len(splits) == 1 else _own_split(splits, split))
    if chosen in splits:
        return chosen
    near = did_you_mean(chosen, splits) if chosen else None
    raise UserError(
        f"no split {chosen!r}" if chosen else f"which split is the {split} split?",
        where=path,
        found=quoted(splits),
        mend=f"Set data.{split}_split={near or splits[0]}.",
    )


def _fingerprint(config: RunConfig, inputs: Inputs, model: ModelFolder) -> str:
    """sha256 over all that decides the store's content."""
    files = [[split, source.name, *(file_sha256(path) for path in source.files())] for split, source in inputs.of()]
    data = config.data.model_dump(mode="json", exclude={"padding", "padding_side", "on_bad_rows"})
    parts = {
        "schema": stores.SCHEMA, "tunewright": version("tunewright"), "tokenizers": version("tokenizers"), "task": config.task,
        "data": data, "files": files, "columns": inputs.columns.as_dict(), "tokenizer": model.tokenizer_hash(),
        "threshold": config.evaluate.threshold,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass
class _Survey:
    """What the first pass remembers of every row, in reading order over all sources."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    groups: array[int] = field(default_factory=lambda: array("Q"))
    usable: array[int] = field(default_factory=lambda: array("b"))
    split_of: array[int] = field(default_factory=lambda: array("b"))
    num_read: list[int] = field(default_factory=list)
    """Rows of each source, in the order of `Inputs.of`: one file may be named twice."""
    codes: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def reject(self, split: int) -> None:
        self._add(split, 0, -1, 0, usable=0)

    def keep(self, split: int, example: Example, names: Sequence[str], group: Any) -> None:
        self.counts.update(names)
        code = self.codes.setdefault(names[0], len(self.codes)) if names else -1
        self._add(
            split, _hash(example.text, example.pair), code, 0 if group is None else _hash(str(group), None), usable=1
        )

    def _add(self, split: int, text: int, label: int, group: int, *, usable: int) -> None:
        self.hashes.append(text)
        self.labels.append(label)
        self.groups.append(group)
        self.usable.append(usable)
        self.split_of.append(split)


def _hash(text: str, pair: str | None) -> int:
    joined = text if pair is None else f"{text}\0{pair}"
    return int.from_bytes(hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _build(
    config: RunConfig, inputs: Inputs, model: ModelFolder, folder: Path, fingerprint: str, say: Say
) -> TokenStore:
    module = find("tasks", "classification" if config.task == "auto" else config.task)
    task = module.Task(
        inputs.columns, LabelSpace((), inputs.multi_label), inputs.label_names, threshold=config.evaluate.threshold
    )
    ledger = Ledger()
    with RejectFile(folder / "rejected.jsonl") as rejects:
        survey = _survey(config, inputs, task, ledger, rejects)
    if rejects.count and config.data.on_bad_rows == "stop":
        raise bad_rows_error(rejects.first, rejects.count, sum(ledger.read.values()), rejects.path)
    labels = _label_space(inputs, survey, model)
    check_labels(labels, where=f"{inputs.sources[TRAIN][0].name}, column {inputs.columns.label!r}")
    task = task.with_labels(labels)
    fates = _choose_rows(config, inputs, survey, ledger)
    splits, max_length = _encode(config, inputs, model, task, fates, folder, say)
    notes = [f"{source.name}: {note}" for _, source in inputs.of() for note in source.notes]
    names = [source.name for _, source in inputs.of()]
    ledger.facts |= _facts(survey, fates, labels)
    ledger.facts["tokens"] = _token_ledger(splits)
    written = ledger.as_dict()
    write_json(folder / "ledger.json", written)
    extra = {
        "task": task.name, "task_state": task.state(), "columns_found_by": inputs.reason, "max_length": max_length,
        "sources": names, "notes": notes, "ledger": written,
    }  # fmt: skip
    return stores.finish_store(folder, fingerprint, splits, extra)


def open_like(path: str, options: ReadOptions, columns: TextColumns, *, labelled: bool = True) -> Source:
    """A file for a trained model, its columns under the names of training."""
    label = columns.label if labelled else None
    return aligned(open_source(path, options), text=columns.text, pair=columns.pair, label=label)


def encode_file(
    path: str, options: ReadOptions, task: Any, encoder: Any, folder: Path, *, skip_bad_rows: bool = False
) -> tuple[SplitStore, Ledger]:
    """One labelled file, encoded into `folder` for a trained task: every readable row, in order. UserError for bad rows."""
    source = open_like(path, options, task.columns)
    type_ids = encoder.gives_type_ids(pair=task.columns.pair is not None)
    writer = SplitWriter(folder, "data", task.store_fields(), type_ids=type_ids)
    ledger = Ledger()
    waiting: list[tuple[dict[str, Any], Example]] = []

    def write() -> None:
        _write_encoded(writer, waiting, task, encoder)
        waiting.clear()

    with RejectFile(folder / "rejected.jsonl") as rejects:
        for row_id, row in enumerate(source.rows()):
            ledger.read[source.name] += 1
            try:
                if isinstance(row, Reject):
                    raise RowError(row.reason)
                example = task.to_example(row)
                for name in task.labels_of(example):
                    if name not in task.labels.index:
                        raise RowError(f"label {name!r} is none that the model knows ({quoted(task.labels.names)})")
            except RowError as error:
                rejects.add(_rejected(row, error.reason))
                ledger.add(source.name, "-", REJECTED)
                ledger.reasons[error.reason] += 1
                continue
            ledger.add(source.name, "data", KEPT)
            waiting.append(({"row_id": row_id, "source": 0, "line": row.line}, example))
            if len(waiting) == _ENCODE_ROWS:
                write()
    if rejects.count and not skip_bad_rows:
        raise bad_rows_error(rejects.first, rejects.count, ledger.read[source.name], None)
    write()
    writer.flush()
    if not writer.shards:
        raise UserError("no row to evaluate", where=path)
    return stores.finish_store(folder, "", {"data": writer.shards}, {"sources": [source.name]})["data"], ledger


def _rejected(row: Row | Reject, reason: str) -> Reject:
    raw = row.raw if isinstance(row, Reject) else json.dumps(dict(row.fields), ensure_ascii=False, default=str)[:10_000]
    return Reject(row.source, row.line, reason, raw)


def _write_encoded(
    writer: SplitWriter, rows: Sequence[tuple[dict[str, Any], Example]], task: Any, encoder: Any
) -> None:
    for (place, example), encoded in zip(rows, task.encode([example for _, example in rows], encoder), strict=True):
        writer.add({
            **place, "input_ids": encoded.input_ids, "token_type_ids": encoded.token_type_ids, "num_cut": encoded.num_cut,
            "weight": example.weight, **task.store_values(example),
        })  # fmt: skip


def _survey(config: RunConfig, inputs: Inputs, task: Any, ledger: Ledger, rejects: RejectFile) -> _Survey:
    survey = _Survey()
    for split, source in inputs.of():
        known = set(survey.counts) if split != TRAIN else None
        survey.num_read.append(0)
        for row in source.rows():
            ledger.read[source.name] += 1
            survey.num_read[-1] += 1
            try:
                if isinstance(row, Reject):
                    raise RowError(row.reason)
                example = task.to_example(row)
                names = task.labels_of(example)
                unseen = [name for name in names if known is not None and name not in known]
                if unseen:
                    raise RowError(f"label {unseen[0]!r} never occurs in the training rows")
                group = _group_of(row, config.data.group_by)
            except RowError as error:
                rejects.add(_rejected(row, error.reason))
                ledger.add(source.name, "-", REJECTED)
                if len(ledger.reasons) < _MOST_REASONS or error.reason in ledger.reasons:
                    ledger.reasons[error.reason] += 1
                survey.reject(SPLITS.index(split))
                continue
            survey.keep(SPLITS.index(split), example, names, group)
            if len(survey.counts) > MAX_LABELS:
                check_labels(LabelSpace(tuple(survey.counts)), where=f"{source.name}, column {inputs.columns.label!r}")
    return survey


def _group_of(row: Row, column: str | None) -> Any:
    if column is None:
        return None
    if row.fields.get(column) is None:
        raise RowError(f"no value in {column!r}, the column of data.group_by")
    return row.fields[column]


def _label_space(inputs: Inputs, survey: _Survey, model: ModelFolder) -> LabelSpace:
    """Labels in the order the user names, else the order of a classifier that knows the same ones, else sorted."""
    if inputs.label_names:
        return LabelSpace(inputs.label_names, inputs.multi_label)
    known = model.json_file("config.json").get("id2label") or {}
    of_model = tuple(known[key] for key in sorted(known, key=int))
    if set(of_model) == set(survey.counts):
        return LabelSpace(of_model, inputs.multi_label)
    return LabelSpace.learn(survey.counts, multi_label=inputs.multi_label)


@dataclass(frozen=True)
class _Fates:
    """Per row, in reading order: the split it belongs to (index into SPLITS), and whether it is kept."""

    split: np.ndarray
    kept: np.ndarray


def _choose_rows(config: RunConfig, inputs: Inputs, survey: _Survey, ledger: Ledger) -> _Fates:
    """Duplicates out, splits carved, limits applied; every row's fate in the ledger."""
    data = config.data
    usable = np.frombuffer(survey.usable, dtype=np.int8).astype(bool)
    given = np.frombuffer(survey.split_of, dtype=np.int8).astype(np.int64)
    split = given.copy()
    fate = np.where(usable, 0, 1)  # kept, rejected, filtered, not selected
    if data.deduplicate:
        positions = np.flatnonzero(usable & (given == 0))
        _, first = np.unique(np.frombuffer(survey.hashes, dtype=np.uint64)[positions], return_index=True)
        fate[np.setdiff1d(positions, positions[first])] = 2
    carve = {
        TEST: 0.0 if inputs.sources.get(TEST) else _DEFAULT_TEST_RATIO if data.test_ratio is None else data.test_ratio,
        VALIDATION: 0.0 if inputs.sources.get(VALIDATION) else data.validation_ratio,
    }
    if sum(carve.values()) >= 1:
        raise UserError(
            "nothing is left to train on",
            where="data.validation_ratio + data.test_ratio",
            found=f"{sum(carve.values()):g}",
            expected="less than 1",
        )
    pool = np.flatnonzero((fate == 0) & (given == 0))
    names = assign(
        len(pool),
        {name: ratio for name, ratio in carve.items() if ratio},
        seed=data.seed,
        labels=np.frombuffer(survey.labels, dtype=np.int64)[pool] if data.stratify else None,
        groups=np.frombuffer(survey.groups, dtype=np.uint64)[pool] if data.group_by else None,
    )
    for index, name in enumerate(SPLITS):
        split[pool[names == name]] = index
    for index, name in enumerate(SPLITS):
        limit = data.limit_of(name)
        positions = np.flatnonzero((fate == 0) & (split == index))
        if limit is not None and limit < len(positions):
            fate[positions[~subset(len(positions), limit, seed=data.seed)]] = 3
    if not ((fate == 0) & (split == 0)).any():
        raise UserError(
            "no training row is left",
            where=inputs.sources[TRAIN][0].name,
            mend="Check data.limit and the rejected rows.",
        )
    start = 0
    for (_, source), num_read in zip(inputs.of(), survey.num_read, strict=True):
        rows = slice(start, start + num_read)
        for index, name in enumerate(SPLITS):
            for code, label in ((0, KEPT), (2, FILTERED), (3, NOT_SELECTED)):
                count = int(((split[rows] == index) & (fate[rows] == code)).sum())
                if count:
                    ledger.add(source.name, name, label, count)
        start = rows.stop
    return _Fates(split, fate == 0)


def _encode(
    config: RunConfig, inputs: Inputs, model: ModelFolder, task: Any, fates: _Fates, folder: Path, say: Say
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """The second pass: encode the kept rows into their splits' shards. Rows in shards of an earlier, killed pass are skipped."""
    from tunewright.tokens.tokenizer import load_encoder

    encoder = load_encoder(model, max_length=config.data.max_length, truncation_side=config.data.truncation_side)
    fields = task.store_fields()
    type_ids = encoder.gives_type_ids(pair=inputs.columns.pair is not None)
    writers = {name: SplitWriter(folder, name, fields, type_ids=type_ids) for name in SPLITS}
    for name, writer in writers.items():
        if writer.num_finished:
            say(f"{writer.num_finished:,} rows of the {name} split are already encoded; going on after them.")
    waiting: dict[str, list[tuple[dict[str, Any], Example]]] = {name: [] for name in SPLITS}
    seen = Counter[str]()

    def write(name: str) -> None:
        _write_encoded(writers[name], waiting[name], task, encoder)
        waiting[name].clear()

    row_id = -1
    for number, (_, source) in enumerate(inputs.of()):
        for row in source.rows():
            row_id += 1
            if not fates.kept[row_id]:
                continue
            name = SPLITS[fates.split[row_id]]
            seen[name] += 1
            if seen[name] <= writers[name].num_finished:
                continue
            assert isinstance(row, Row), "a row that was read well in the first pass"
            waiting[name].append(({"row_id": row_id, "source": number, "line": row.line}, task.to_example(row)))
            if len(waiting[name]) == _ENCODE_ROWS:
                write(name)
    for name, writer in writers.items():
        write(name)
        writer.flush()
    return {name: writer.shards for name, writer in writers.items() if writer.shards}, encoder.max_length


def _facts(survey: _Survey, fates: _Fates, labels: LabelSpace) -> dict[str, Any]:
    """Duplicates, texts that training shares with the other splits, contradicting labels, label counts."""
    hashes = np.frombuffer(survey.hashes, dtype=np.uint64)
    codes = np.frombuffer(survey.labels, dtype=np.int64)
    kept = fates.kept
    unique, counts = np.unique(hashes[kept], return_counts=True)
    pairs = np.unique(np.stack([hashes[kept].astype(np.uint64), codes[kept].astype(np.uint64)]), axis=1)
    in_train = hashes[kept & (fates.split == 0)]
    shared = {
        name: int(np.isin(hashes[kept & (fates.split == index)], in_train).sum())
        for index, name in enumerate(SPLITS)
        if index and (kept & (fates.split == index)).any()
    }
    return {
        "duplicates": int((counts - 1).sum()),
        "contradicting_texts": int(pairs.shape[1] - len(unique)) if not labels.multi_label else 0,
        "shared_with_train": shared,
        "label_counts": {name: survey.counts.get(name, 0) for name in labels.names},
    }


def _token_ledger(splits: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """tokens = supervised + context + cut; a class label is learned from the whole row, so its tokens are context."""
    out = {}
    for name, shards in splits.items():
        kept, cut = sum(shard["tokens"] for shard in shards), sum(shard["cut_tokens"] for shard in shards)
        out[name] = {"tokens": kept + cut, "supervised": 0, "context": kept, "cut": cut}
    return out
