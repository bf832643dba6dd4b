"""The token store: what was written is what is read, whole or not at all, and a killed writer goes on where it stood."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.batching.store import SplitWriter, StoreDamaged, finish_store, open_store, text_keys
from tunewright.errors import UserError
from tunewright.records import Encoded
from tunewright.tokenization.encoded_rows import EncodedRows

FIELDS = {"labels": pa.int64()}


def rows_of(number, *, type_ids=False):
    """Rows that can be told apart: the 5th has 6 tokens, 5000 … 5005."""
    return [
        {
            "row_id": 2 * i, "source": i % 2, "line": 10 + i, "input_ids": np.arange(1_000 * i, 1_000 * i + i % 7 + 1, dtype=np.int32),
            "token_type_ids": np.full(i % 7 + 1, i % 2, dtype=np.int8) if type_ids else None, "num_cut": i % 3, "weight": i / 4, "labels": i % 5,
        }
        for i in range(number)
    ]  # fmt: skip


def put(writer, row):
    """One row through the writer, which takes batches."""
    encoded = Encoded(row["input_ids"], row["token_type_ids"], row["num_cut"])
    writer.write(
        EncodedRows.of([encoded], values={"labels": [row["labels"]]}), row_ids=np.array([row["row_id"]]),
        sources=np.array([row["source"]], dtype=np.int16), lines=np.array([row["line"]]),
        weights=np.array([row["weight"]], dtype=np.float32),
    )  # fmt: skip


def write(folder, split, rows, *, type_ids=False, rows_per_shard=4, fields=FIELDS):
    folder.mkdir(parents=True, exist_ok=True)
    writer = SplitWriter(folder, split, fields, type_ids=type_ids, rows_per_shard=rows_per_shard)
    for row in rows[writer.num_finished :]:
        put(writer, row)
    writer.flush()
    return writer


def make(folder, rows, **options):
    writer = write(folder, "train", rows, **options)
    return finish_store(folder, "print", {"train": writer.shards}, {"sources": ["a.csv", "b.csv"]})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("type_ids", [False, True])
@pytest.mark.parametrize("number", [1, 4, 10, 11])
def test_what_is_written_is_read(tmp_path, number, type_ids):
    rows = rows_of(number, type_ids=type_ids)
    make(tmp_path / "s", rows, type_ids=type_ids)
    split = open_store(tmp_path / "s", "print")["train"]
    assert len(split) == number
    for position, row in enumerate(rows):
        encoded = split.encoded(position)
        assert encoded.input_ids.dtype == np.int32 and encoded.input_ids.tolist() == row["input_ids"].tolist()
        assert encoded.num_cut == row["num_cut"]
        if type_ids:
            assert encoded.token_type_ids.dtype == np.int8
            assert encoded.token_type_ids.tolist() == row["token_type_ids"].tolist()
        else:
            assert encoded.token_type_ids is None
        assert split.address(position) == f"{'ab'[position % 2]}.csv:{10 + position}"
    assert split.lengths.dtype == np.int32 and split.lengths.tolist() == [i % 7 + 1 for i in range(number)]
    assert split.row_ids.dtype == np.int64 and split.row_ids.tolist() == [2 * i for i in range(number)]
    assert split.weights.dtype == np.float32 and split.weights.tolist() == [i / 4 for i in range(number)]
    assert split.array("labels").tolist() == [i % 5 for i in range(number)]


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), min_size=1, max_size=12), st.integers(1, 5))
def test_any_ids_survive_any_shards(tmp_path_factory, lists, rows_per_shard):
    folder = tmp_path_factory.mktemp("store") / "s"
    rows = [
        {**row, "input_ids": np.array(ids, dtype=np.int32)} for row, ids in zip(rows_of(len(lists)), lists, strict=True)
    ]
    store = make(folder, rows, rows_per_shard=rows_per_shard)
    split = store["train"]
    assert [split.input_ids(position).tolist() for position in range(len(split))] == lists
    assert len(store.shard_files("train")) == -(-len(lists) // rows_per_shard)
    assert store.manifest["splits"]["train"]["tokens"] == sum(map(len, lists))


def test_the_manifest_counts_rows_tokens_and_cuts(tmp_path):
    make(tmp_path / "s", rows_of(10))
    split = json.loads((tmp_path / "s" / "manifest.json").read_text())["splits"]["train"]
    assert [shard["rows"] for shard in split["shards"]] == [4, 4, 2]
    # lengths 1 … 7, 1, 2, 3; cuts 0 1 2 0 1 2 0 1 2 0
    assert {key: split[key] for key in ("rows", "tokens", "cut_tokens", "cut_rows")} == {
        "rows": 10, "tokens": 34, "cut_tokens": 9, "cut_rows": 6,
    }  # fmt: skip


def test_lists_of_labels_come_flat(tmp_path):
    rows = [{**row, "labels": [0.0, float(i), 1.0]} for i, row in enumerate(rows_of(5))]
    split = make(tmp_path / "s", rows, fields={"labels": pa.list_(pa.float32(), 3)})["train"]
    assert split.array("labels").reshape(5, 3).tolist() == [[0, i, 1] for i in range(5)]


def test_a_shard_opens_as_a_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    store = make(tmp_path / "s", rows_of(10, type_ids=True), type_ids=True)
    tables = [datasets.Dataset.from_file(str(path)) for path in store.shard_files("train")]
    assert [len(table) for table in tables] == [4, 4, 2]
    assert tables[1][1]["input_ids"] == [5_000, 5_001, 5_002, 5_003, 5_004, 5_005] and tables[1][1]["row_id"] == 10


def test_a_torch_dataset_has_hugging_face_names(tmp_path):
    plain = make(tmp_path / "plain", rows_of(5))["train"].torch_dataset()
    assert len(plain) == 5 and plain[3] == {"input_ids": [3_000, 3_001, 3_002, 3_003], "labels": 3}
    pairs = make(tmp_path / "pairs", rows_of(5, type_ids=True), type_ids=True)["train"].torch_dataset()
    assert pairs[1] == {"input_ids": [1_000, 1_001], "token_type_ids": [1, 1], "labels": 1}


def test_a_split_that_is_not_there_lists_those_that_are(tmp_path):
    with pytest.raises(UserError, match="no split 'test' in the token store; found train"):
        make(tmp_path / "s", rows_of(2))["test"]


# Damage


def test_a_store_without_a_manifest_was_never_finished(tmp_path):
    write(tmp_path / "s", "train", rows_of(4))
    with pytest.raises(StoreDamaged, match="never finished"):
        open_store(tmp_path / "s", "print")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\udcff"])
def test_a_broken_manifest(tmp_path, text):
    make(tmp_path / "s", rows_of(4))
    (tmp_path / "s" / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreDamaged, match="its manifest is broken"):
        open_store(tmp_path / "s", "print")


def test_other_inputs_or_another_version(tmp_path):
    make(tmp_path / "s", rows_of(4))
    with pytest.raises(StoreDamaged, match="other inputs or by another version"):
        open_store(tmp_path / "s", "other print")
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    (tmp_path / "s" / "manifest.json").write_text(json.dumps({**manifest, "schema": 0}))
    with pytest.raises(StoreDamaged, match="other inputs or by another version"):
        open_store(tmp_path / "s", "print")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "train-00001.arrow is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "train-00001.arrow has changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:300] + b"\x7f" + path.read_bytes()[301:]), "train-00001.arrow has changed"),
        (lambda path: shutil.copyfile(path.with_name("train-00000.arrow"), path), "train-00001.arrow has changed"),
    ],
    ids=["gone", "cut", "flipped", "exchanged"],
)  # fmt: skip
def test_a_damaged_shard_is_noticed(tmp_path, damage, said):
    make(tmp_path / "s", rows_of(10))
    damage(tmp_path / "s" / "train-00001.arrow")
    with pytest.raises(StoreDamaged, match=said):
        open_store(tmp_path / "s", "print")


def test_no_single_bit_of_a_manifest_goes_unnoticed(tmp_path):
    """Labels and counts stand there alone: a letter of a label would otherwise be learned as it is."""
    make(tmp_path / "s", rows_of(3))
    path = tmp_path / "s" / "manifest.json"
    raw, meant = path.read_bytes(), json.loads(path.read_bytes())
    for at in range(len(raw)):
        damaged = raw[:at] + bytes([raw[at] ^ 1 << at % 7]) + raw[at + 1 :]
        path.write_bytes(damaged)
        try:
            same = json.loads(damaged) == meant  # between two values a space may become a line break
        except ValueError:
            same = False
        if not same:
            with pytest.raises(StoreDamaged):
                open_store(tmp_path / "s", "print")


@pytest.mark.parametrize("change", ["other", "gone", "come later"])
def test_the_list_of_rejected_rows_belongs_to_the_store(tmp_path, change):
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / "rejected.jsonl"
    if change != "come later":
        path.write_text('{"line": 4}\n')
    make(tmp_path / "s", rows_of(3))
    open_store(tmp_path / "s", "print")
    path.unlink() if change == "gone" else path.write_text('{"line": 5}\n')
    with pytest.raises(StoreDamaged, match=r"rejected\.jsonl has changed"):
        open_store(tmp_path / "s", "print")


def test_a_stream_that_ends_early_is_never_fewer_rows(tmp_path):
    """A cut Arrow stream reads without an error: only the count in the manifest tells."""
    make(tmp_path / "s", rows_of(8))
    store = open_store(tmp_path / "s", "print")
    path = tmp_path / "s" / "train-00001.arrow"
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = reader.read_all()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.slice(0, 3))
    with pytest.raises(UserError, match=r"train-00001.arrow: the token store is damaged \(it holds 3 rows, not 4\)"):
        store["train"]


# A killed writer


@pytest.mark.parametrize("written", [0, 3, 4, 7, 8, 9, 10])
def test_a_killed_writer_goes_on_to_identical_files(tmp_path, written):
    rows = rows_of(10)
    straight = write(tmp_path / "straight" / "s", "train", rows)
    (tmp_path / "killed" / "s").mkdir(parents=True)
    killed = SplitWriter(tmp_path / "killed" / "s", "train", FIELDS, type_ids=False, rows_per_shard=4)
    for row in rows[:written]:
        put(killed, row)  # and no flush: what is pending is lost
    resumed = write(tmp_path / "killed" / "s", "train", rows)
    assert resumed.num_finished == {0: 0, 3: 0, 4: 4, 7: 4, 8: 8, 9: 8, 10: 8}[written]
    assert resumed.shards == straight.shards
    assert contents(tmp_path / "killed" / "s") == contents(tmp_path / "straight" / "s")


@pytest.mark.parametrize("name", ["train-00001.json", "train-00001.arrow"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_shard_counts_only_with_its_receipt_and_its_bytes(tmp_path, name, damage):
    rows = rows_of(12)
    straight = write(tmp_path / "straight" / "s", "train", rows)
    write(tmp_path / "killed" / "s", "train", rows)
    path = tmp_path / "killed" / "s" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    resumed = write(tmp_path / "killed" / "s", "train", rows)
    assert resumed.num_finished == 4  # the third shard stands behind a hole and is written again
    assert resumed.shards == straight.shards
    assert contents(tmp_path / "killed" / "s") == contents(tmp_path / "straight" / "s")


@pytest.mark.parametrize("name", ["train-00001.json", "train-00001.arrow", "both"])
def test_shards_of_another_store_do_not_count(tmp_path, name):
    rows = rows_of(12)
    straight = write(tmp_path / "straight" / "s", "train", rows)
    write(tmp_path / "killed" / "s", "train", rows)
    write(tmp_path / "other" / "o", "train", rows_of(12)[::-1])
    for ending in ("json", "arrow"):
        if name in (f"train-00001.{ending}", "both"):
            shutil.copyfile(
                tmp_path / "other" / "o" / f"train-00001.{ending}", tmp_path / "killed" / "s" / f"train-00001.{ending}"
            )
    resumed = write(tmp_path / "killed" / "s", "train", rows)
    assert resumed.num_finished == 4 and resumed.shards == straight.shards
    assert contents(tmp_path / "killed" / "s") == contents(tmp_path / "straight" / "s")


def test_leftovers_of_a_killed_write_do_no_harm(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".tmp-train-00000.arrow").write_bytes(b"half")
    assert len(make(tmp_path / "s", rows_of(3))["train"]) == 3
    assert not (tmp_path / "s" / ".tmp-train-00000.arrow").exists()


def test_a_damaged_shard_is_a_user_error_and_never_a_signal(tmp_path):
    """Also where its hash was taken after the damage, or it was damaged after it was opened."""
    store = make(tmp_path / "s", rows_of(8))
    path = tmp_path / "s" / "train-00001.arrow"
    raw = path.read_bytes()
    for at in range(0, len(raw) - 4, 4):
        path.write_bytes(raw[:at] + (2**30).to_bytes(4, "little") + raw[at + 4 :])
        try:
            ids = store["train"]
            [ids.input_ids(position) for position in range(len(ids))]
        except UserError as error:
            assert "train-00001.arrow: the token store is damaged" in str(error)
    path.unlink()
    with pytest.raises(UserError, match=r"train-00001.arrow: the token store is damaged .*Delete"):
        store["train"]


@pytest.mark.parametrize("manifest", ["[" * 100_000, "[]", "{}", '{"splits": {"train": {"shards": [{"file": "a"}]}}}'])
def test_a_broken_manifest_is_a_damaged_store(tmp_path, manifest):
    make(tmp_path / "s", rows_of(8))
    whole = json.loads((tmp_path / "s" / "manifest.json").read_text())
    if manifest.startswith("{"):
        manifest = json.dumps({**{key: whole[key] for key in ("schema", "fingerprint")}, **json.loads(manifest)})
    (tmp_path / "s" / "manifest.json").write_text(manifest)
    with pytest.raises(StoreDamaged):
        open_store(tmp_path / "s", "print")


def test_a_row_that_is_longer_than_the_model_reads_is_refused(tmp_path):
    writer = SplitWriter(tmp_path, "train", FIELDS, type_ids=False, max_length=6)
    for row in rows_of(6):
        put(writer, row)
    with pytest.raises(UserError, match=r"a row of 7 tokens is longer than the 6 .* reads(.|\n)*encoder.max_length"):
        put(writer, rows_of(7)[6])


def test_each_text_of_a_row_has_a_key_of_its_own():
    keys = np.array([0, 5 | 3 << 40], dtype=np.int64)
    found = text_keys(keys, 5)
    assert found.dtype == np.int64 and found[:2].tolist() == keys.tolist() and len(set(found.tolist())) == 10
    assert found[2:4].tolist() == (keys | 1 << 62).tolist() == text_keys(keys, 2)[2:].tolist()
    assert (found >= 0).all() and (found % 2**59 == np.tile(keys, 5)).all()
