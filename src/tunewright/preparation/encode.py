"""The second pass: kept rows into token ids, into their splits' shards. Also one file for a trained task.

Rows travel in batches of 1,024 examples through `task.encode`; what it rejects (an answer that truncation would cut) is
accounted for like any other rejected row. Examples in shards of an earlier, killed pass are not encoded again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.adapters.base import longest_row
from tunewright.batching import store as stores
from tunewright.batching.store import SplitStore, SplitWriter
from tunewright.config.run_config import RunConfig
from tunewright.encoding.packing import Packer
from tunewright.errors import RowError, RowSkipped, UserError, quoted
from tunewright.files.atomic import file_sha256
from tunewright.preparation.first_pass import RowAssignment, leave_out, reject_row
from tunewright.preparation.inputs import SPLITS, Inputs, open_like
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import ReadOptions, Source
from tunewright.reading.ledger import KEPT, Ledger, RejectFile, bad_rows_error
from tunewright.reading.unchanged import Unchanged, size_of
from tunewright.records import Example, Reject, Row
from tunewright.reporting.phases import BYTES, phase
from tunewright.tasks.base import Task
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.fast import FastPathDiffers
from tunewright.tokenization.tokenizer_checks import check_vocabulary, match

_ENCODE_ROWS = 1_024

Log = Callable[[str], None]


class SplitEncoder:
    """Rows of one split on their way into its store: collected, encoded together, written, rejected ones accounted for."""

    def __init__(
        self, writer: SplitWriter, task: Task, encoder: Any, ledger: Ledger, rejects: RejectFile, sources: Sequence[str]
    ) -> None:
        self.writer, self.task, self.encoder = writer, task, encoder
        self.ledger, self.rejects, self.sources = ledger, rejects, sources
        self._skip = writer.num_finished
        self._seen = 0
        self._rows: list[tuple[int, int, Row, Example]] = []
        self._packer = task.packer(encoder, writer.split)
        self._carried: Any = None  # the row whose tokens wait in the packer

    def add(self, row_id: int, source: int, row: Row, example: Callable[[], Example]) -> None:
        """Take a row in; `example` is made only where the row is not in a finished shard."""
        self._seen += 1
        if self._seen <= self._skip:
            reason = self.writer.finished_rejects.get(self._seen - 1)
            if reason is not None:
                self._reject(row, source, reason)
            return
        self._rows.append((row_id, source, row, example()))
        if len(self._rows) == _ENCODE_ROWS:
            self._encode()

    def finish(self) -> list[dict[str, Any]]:
        """The split's shards, the last rows written."""
        self._encode()
        if self._packer is not None:
            self._end_blocks(self._packer)
        self.writer.flush()
        return self.writer.shards

    def _encode(self) -> None:
        if not self._rows:
            return
        if self._packer is not None:
            self._pack(self._packer)
        else:
            self._write(self.task.encode([example for *_, example in self._rows], self.encoder), self._rows)
        self._rows.clear()

    def _pack(self, packer: Packer) -> None:
        """Blocks go on from batch to batch; a shard ends with a short one, so that its rows can be counted as done."""
        blocks = packer.add([self.task.document(example) for *_, example in self._rows])
        before = [] if self._carried is None else [self._carried]
        moved = replace(blocks, example=blocks.example + len(before))
        self._write(moved, [*before, *self._rows], num_new=len(self._rows))
        if packer.carried >= 0:
            self._carried = self._rows[packer.carried]
        if self.writer.is_full:
            self._end_blocks(packer)
            self.writer.flush()

    def _end_blocks(self, packer: Packer) -> None:
        blocks = packer.finish()
        if len(blocks):
            self._write(replace(blocks, example=blocks.example + 1), [self._carried], num_new=0)
        self._carried = None

    def _write(self, encoded: EncodedRows, of: Sequence[Any], *, num_new: int | None = None) -> None:
        if self.encoder.difference is not None:
            raise FastPathDiffers(self.encoder.difference)
        row_ids, sources, rows, examples = zip(*of, strict=True)
        self.writer.write(
            encoded,
            row_ids=np.array(row_ids, dtype=np.int64),
            sources=np.array(sources, dtype=np.int16),
            lines=np.array([row.line for row in rows], dtype=np.int64),
            weights=np.array([example.weight for example in examples], dtype=np.float32),
            num_new=num_new,
        )
        for number, reason in encoded.rejected.items():
            self._reject(rows[number], sources[number], reason)

    def _reject(self, row: Row, source: int, reason: str) -> None:
        name = self.sources[source]
        self.ledger.add(name, self.writer.split, KEPT, -1)
        reject_row(row, reason, name, self.ledger, self.rejects)


def encode_splits(
    config: RunConfig, inputs: Inputs, model: ModelFolder, task: Task, fates: RowAssignment, folder: Path, *,
    ledger: Ledger, rejects: RejectFile, say: Log, fast: bool = True, check: Callable[[], None] = lambda: None,
    sha256: Callable[[Path], str] = file_sha256,
) -> tuple[dict[str, list[dict[str, Any]]], Any]:  # fmt: skip
    """(split -> its shards, the encoder that made them). FastPathDiffers: the shards so far are to be made again, not `fast`.

    check: raises where the files are no longer those that the shards are named for. sha256: the hash of a shard just written.
    """
    from tunewright.tokenization.encoder import load_encoder

    encoder = load_encoder(model, max_length=longest_row(config, model), truncation_side=config.data.truncation_side)
    encoder = encoder if fast else encoder.without_fast_path()
    check_vocabulary(encoder.tokenizer, model)
    fields, type_ids = task.label_schema(), task.gives_type_ids(encoder)
    longest = encoder.max_length * task.texts_per_row
    names = [source.name for _, source in inputs.of()]
    waiting = {
        name: SplitEncoder(
            SplitWriter(folder, name, fields, type_ids=type_ids, check=check, max_length=longest, sha256=sha256),
            task,
            encoder,
            ledger,
            rejects,
            names,
        )
        for name in SPLITS
    }
    for name, of_split in waiting.items():
        if of_split.writer.num_finished:
            say(f"{of_split.writer.num_finished:,} rows of the {name} split are already encoded; going on after them.")
    row_id = -1
    with phase("encoding", len(fates.kept)) as shown:
        for number, (_, source) in enumerate(inputs.of()):
            for row in source.rows():
                row_id += 1
                shown.advance()
                if fates.kept[row_id]:
                    assert isinstance(row, Row), "the row that the first pass read without a problem"
                    waiting[SPLITS[fates.split[row_id]]].add(row_id, number, row, partial(task.to_example, row))
        shards = {name: of_split.finish() for name, of_split in waiting.items()}
    return {name: of_split for name, of_split in shards.items() if of_split}, encoder


def _given(example: Example) -> Callable[[], Example]:
    return lambda: example


def match_tokenizer(texts: Sequence[str], model: ModelFolder, encoder: Any) -> dict[str, list[str]]:
    """What there is to say about tokenizer, model and the first training texts: `findings` and `hints`."""
    return asdict(match(encoder.tokenizer, model, texts))


def encode_file(
    path: str, options: ReadOptions, task: Task, encoder: Any, folder: Path, *, skip_bad_rows: bool = False
) -> tuple[SplitStore, Ledger]:
    """One labelled file, encoded into `folder` for a trained task: every readable row, in order. UserError for bad rows."""
    try:
        return _encode_file(path, options, task, encoder, folder, skip_bad_rows=skip_bad_rows)
    except FastPathDiffers:
        shutil.rmtree(folder)
        folder.mkdir()
        return _encode_file(path, options, task, encoder.without_fast_path(), folder, skip_bad_rows=skip_bad_rows)


def _encode_file(
    path: str, options: ReadOptions, task: Task, encoder: Any, folder: Path, *, skip_bad_rows: bool
) -> tuple[SplitStore, Ledger]:
    source = open_like(path, options, task)
    ledger = Ledger()
    with RejectFile(folder / "rejected.jsonl") as rejects, phase("encoding", size_of(source.files()), BYTES):
        longest = encoder.max_length * task.texts_per_row
        type_ids = task.gives_type_ids(encoder)
        writer = SplitWriter(folder, "data", task.label_schema(), type_ids=type_ids, max_length=longest)
        waiting = SplitEncoder(writer, task, encoder, ledger, rejects, [source.name])
        for row_id, row in enumerate(_unchanged_rows(source)):
            ledger.read[source.name] += 1
            try:
                if isinstance(row, Reject):
                    raise RowError(row.reason)
                example = task.to_example(row)
                _check_names(task, example)
            except RowSkipped as left_out:
                leave_out(left_out.reason, source.name, "data", ledger)
                continue
            except RowError as error:
                reject_row(row, error.reason, source.name, ledger, rejects)
                continue
            ledger.add(source.name, "data", KEPT)
            waiting.add(row_id, 0, row, _given(example))
        shards = waiting.finish()
    if rejects.count and not skip_bad_rows:
        raise bad_rows_error(rejects.first, rejects.count, ledger.read[source.name], None, go_on="--skip-bad-rows")
    if not shards:
        raise UserError("no row to evaluate", where=path)
    return stores.finish_store(folder, "", {"data": shards}, stores.names_of_sources([source.name]))["data"], ledger


def _unchanged_rows(source: Source) -> Iterator[Row | Reject]:
    """The rows of one file. UserError where it is another one than was opened."""
    with Unchanged.opened([source]).while_read():
        yield from source.rows()


def _check_names(task: Task, example: Example) -> None:
    for name in task.labels_of(example):
        if name not in task.known_names:
            raise RowError(f"{task.label_noun} {name!r} is none that the model knows ({quoted(task.known_names)})")


def token_ledger(splits: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """tokens = supervised + context + cut; a class label is learned from the whole row, so its tokens are context."""
    out = {}
    for name, shards in splits.items():
        kept, cut = sum(shard["tokens"] for shard in shards), sum(shard["cut_tokens"] for shard in shards)
        supervised = sum(shard["supervised_tokens"] for shard in shards)
        out[name] = {"tokens": kept + cut, "supervised": supervised, "context": kept - supervised, "cut": cut}
    return out
