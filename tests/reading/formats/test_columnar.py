"""Parquet, Arrow and dataset folders: Python values by batches, class names, whole files only."""

import datetime
import decimal
import gzip
import json
import os
import struct

import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source, splits_of
from tunewright.reading.batch_checks import validated
from tunewright.records import Reject, Row

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["x", "y"], "_type": "ClassLabel"}, "_type": "List"},
}
TABLE = pyarrow.table(
    {
        "text": ["a", None, "ü"],
        "label": [0, 1, 1],
        "tags": [[0], [], [0, 1]],
        "when": [datetime.datetime(2024, 1, 2, 3, 4, 5), None, datetime.datetime(2024, 1, 2)],
        "price": [decimal.Decimal("1.50"), None, decimal.Decimal("2.00")],
        "kind": pyarrow.array(["k", "l", "k"]).dictionary_encode(),
        "who": [{"name": "n", "on": datetime.date(2024, 1, 2)}, None, {"name": None, "on": None}],
        "raw": [b"bytes", b"\xff", None],
    }
).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
FIRST = {
    "text": "a",
    "label": 0,
    "tags": [0],
    "when": "2024-01-02 03:04:05",
    "price": "1.50",
    "kind": "k",
    "who": {"name": "n", "on": "2024-01-02"},
    "raw": "bytes",
}


def write(table, path):
    """The table in the format that the name says: .parquet, .file.arrow, .stream.arrow or .feather."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        new = pyarrow.ipc.new_stream if ".stream" in path.name else pyarrow.ipc.new_file
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.file.arrow", "a.stream.arrow", "a.feather"])
@pytest.mark.parametrize("packed", [False, True])
def test_values_are_those_of_the_table(tmp_path, name, packed):
    path = write(TABLE, tmp_path / name)
    if packed:
        path = tmp_path / (name + ".gz")
        path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    source = open_source(str(path))
    rows = list(source.rows())
    assert rows == list(source.rows())
    assert rows[0] == Row(str(path), 1, FIRST)
    assert [row.line for row in rows] == [1, 2, 3]
    assert rows[1].fields["text"] is rows[1].fields["who"] is None and rows[1].fields["raw"] == b"\xff"
    assert source.columns == tuple(TABLE.column_names)
    assert source.class_names == {"label": ("neg", "pos"), "tags": ("x", "y")}
    assert source.format == ("parquet" if name == "a.parquet" else "arrow")


def test_nanoseconds_are_text(tmp_path):
    table = pyarrow.table({"t": pyarrow.array([1], pyarrow.timestamp("ns"))})
    row = next(open_source(str(write(table, tmp_path / "a.parquet"))).rows())
    assert row.fields["t"].startswith("1970-01-01 00:00:00.000000001")


def test_rows_that_cannot_be_used_are_rejected(tmp_path):
    offsets = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\6\0\0\0")
    broken = pyarrow.StringArray.from_buffers(2, offsets, pyarrow.py_buffer(b"okcaf\xe9"))
    few = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1]), broken)
    rows = list(open_source(str(write(pyarrow.table({"text": few}), tmp_path / "b.stream.arrow"))).rows())
    assert [type(row) for row in rows] == [Row, Reject]
    table = pyarrow.table({"text": pyarrow.chunked_array([broken, pyarrow.array(["a\0b", "x" * 5000])])})
    path = write(table, tmp_path / "a.stream.arrow")
    rows = list(open_source(str(path), ReadOptions(max_row_bytes=1000)).rows())
    assert [type(row) for row in rows] == [Row, Reject, Reject, Reject]
    assert "0xE9" in rows[1].reason and rows[1].raw == "caf\\xe9"
    assert "NUL" in rows[2].reason and "1,000" in rows[3].reason
    assert rows[3].raw.endswith(" …") and len(rows[3].raw) == 2002


@pytest.mark.parametrize("name", ["a.parquet", "a.file.arrow", "a.stream.arrow"])
def test_a_cut_file_is_a_user_error_and_never_fewer_rows(tmp_path, name):
    raw = write(TABLE, tmp_path / name).read_bytes()
    batches = len(write(TABLE.slice(0, 2), tmp_path / f"first.{name}").read_bytes()) - 8
    for size in (1, 4, 20, batches, len(raw) // 2, len(raw) - 8, len(raw) - 1):
        (tmp_path / name).write_bytes(raw[:size])
        with pytest.raises(UserError, match=r"not a complete Parquet or Arrow file|cannot be read"):
            list(open_source(str(tmp_path / name)).rows())


def test_something_else_by_that_name_is_a_user_error(tmp_path):
    (tmp_path / "a.parquet").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match=r"Download or write it again"):
        open_source(str(tmp_path / "a.parquet"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with `one` (a saved Dataset) and `several` (a saved DatasetDict)."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("saved")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    train = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}, features=features)
    train.save_to_disk(str(folder / "one"), num_shards=2)
    datasets.DatasetDict(train=train, test=train.select([1])).save_to_disk(str(folder / "several"))
    return folder


def test_a_saved_data_set_is_read_over_its_shards(saved):
    source = open_source(str(saved / "one"))
    assert [(row.line, row.fields["text"]) for row in source.rows()] == [(1, "a"), (2, "b"), (3, "c")]
    assert (source.format, source.class_names) == ("dataset", {"label": ("neg", "pos")})
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "dataset_info.json"]
    assert [path.name for path in source.files()] == names
    assert splits_of(str(saved / "one")) == ()


def test_one_split_of_several_is_chosen(saved):
    folder = str(saved / "several")
    assert splits_of(folder) == ("train", "test")
    assert splits_of(f"{folder}[test]") == ("test",)
    by_option = open_source(folder, ReadOptions(split="test"))
    by_name = open_source(f"{folder}[test]")
    assert [row.fields for row in by_option.rows()] == [{"text": "b", "label": 1}]
    assert list(by_option.rows()) == list(by_name.rows())
    assert next(by_name.rows()).address == f"{folder}[test]:1"
    with pytest.raises(
        UserError, match=r"the data set has several splits; found 'train', 'test'. Name one: .*\[train\]"
    ):
        open_source(folder)
    with pytest.raises(UserError, match=r"no split 'dev'; found 'train', 'test'"):
        open_source(folder, ReadOptions(split="dev"))
    with pytest.raises(UserError, match=r"a data set without splits"):
        open_source(str(saved / "one"), ReadOptions(split="dev"))


def test_shards_in_a_folder_are_one_table_or_splits_by_their_names(tmp_path):
    table = TABLE.select(["text", "label"])
    for name in ("b.parquet", "a.parquet"):
        write(table, tmp_path / name)
    assert [row.line for row in open_source(str(tmp_path)).rows()] == [1, 2, 3, 4, 5, 6]
    data = tmp_path / "repo" / "data"
    data.mkdir(parents=True)
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"):
        write(table, data / name)
    assert splits_of(str(tmp_path / "repo")) == ("test", "train")
    assert len(list(open_source(f"{tmp_path / 'repo'}[train]").rows())) == 6


def test_shards_of_different_columns_are_a_user_error(tmp_path):
    write(TABLE.select(["text"]), tmp_path / "a.parquet")
    write(TABLE.select(["label"]), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b.parquet: .*different columns; found label; expected text"):
        open_source(str(tmp_path))


def test_a_broken_description_is_a_user_error(tmp_path):
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"state.json is not valid JSON"):
        open_source(str(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"the description of the data set is damaged"):
        open_source(str(tmp_path))
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "gone.arrow"}]}')
    with pytest.raises(UserError, match=r"cannot be read"):
        open_source(str(tmp_path))


def test_fields_of_structs_that_are_null_are_absent(tmp_path):
    calls = [[{"name": "f", "arguments": {"city": "Ulm"}}], [{"name": "g", "arguments": {"day": 3}}], None]
    pyarrow.parquet.write_table(pyarrow.table({"calls": calls, "text": ["a", None, "b"]}), tmp_path / "a.parquet")
    rows = list(open_source(str(tmp_path / "a.parquet")).rows())
    assert [row.fields["calls"] for row in rows] == calls
    assert rows[1].fields["text"] is None


def test_an_offset_outside_of_the_texts_is_a_user_error(tmp_path):
    """Followed, it would end the process by a signal; in the file itself, and in one that a data set's folder names."""
    table = pyarrow.table({"text": ["a b", "c d"] * 20, "label": ["x", "y"] * 20})
    for name in ("a.stream.arrow", "a.file.arrow"):
        raw = write(table, tmp_path / name).read_bytes()
        at = raw.index(struct.pack("<iii", 0, 3, 6)) + 4
        for offset in (2**30, -5):
            (tmp_path / name).write_bytes(raw[:at] + struct.pack("<i", offset) + raw[at + 4 :])
            with pytest.raises(
                UserError, match=rf"{name}: not a complete Parquet or Arrow file \(column 'text': Offset"
            ):
                list(open_source(str(tmp_path / name)).rows())


def nested(texts):
    """Columns in which texts stand inside of something."""
    few = pyarrow.DictionaryArray.from_arrays(pyarrow.array([1, 0]), texts)
    return {
        "list": pyarrow.ListArray.from_arrays([0, 1, 2], texts),
        "large list": pyarrow.LargeListArray.from_arrays(pyarrow.array([0, 1, 2], pyarrow.int64()), texts),
        "fixed list": pyarrow.FixedSizeListArray.from_arrays(texts, 1),
        "struct": pyarrow.StructArray.from_arrays([texts], ["a"]),
        "map": pyarrow.MapArray.from_arrays([0, 1, 2], pyarrow.array(["k", "l"]), texts),
        "few": few,
        "list of few": pyarrow.ListArray.from_arrays([0, 1, 2], few),
        "json": pyarrow.ExtensionArray.from_storage(pyarrow.json_(), texts),
    }


def texts_of(raw, *offsets):
    packed = pyarrow.py_buffer(struct.pack(f"<{len(offsets)}i", *offsets))
    return pyarrow.StringArray.from_buffers(len(offsets) - 1, packed, pyarrow.py_buffer(raw))


@pytest.mark.parametrize("kind", list(nested(texts_of(b"ab", 0, 1, 2))))
def test_a_text_that_is_not_utf8_costs_its_row_and_a_damaged_one_the_file(tmp_path, kind):
    broken = nested(texts_of(b"okcaf\xe9", 0, 2, 6))[kind]
    path = write(pyarrow.table({"text": ["a", "b"], "inside": broken}), tmp_path / "a.stream.arrow")
    rows = list(open_source(str(path)).rows())
    assert sorted(type(row).__name__ for row in rows) == ["Reject", "Row"]
    assert next(row for row in rows if isinstance(row, Reject)).reason == "byte 0xE9 of the text is not UTF-8"
    for offsets in ((0, 7, 6), (0, -7, 6)):
        with pytest.raises(
            pyarrow.ArrowInvalid
        ):  # also where the first text, which is not UTF-8, hides the offset behind it
            validated(pyarrow.record_batch({"inside": nested(texts_of(b"\xe9kcaf\xe9", *offsets))[kind]}))


def test_lists_whose_offsets_point_elsewhere_are_damaged_also_beside_texts_that_are_not_utf8():
    broken = texts_of(b"okcaf\xe9", 0, 2, 6)
    for offsets in ((0, 3, 2), (0, -1, 2), (0, 2, 1)):
        packed = pyarrow.py_buffer(struct.pack("<3i", *offsets))
        lists = pyarrow.Array.from_buffers(pyarrow.list_(pyarrow.string()), 2, [None, packed], children=[broken])
        with pytest.raises(pyarrow.ArrowInvalid):
            validated(pyarrow.record_batch({"inside": lists}))
    indices = pyarrow.array([0, 5], pyarrow.int32())
    few = pyarrow.DictionaryArray.from_arrays(indices, broken, safe=False)
    with pytest.raises(pyarrow.ArrowInvalid):
        validated(pyarrow.record_batch({"inside": few}))


@pytest.mark.parametrize("kind", [pyarrow.timestamp("s"), pyarrow.date32(), pyarrow.list_(pyarrow.timestamp("s"))])
def test_a_time_that_is_out_of_range_costs_its_row(tmp_path, kind):
    nested_too = pyarrow.types.is_list(kind)
    far = 2**30 if pyarrow.types.is_date(kind) else 2**62
    table = pyarrow.table({"text": ["a", "b"], "when": pyarrow.array([[0], [far]] if nested_too else [0, far], kind)})
    first, second = open_source(str(write(table, tmp_path / "a.stream.arrow"))).rows()
    assert isinstance(first, Row) and isinstance(second, Reject)
    assert second.reason == f"the {kind} in the column 'when' is out of range"


def test_a_file_that_becomes_shorter_while_it_is_read_is_a_user_error(tmp_path):
    path = write(pyarrow.table({"text": ["a"] * 4000}), tmp_path / "a.stream.arrow")
    rows = open_source(str(path)).rows()
    next(rows)
    os.truncate(path, 100)
    with pytest.raises(UserError, match="the file became shorter while it was read"):
        list(rows)


@pytest.mark.parametrize("scale", [2_000_000_000, -2_000_000_000])
def test_a_decimal_whose_scale_is_beyond_python_costs_its_row(tmp_path, scale):
    prices = pyarrow.Array.from_buffers(
        pyarrow.decimal128(5, scale), 1, [None, pyarrow.py_buffer((12345).to_bytes(16, "little"))]
    )
    pyarrow.feather.write_feather(pyarrow.table({"price": prices}), tmp_path / "a.feather", compression="uncompressed")
    (row,) = open_source(str(tmp_path / "a.feather")).rows()
    assert isinstance(row, Reject)
    assert row.reason == f"the {prices.type} in the column 'price' is out of range"


def test_column_names_that_are_no_text_are_a_user_error(tmp_path):
    raw = write(pyarrow.table({"text": ["a"], "other": ["b"]}), tmp_path / "a.stream.arrow").read_bytes()
    (tmp_path / "a.stream.arrow").write_bytes(raw.replace(b"other", b"\xff\xffher"))
    with pytest.raises(UserError, match="not a complete Parquet or Arrow file"):
        open_source(str(tmp_path / "a.stream.arrow"))
    with pytest.raises(UserError, match="a table without columns"):
        open_source(str(write(pyarrow.table({}), tmp_path / "b.stream.arrow")))


@pytest.mark.parametrize("name", ["../gone.arrow", "/etc/passwd", "a\\u0000b", "\\ud800", ".."])
def test_a_description_names_files_of_its_own_folder_only(tmp_path, name):
    (tmp_path / "state.json").write_text(f'{{"_data_files": [{{"filename": "{name}"}}]}}')
    with pytest.raises(UserError, match=r"the description of the data set is damaged"):
        open_source(str(tmp_path))


def test_a_description_nested_too_deeply_is_a_user_error(tmp_path):
    (tmp_path / "state.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"state.json is not valid JSON"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("names", ['"abc"', "[1, 2]", "7", "[" * 50_000, '["a", "\\ud800"]'])
def test_class_names_that_are_no_list_of_texts_are_left_out(tmp_path, names):
    described = f'{{"info": {{"features": {{"label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}'
    table = pyarrow.table({"text": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": described})
    assert open_source(str(write(table, tmp_path / "a.stream.arrow"))).class_names == {}


def test_a_page_that_does_not_unpack_is_damage_and_not_a_wrong_path(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"a b {n}" for n in range(2000)]}), path)
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet: (damaged|not a complete).*write it again"):
        list(open_source(str(path)).rows())
