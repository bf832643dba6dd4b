"""The first pass: every row understood and remembered in 29 bytes, then given its fate: a split, filtered, or not selected.

survey = first_pass(config, inputs, ledger, rejects)
fates = assign_rows(config, inputs, survey, ledger)
fates.split[418], fates.kept[418]      # 0 (train), True
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunewright.config.run_config import RunConfig
from tunewright.errors import RowError, RowSkipped, UserError
from tunewright.preparation.inputs import SPLITS, TEST, VALIDATION, Inputs
from tunewright.reading.file_shapes import bare_fields
from tunewright.reading.ledger import FILTERED, KEPT, NOT_SELECTED, REJECTED, Ledger, RejectFile
from tunewright.reading.split import TRAIN, assign, subset
from tunewright.reading.unchanged import size_of
from tunewright.records import Reject, Row
from tunewright.reporting.phases import BYTES, phase
from tunewright.tokenization.tokenizer_checks import SAMPLE_ROWS

_DEFAULT_TEST_RATIO = 0.1


@dataclass
class FirstPass:
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
    """How often each name (a label, an entity type) was met."""
    texts: list[str] = field(default_factory=list)
    """Of the first usable rows: what the tokenizer is tried on."""
    one_name_each: bool = True
    grouped: bool = False

    def reject(self, split: int) -> None:
        self._add(split, 0, -1, 0, usable=0)

    def keep(self, split: int, identity: str, names: Sequence[str], stratum: str | None, group: str | None) -> None:
        self.counts.update(names)
        self.one_name_each &= len(names) == 1
        self.grouped |= group is not None
        code = -1 if stratum is None else self.codes.setdefault(stratum, len(self.codes))
        self._add(split, _hash(identity), code, 0 if group is None else _hash(group), usable=1)

    def _add(self, split: int, text: int, label: int, group: int, *, usable: int) -> None:
        self.hashes.append(text)
        self.labels.append(label)
        self.groups.append(group)
        self.usable.append(usable)
        self.split_of.append(split)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def first_pass(config: RunConfig, inputs: Inputs, ledger: Ledger, rejects: RejectFile) -> FirstPass:
    """Understand every row once; those that cannot be used go to the ledger and to `rejects`."""
    with phase("reading", size_of(path for _, source in inputs.of() for path in source.files()), BYTES):
        return _first_pass(config, inputs, ledger, rejects)


def _first_pass(config: RunConfig, inputs: Inputs, ledger: Ledger, rejects: RejectFile) -> FirstPass:
    survey, task = FirstPass(), inputs.task
    for split, source in inputs.of():
        known = set(survey.counts) if split != TRAIN and survey.counts else None
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
                    raise RowError(f"{task.label_noun} {unseen[0]!r} never occurs in the training rows")
                group = _group_of(row, config.data.group_by) if config.data.group_by else example.group
            except RowSkipped as left_out:
                leave_out(left_out.reason, source.name, split, ledger)
                survey.reject(SPLITS.index(split))
                continue
            except RowError as error:
                reject_row(row, error.reason, source.name, ledger, rejects)
                survey.reject(SPLITS.index(split))
                continue
            if len(survey.num_read) == 1 and len(survey.texts) < SAMPLE_ROWS:
                survey.texts.append(example.text)
            survey.keep(SPLITS.index(split), task.duplicate_key(example), names, task.stratum_of(example), group)
            task.check_label_counts(survey.counts, where=source.name)
    return survey


def reject_row(row: Row | Reject, reason: str, source: str, ledger: Ledger, rejects: RejectFile) -> None:
    """A row that cannot be used, into rejected.jsonl and the ledger."""
    raw = row.raw if isinstance(row, Reject) else json.dumps(bare_fields(row), ensure_ascii=False, default=str)[:10_000]
    rejects.add(Reject(row.source, row.line, reason, raw))
    ledger.add(source, "-", REJECTED)
    ledger.count_reason(reason)


def leave_out(reason: str, source: str, split: str, ledger: Ledger) -> None:
    """A row that is no fault and no example, into the ledger."""
    ledger.add(source, split, FILTERED)
    ledger.count_reason(reason)


def _group_of(row: Row, column: str) -> str:
    if row.fields.get(column) is None:
        raise RowError(f"no value in {column!r}, the column of data.group_by")
    return str(row.fields[column])


@dataclass(frozen=True)
class RowAssignment:
    """Per row, in reading order: the split it belongs to (index into SPLITS), and whether it is kept."""

    split: np.ndarray
    kept: np.ndarray


def assign_rows(config: RunConfig, inputs: Inputs, survey: FirstPass, ledger: Ledger) -> RowAssignment:
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
    pool = np.flatnonzero((fate == 0) & (given == 0))
    names = assign(
        len(pool),
        {name: ratio for name, ratio in carved(config, inputs).items() if ratio},
        seed=data.seed,
        labels=np.frombuffer(survey.labels, dtype=np.int64)[pool] if data.stratify else None,
        groups=_groups(config, survey)[pool] if survey.grouped else None,
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
            found=ledger.format_counts() or None,
            hint="Check data.limit and the rejected rows.",
        )
    _enter(inputs, survey, split, fate, ledger)
    return RowAssignment(split, fate == 0)


def _groups(config: RunConfig, survey: FirstPass) -> np.ndarray:
    """uint64 `(rows,)`, 0 for what is not usable. A prompt that more than half of the rows share ("Summarize.") tells none from
    the others: those rows stand for themselves."""
    groups, hashes = (np.frombuffer(values, dtype=np.uint64) for values in (survey.groups, survey.hashes))
    if config.data.group_by is not None:
        return groups
    usable = np.frombuffer(survey.usable, dtype=np.int8).astype(bool)
    found, counts = np.unique(groups[usable], return_counts=True)
    return np.where(np.isin(groups, found[2 * counts > usable.sum()]) & usable, hashes, groups)


def carved(config: RunConfig, inputs: Inputs) -> dict[str, float]:
    """What share of the training rows goes to the splits that no file was given for."""
    data = config.data
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
    return carve


def _enter(inputs: Inputs, survey: FirstPass, split: np.ndarray, fate: np.ndarray, ledger: Ledger) -> None:
    start = 0
    for (_, source), num_read in zip(inputs.of(), survey.num_read, strict=True):
        rows = slice(start, start + num_read)
        for index, name in enumerate(SPLITS):
            for code, label in ((0, KEPT), (2, FILTERED), (3, NOT_SELECTED)):
                count = int(((split[rows] == index) & (fate[rows] == code)).sum())
                if count:
                    ledger.add(source.name, name, label, count)
        start = rows.stop


def facts_of(config: RunConfig, survey: FirstPass, fates: RowAssignment, names: Sequence[str]) -> dict[str, Any]:
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
    label_counts: Mapping[str, int] = survey.counts
    if survey.one_name_each:
        of_codes = np.bincount(codes[kept], minlength=len(survey.codes))
        label_counts = {name: int(of_codes[code]) for name, code in survey.codes.items()}
    groups = _groups(config, survey) if survey.grouped else np.zeros(len(codes), dtype=np.uint64)
    groups_in_train = groups[kept & (fates.split == 0) & (groups > 0)]
    of_known_groups = {
        name: int(np.isin(groups[kept & (fates.split == index)], groups_in_train).sum())
        for index, name in enumerate(SPLITS)
        if index
    }
    return {
        "groups_shared_with_train": {name: count for name, count in of_known_groups.items() if count},
        "duplicates": int((counts - 1).sum()),
        "contradicting_texts": int(pairs.shape[1] - len(unique)) if survey.one_name_each else 0,
        "shared_with_train": shared,
        "label_counts": {name: label_counts.get(name, 0) for name in names},
    }
