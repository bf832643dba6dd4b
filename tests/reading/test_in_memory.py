"""Rows in memory read as those of a file: the same values, with the addresses that the object itself gives them."""

from __future__ import annotations

import datetime
import decimal
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tunewright as tw
from tunewright.reading.in_memory import kept_for_run, resolved
from tunewright.reading.tables import with_columns
from tunewright.records import Reject, Row

pd = pytest.importorskip("pandas")

ROWS = [{"text": "Fine.", "label": "good"}, {"text": "Dull.", "label": "bad"}]


def fields_of(data: object) -> list[dict]:
    rows = list(tw.read(data).rows())  # type: ignore[arg-type]
    assert all(isinstance(row, Row) for row in rows), rows
    return [dict(row.fields) for row in rows]


def forms() -> dict[str, object]:
    import datasets

    found = {
        "pandas": pd.DataFrame(ROWS), "table": pa.Table.from_pylist(ROWS), "batch": pa.RecordBatch.from_pylist(ROWS),
        "dataset": datasets.Dataset.from_list(ROWS), "list": ROWS, "dicts": {"a": ROWS[0], "b": ROWS[1]},
        "columns": {"text": ["Fine.", "Dull."], "label": np.array(["good", "bad"])},
    }  # fmt: skip
    try:
        import polars as pl
    except ImportError:
        return found
    return {
        **found,
        "polars": pl.DataFrame(ROWS),
        "enums": pl.DataFrame(ROWS, schema={"text": pl.String, "label": pl.Categorical}),
    }


def test_every_kind_of_object_reads_the_same():
    for kind, data in forms().items():
        assert fields_of(data) == ROWS, kind


def test_rows_are_called_as_the_object_calls_them():
    frame = pd.DataFrame(ROWS)
    addresses = {
        "range": frame, "filtered": frame[frame.label == "bad"], "named": frame.set_index(pd.Index(["a7", "b9"])),
        "levels": frame.set_index(["label", "label"], drop=False), "dates": frame.set_index(pd.to_datetime(["2024-01-01", "2024-01-02"])),
        "list": ROWS, "dicts": {"a": ROWS[0], "b": ROWS[1]},
    }  # fmt: skip
    found = {name: [row.address for row in tw.read(data).rows()][-1] for name, data in addresses.items()}
    dated = found.pop("dates")
    assert found == {
        "range": "data[1]", "filtered": "data[1]", "named": "data['b9']", "levels": "data[('bad', 'bad')]", "list": "data[1]",
        "dicts": "data['b']",
    }  # fmt: skip
    assert "2024-01-02" in dated


def test_missing_values_are_null():
    frame = pd.DataFrame({
        "text": ["a", None, float("nan"), pd.NA], "whole": [1, None, 0, 2], "half": [0.5, float("nan"), 1.0, 2.0],
        "when": pd.to_datetime(["2024-01-31", None, None, None]), "int": pd.array([1, None, 3, 4], dtype="Int64"),
        "kind": pd.Categorical(["x", None, "y", "x"]), "yes": pd.array([True, None, False, True], dtype="boolean"),
    })  # fmt: skip
    first, second, *_ = fields_of(frame)
    assert first == {
        "text": "a",
        "whole": 1,
        "half": 0.5,
        "when": "2024-01-31 00:00:00",
        "int": 1,
        "kind": "x",
        "yes": True,
    }
    assert set(second.values()) == {None}
    assert type(first["whole"]) is int  # pandas made it 1.0 for the gap below it
    assert fields_of([{"x": math.nan, "y": "a"}])[0] == {"x": None, "y": "a"}
    assert fields_of(pa.table({"x": [math.nan, 1.5]}))[0] == {"x": None}


def test_numpy_values_times_and_nested_lists():
    rows = [{
        "int": np.int64(3), "float": np.float32(0.5), "bool": np.bool_(True), "text": np.str_("a"), "array": np.array([1, 2]),
        "tuple": ("x", "y"), "day": datetime.date(2024, 1, 31), "decimal": decimal.Decimal("1.50"), "bytes": b"abc",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes", "tool_calls": [{"arguments": {"n": 1}}]}],
    }]  # fmt: skip
    expected = {
        "int": 3, "float": 0.5, "bool": True, "text": "a", "array": [1, 2], "tuple": ["x", "y"], "day": "2024-01-31", "decimal": "1.50",
        "bytes": "abc", "messages": rows[0]["messages"],
    }  # fmt: skip
    assert fields_of(rows) == [expected]
    assert fields_of(pd.DataFrame(rows, dtype=object)) == [expected]


def test_periods_intervals_and_time_zones_are_text():
    frame = pd.DataFrame({
        "period": pd.period_range("2024-01", periods=2, freq="M"), "interval": pd.cut(np.arange(2), [-1, 0, 1]),
        "when": pd.date_range("2024-01-01", periods=2, tz="Europe/Berlin"), "took": pd.to_timedelta(["1h", "2h"]),
    })  # fmt: skip
    expected = {"period": "2024-01", "interval": "(-1, 0]", "when": "2024-01-01 00:00:00+01:00", "took": "1:00:00"}
    assert fields_of(frame)[0] == expected


def test_values_of_several_types_stay_as_they_are():
    rows = [
        {"v": 1},
        {"v": "one"},
        {"v": 1.5},
        {"v": True},
        {"v": {"a": 1}},
        {"v": {"b": None}},
        {"v": 2**70},
        {"v": [1, "x"]},
    ]
    assert fields_of(rows) == rows
    assert fields_of(pd.DataFrame(rows)) == rows


def test_names_of_classes_are_kept():
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]}, features=features)
    source = tw.read(data.select([2, 1]))
    assert source.class_names == {"label": ("bad", "good")}
    assert [row.fields["text"] for row in source.rows() if isinstance(row, Row)] == ["c", "b"]


def test_a_text_that_is_none_is_rejected_with_its_address():
    bad = list(tw.read([{"text": "fine"}, {"text": "half \ud800"}]).rows())[1]
    assert isinstance(bad, Reject)
    assert (bad.address, "surrogate" in bad.reason) == ("data[1]", True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"text": "a", "x": object()}], "data[0]: a value that is neither text nor number (builtins.object)"),
        (pd.DataFrame({"x": [1 + 2j]}), "data[0]: a value that is neither text nor number (builtins.complex)"),
        ([{"text": "a"}, "b"], "data[1]: a row is a dict"),
        ({"a": [1, 2], "b": [1]}, "data: the columns have different numbers of rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "data: a column name stands twice"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), "data: column names of several levels"),
        (pd.Series(["a", "b"]), "data: rows of this kind are not read"),
        (pd.DataFrame(), "data: no columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_its_place(data, said):
    with pytest.raises(tw.UserError) as error:
        tw.read(data)
    assert str(error.value).startswith(said)


def test_a_value_that_holds_itself_is_said():
    endless: list = []
    endless.append(endless)
    with pytest.raises(tw.UserError, match="nested without end"):
        tw.read([{"text": endless}])


def test_the_file_is_named_by_its_content_and_opens_as_parquet(tmp_path):
    name = kept_for_run(pd.DataFrame(ROWS), "train")
    assert name == kept_for_run(pd.DataFrame(ROWS), "train") != kept_for_run(pd.DataFrame(ROWS[:1]), "train")
    path = Path(resolved(name, tmp_path))
    assert pq.read_table(path).to_pylist() == ROWS
    with pytest.raises(tw.UserError, match="handed to this run are not there"):
        resolved("run:data/train-000000000000.parquet", tmp_path)


def test_a_pattern_reads_its_files_one_after_the_other(tmp_path):
    for number, row in enumerate(ROWS):
        pd.DataFrame([row]).to_json(tmp_path / f"{number}.jsonl", orient="records", lines=True)
    assert fields_of(f"{tmp_path}/*.jsonl") == ROWS == fields_of([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])


def test_columns_are_added_to_what_came():
    for kind, data in forms().items():
        found = with_columns(data, {"score": [0.5, 1.0]})
        assert type(found) is type(data), kind
        assert [row["score"] for row in fields_of(found)] == [0.5, 1.0]
        assert fields_of(data) == ROWS


def test_objects_in_a_polars_frame_are_their_values():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"text": ["a"], "day": pl.Series([decimal.Decimal("1.5")], dtype=pl.Object)})
    assert fields_of(frame) == [{"text": "a", "day": "1.5"}]
    with pytest.raises(tw.UserError, match=r"data\[0\]: a value that is neither text nor number"):
        tw.read(pl.DataFrame({"x": [object()]}))
