"""Encoded rows on the disk: Arrow stream shards, memory-mapped, with a manifest that says what must be in them.

    store/5f3a…/train-00000.arrow    row_id part source line input_ids labels num_cut weight …
    store/5f3a…/manifest.json        schema, fingerprint, per split: shards with rows, tokens, sha256

A shard also opens with `datasets.Dataset.from_file`. Shards appear whole; an interrupted writer continues after the last whole one.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.files.atomic import TEMPORARY, file_sha256, json_sha256, whole_file, write_json
from tunewright.records import Encoded, HeldRows, address_of
from tunewright.tokenization.encoded_rows import EncodedRows, concatenated

SCHEMA = 3
ROWS_PER_SHARD = 50_000
_TOKENS_PER_SHARD = 1 << 24  # 64 MiB of ids: what waits in memory does not grow with the rows
_ROWS_PER_BATCH = 2_048
_PART_SHIFT = 40  # row ids stay below 2**40, parts below 2**23
_TOP_BIT = 62  # of an int64 without its sign


_SEAL = "seal"
"""Key of the hash over a manifest's (or receipt's) own content and the store it belongs to."""
_BESIDE = ("ledger.json", "rejected.jsonl")
"""Files of a store without rows; a run copies them."""


class StoreDamaged(Exception):
    """A store does not match its manifest; it is rebuilt."""


def _common_columns(type_ids: bool) -> dict[str, Any]:
    """Column -> Arrow type, of every store."""
    import pyarrow as pa

    return {
        "row_id": pa.int64(),
        "part": pa.int32(),
        "source": pa.int16(),
        "line": pa.int64(),
        "input_ids": pa.list_(pa.int32()),
        **({"token_type_ids": pa.list_(pa.int8())} if type_ids else {}),
        "num_cut": pa.int32(),
        "num_supervised": pa.int32(),
        "weight": pa.float32(),
    }


class SplitWriter:
    """Writes one split's rows in order, shard by shard; continues after the shards that an earlier writer finished.

    fields: column name -> Arrow type, for the task's own columns (labels). A shard ends after a whole batch of rows.
    check: called before a shard counts as finished; raises where its rows must not be used.
    max_length: maximum number of tokens of a row; a longer one is a UserError.
    sha256: the hash of a shard that was just written.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        fields: Mapping[str, Any],
        *,
        type_ids: bool,
        rows_per_shard: int = ROWS_PER_SHARD,
        check: Callable[[], None] = lambda: None,
        max_length: int | None = None,
        sha256: Callable[[Path], str] = file_sha256,
    ) -> None:
        import pyarrow as pa

        self.folder, self.split, self.rows_per_shard, self._check = folder, split, rows_per_shard, check
        self._max_length, self._sha256 = max_length, sha256
        columns = {**_common_columns(type_ids), **fields}
        self._schema = pa.schema(list(columns.items()))
        self._fields = tuple(fields)
        self.shards: list[dict[str, Any]] = []
        self._pending: list[Any] = []
        self._num_pending = self._examples_pending = self._tokens_pending = 0
        self._rejected_pending: dict[int, str] = {}
        self._find_finished()
        self.num_finished = sum(shard["examples"] for shard in self.shards)
        """Examples that are already in whole shards: the caller need not encode them again."""
        self.finished_rejects = {int(number): why for shard in self.shards for number, why in shard["rejected"].items()}
        """The number of each rejected one of them within the split -> the reason."""

    def _find_finished(self) -> None:
        for leftover in self.folder.glob(f"{TEMPORARY}{glob.escape(self.split)}-[0-9]*"):
            leftover.unlink()
        while (receipt := self.folder / f"{self.split}-{len(self.shards):05d}.json").is_file():
            path = receipt.with_suffix(".arrow")
            try:
                shard = _unsealed(json.loads(receipt.read_text(encoding="utf-8")), self.folder)
                whole = shard["file"] == path.name and path.is_file() and file_sha256(path) == shard["sha256"]
            except (StoreDamaged, ValueError, KeyError, TypeError, RecursionError):
                break
            if not whole:
                break
            self.shards.append(shard)

    def write(
        self, rows: EncodedRows, *, row_ids: np.ndarray, sources: np.ndarray, lines: np.ndarray, weights: np.ndarray,
        num_new: int | None = None,
    ) -> None:  # fmt: skip
        """Add the rows of a batch of examples. The arrays have an entry per example.

        num_new: how many of them were not in an earlier batch; None: all. Then the caller flushes, when the shard `is_full`.
        """
        import pyarrow as pa

        of = rows.example
        self._refuse_too_long(rows.lengths, lines[of])
        columns = {
            "row_id": row_ids[of],
            "part": rows.part,
            "source": sources[of],
            "line": lines[of],
            "input_ids": _lists(rows.offsets, rows.input_ids),
            "num_cut": rows.num_cut,
            "num_supervised": rows.num_supervised,
            "weight": weights[of],
            **{name: rows.values[name] for name in self._fields},
        }
        if rows.token_type_ids is not None:
            columns["token_type_ids"] = _lists(rows.offsets, rows.token_type_ids)
        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        self._pending.append(pa.record_batch(arrays, schema=self._schema))
        already = sum(shard["examples"] for shard in self.shards) + self._examples_pending
        self._rejected_pending |= {already + number: reason for number, reason in rows.rejected.items()}
        self._num_pending += len(rows)
        self._examples_pending += len(row_ids) if num_new is None else num_new
        self._tokens_pending += len(rows.input_ids)
        if num_new is None and self.is_full:
            self.flush()

    def _refuse_too_long(self, lengths: np.ndarray, lines: np.ndarray) -> None:
        if self._max_length is None or not len(lengths) or lengths.max() <= self._max_length:
            return
        longest = int(lengths.argmax())
        raise UserError(
            f"a row of {lengths[longest]:,} tokens is longer than the {self._max_length:,} that the model reads",
            where=f"{self.split} split, line {lines[longest]}",
            hint="The task's `encode` must cut such a text at encoder.max_length, split it into several rows, or reject it.",
        )

    @property
    def is_full(self) -> bool:
        """Whether the pending rows are enough for a shard."""
        return self._num_pending >= self.rows_per_shard or self._tokens_pending >= _TOKENS_PER_SHARD

    def flush(self) -> None:
        """Write the pending rows as a shard: the file first, then its receipt, which makes it count."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._num_pending:
            return
        name = f"{self.split}-{len(self.shards):05d}"
        path = self.folder / f"{name}.arrow"
        table = pa.Table.from_batches(self._pending, schema=self._schema).combine_chunks()
        with whole_file(path) as sink, pa.ipc.new_stream(sink, self._schema) as writer:
            writer.write_table(table, max_chunksize=_ROWS_PER_BATCH)
        shard = {
            "file": path.name,
            "rows": table.num_rows,
            "examples": self._examples_pending,
            "rejected": {str(number): reason for number, reason in self._rejected_pending.items()},
            "tokens": int(pc.sum(pc.list_value_length(table["input_ids"])).as_py()),
            "supervised_tokens": int(pc.sum(table["num_supervised"]).as_py()),
            "cut_tokens": int(pc.sum(table["num_cut"]).as_py()),
            "cut_rows": int(pc.sum(pc.cast(table["num_cut"], pa.bool_())).as_py()),
            "bytes": path.stat().st_size,
            "sha256": self._sha256(path),
        }
        self._check()
        write_json(self.folder / f"{name}.json", _sealed(shard, self.folder))
        self.shards.append(shard)
        self._pending.clear()
        self._num_pending = self._examples_pending = self._tokens_pending = 0
        self._rejected_pending = {}


def _lists(offsets: np.ndarray, values: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(
        _array(offsets.astype(np.int32), pa.int32()), _array(values, pa.from_numpy_dtype(values.dtype))
    )


def _array(values: Any, type_: Any) -> Any:
    """An Arrow array, over the same memory where the dtype fits: `pa.array` checks every value's range, and imports pandas."""
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    flat = isinstance(values, np.ndarray) and (pa.types.is_integer(type_) or pa.types.is_floating(type_))
    if not flat or values.dtype != type_.to_pandas_dtype():
        return pa.array(values, type=type_)
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


@dataclass(frozen=True)
class SplitStore:
    """The encoded rows of one split, read-only. Rows are numbered 0 … len - 1 in file order.

    lengths: int32 `(rows,)` tokens. row_ids: int64, which row of the sources. weights: float32.
    keys: int64, unique over the whole store also where one source row gave several parts: what randomness is keyed by.
    """

    name: str
    sources: tuple[str, ...]
    lengths: np.ndarray
    row_ids: np.ndarray
    keys: np.ndarray
    weights: np.ndarray
    num_cut: np.ndarray
    _tables: list[Any] = field(repr=False)
    _starts: np.ndarray = field(repr=False)
    _ids: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    _type_ids: list[tuple[np.ndarray, np.ndarray]] | None = field(repr=False)
    _arrays: dict[str, np.ndarray] = field(repr=False, default_factory=dict)
    _lists: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(repr=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    def input_ids(self, position: int) -> np.ndarray:
        """int32 `(length,)`, a view into the mapped file."""
        return self._slice(self._ids, position)

    def token_type_ids(self, position: int) -> np.ndarray | None:
        return None if self._type_ids is None else self._slice(self._type_ids, position)

    def encoded(self, position: int) -> Encoded:
        return Encoded(self.input_ids(position), self.token_type_ids(position), int(self.num_cut[position]))

    def _slice(self, chunks: list[tuple[np.ndarray, np.ndarray]], position: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, position, side="right")) - 1
        offsets, values = chunks[chunk]
        within = position - int(self._starts[chunk])
        return values[offsets[within] : offsets[within + 1]]

    def column(self, name: str) -> Any:
        """A whole column as a pyarrow ChunkedArray."""
        import pyarrow as pa

        return pa.chunked_array([chunk for table in self._tables for chunk in table.column(name).chunks])

    def array(self, name: str) -> np.ndarray:
        """A column as one NumPy array, fixed-size lists flattened. Kept after the first call."""
        if name not in self._arrays:
            column = self.column(name).combine_chunks()
            values = column.flatten() if hasattr(column, "flatten") and _is_list(column.type) else column
            self._arrays[name] = values.to_numpy(zero_copy_only=False)
        return self._arrays[name]

    def lists(self, name: str, positions: Iterable[int]) -> list[np.ndarray]:
        """Rows of a column of lists, views into the mapped file."""
        if name not in self._lists:
            self._lists[name] = [_offsets_and_values(chunk) for chunk in _chunks(self._tables, name)]
        return [self._slice(self._lists[name], int(position)) for position in positions]

    def address(self, position: int) -> str:
        """`train.csv:418`, the place of the row in the user's file."""
        return address_of(self.sources[self.array("source")[position]], int(self.array("line")[position]))

    def torch_dataset(self) -> StoreDataset:
        """A `torch.utils.data.Dataset` of dicts with Hugging Face names (`input_ids`, `labels`), unpadded."""
        return StoreDataset(self)


@dataclass(frozen=True)
class TokenStore:
    """A finished store: its manifest and, per split, its rows."""

    folder: Path
    manifest: dict[str, Any]

    def __getitem__(self, split: str) -> SplitStore:
        if split not in self.manifest["splits"]:
            raise UserError(f"no split {split!r} in the token store", found=", ".join(self.manifest["splits"]))
        return _open_split(self.folder, split, self.manifest)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.manifest["splits"])

    def shard_files(self, split: str) -> list[Path]:
        """The Arrow files of a split, for `datasets.Dataset.from_file`."""
        return [self.folder / shard["file"] for shard in self.manifest["splits"][split]["shards"]]


def open_store(folder: Path, fingerprint: str, *, sha256: Callable[[Path], str] = file_sha256) -> TokenStore:
    """Open a finished store and verify every shard. StoreDamaged when anything is missing or differs.

    sha256: the hash of a file; one that remembers files reads none that it knows.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreDamaged("it was never finished") from None
    except (ValueError, RecursionError, OSError):
        raise StoreDamaged("its manifest is broken") from None
    if not isinstance(manifest, dict):
        raise StoreDamaged("its manifest is broken")
    if manifest.get("schema") != SCHEMA or manifest.get("fingerprint") != fingerprint:
        raise StoreDamaged("it was written for other inputs or by another version")
    manifest = _unsealed(manifest, folder)
    try:
        shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
        for shard in shards:
            _require_whole(folder / shard["file"], shard, sha256)
        for name in _BESIDE:
            if _sha256_of(folder / name) != manifest["files"].get(name):
                raise StoreDamaged(f"{name} has changed")
    except (KeyError, TypeError, AttributeError):
        raise StoreDamaged("its manifest is broken") from None
    return TokenStore(folder, manifest)


def _sealed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {**values, _SEAL: json_sha256([folder.name, values])}


def _unsealed(values: Any, folder: Path) -> dict[str, Any]:
    """The sealed values. StoreDamaged where one has changed, or they belong to another store."""
    if not isinstance(values, dict):
        raise StoreDamaged("its manifest is broken")
    seal = values.pop(_SEAL, None)
    if seal != json_sha256([folder.name, values]):
        raise StoreDamaged("its manifest has changed")
    return values


def _sha256_of(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None


def _require_whole(path: Path, shard: Mapping[str, Any], sha256: Callable[[Path], str]) -> None:
    if not path.is_file():
        raise StoreDamaged(f"{shard['file']} is missing")
    if path.stat().st_size != shard["bytes"] or sha256(path) != shard["sha256"]:
        raise StoreDamaged(f"{shard['file']} has changed")


def finish_store(
    folder: Path, fingerprint: str, splits: Mapping[str, Sequence[dict[str, Any]]], extra: Mapping[str, Any]
) -> TokenStore:
    """Write the manifest, which makes the store complete."""
    manifest = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "splits": {
            name: {
                "rows": sum(shard["rows"] for shard in shards),
                "tokens": sum(shard["tokens"] for shard in shards),
                "supervised_tokens": sum(shard["supervised_tokens"] for shard in shards),
                "cut_tokens": sum(shard["cut_tokens"] for shard in shards),
                "cut_rows": sum(shard["cut_rows"] for shard in shards),
                "shards": list(shards),
            }
            for name, shards in splits.items()
        },
        "files": {name: sha256 for name in _BESIDE if (sha256 := _sha256_of(folder / name))},
        **extra,
    }
    write_json(folder / "manifest.json", _sealed(manifest, folder))
    return TokenStore(folder, json.loads(json.dumps(manifest)))  # as every other process reads it


def _open_split(folder: Path, split: str, manifest: Mapping[str, Any]) -> SplitStore:
    tables = [_shard_table(folder / shard["file"], shard["rows"]) for shard in manifest["splits"][split]["shards"]]
    ids = [_offsets_and_values(chunk) for chunk in _chunks(tables, "input_ids")]
    has_types = bool(tables) and "token_type_ids" in tables[0].column_names
    counts = [len(offsets) - 1 for offsets, _ in ids]
    row_ids = concatenated([chunk.to_numpy() for chunk in _chunks(tables, "row_id")], np.int64)
    parts = concatenated([chunk.to_numpy() for chunk in _chunks(tables, "part")], np.int64)
    return SplitStore(
        name=split,
        sources=_sources_of(manifest),
        lengths=concatenated([np.diff(offsets) for offsets, _ in ids], np.int32),
        row_ids=row_ids,
        keys=row_ids | parts << _PART_SHIFT,
        weights=concatenated([chunk.to_numpy() for chunk in _chunks(tables, "weight")], np.float32),
        num_cut=concatenated([chunk.to_numpy() for chunk in _chunks(tables, "num_cut")], np.int32),
        _tables=tables,
        _starts=np.cumsum([0, *counts[:-1]]) if counts else np.zeros(0, dtype=np.int64),
        _ids=ids,
        _type_ids=[_offsets_and_values(chunk) for chunk in _chunks(tables, "token_type_ids")] if has_types else None,
    )


def names_of_sources(sources: Sequence[str]) -> dict[str, Any]:
    """What a manifest keeps of the names of sources: for rows that were in memory, also what these were called."""
    held = {
        str(n): list(name.labels) if name.labels else None
        for n, name in enumerate(sources)
        if isinstance(name, HeldRows)
    }
    return {"sources": list(sources), **({"held_rows": held} if held else {})}


def _sources_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    held = manifest.get("held_rows", {})
    return tuple(
        HeldRows(name, labels=held[str(n)]) if str(n) in held else name for n, name in enumerate(manifest["sources"])
    )


def _shard_table(path: Path, num_rows: int) -> Any:
    """A shard, memory-mapped. UserError where it is damaged: an offset outside of it would crash the process."""
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
            table = reader.read_all()
        table.validate(full=True)
        columns = dict(zip(table.column_names, table.schema.types, strict=True))
        if not _common_columns("token_type_ids" in columns).items() <= columns.items():
            raise pa.ArrowInvalid("its columns are not those of a store")
        if table.num_rows != num_rows:
            raise pa.ArrowInvalid(f"it holds {table.num_rows} rows, not {num_rows}")
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"the token store is damaged ({str(error).splitlines()[0]})",
            where=str(path),
            hint=f"Delete {path.parent}; the same command builds it again.",
        ) from error
    return table


def _is_list(type_: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_)


def _chunks(tables: Sequence[Any], column: str) -> Iterator[Any]:
    for table in tables:
        yield from table.column(column).chunks


def _offsets_and_values(chunk: Any) -> tuple[np.ndarray, np.ndarray]:
    return chunk.offsets.to_numpy(), chunk.values.to_numpy(zero_copy_only=False)


def text_keys(keys_R: np.ndarray, num_texts: int) -> np.ndarray:
    """int64 `(num_texts * R,)`: a key of its own for each of several texts in a row, all first ones first, then all second ones.

    What is random about a text (its dropout masks) is keyed by it. The first text has the row's own key; the number of another stands
    in the topmost bits, the lowest one first, which leaves parts below 2**19 to rows of 16 texts.
    """
    numbers = [
        sum((text >> bit & 1) << (_TOP_BIT - bit) for bit in range(num_texts.bit_length())) for text in range(num_texts)
    ]
    return np.concatenate([keys_R | number for number in numbers])


class StoreDataset:
    """A split as a map-style dataset, for loops that are not ours (`transformers.Trainer`, a plain DataLoader).

    Unpadded rows with Hugging Face names; `labels` as the task stored them.

        StoreDataset(store["train"])[0]     # {"input_ids": [101, 2023, …, 102], "labels": 3}
    """

    def __init__(self, split: SplitStore) -> None:
        self.split = split
        self._labels = split.column("labels")

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row: dict[str, Any] = {"input_ids": self.split.input_ids(position).tolist()}
        types = self.split.token_type_ids(position)
        if types is not None:
            row["token_type_ids"] = types.tolist()
        row["labels"] = self._labels[position].as_py()
        return row
