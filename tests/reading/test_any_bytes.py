"""Whatever the bytes: a UserError or every physical line accounted for, memory bounded, real files whole."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.reading.detect import detect_roles, peek
from tunewright.records import Reject, Row

DATA = Path(os.environ.get("TUNEWRIGHT_DATA", Path(__file__).parents[3] / "shared/data"))
TOKENS = [bytes([byte]) for byte in b'{}[]",\n\r:a1\t \xff\0'] + [b"\\u", b'{"a":1}']
LIKELY = st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join)


@settings(max_examples=150)
@given(
    st.binary(max_size=60) | LIKELY,
    st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", "", ".parquet", ".arrow", ".csv.gz"]),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-7"]),
    st.integers(1, 50),
)
def test_random_bytes_raise_nothing_but_a_user_error(tmp_path_factory, content, suffix, encoding, limit):
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(content)
    try:
        source = open_source(str(path), ReadOptions(encoding=encoding, max_row_bytes=limit))
        rows = list(source.rows())
    except UserError:
        return
    lines = [row.line for row in rows]
    assert lines == sorted(lines)
    assert all(isinstance(row, Row) or row.reason for row in rows)


@settings(max_examples=150)
@given(LIKELY, st.sampled_from([".jsonl", ".txt"]), st.integers(1, 50))
def test_every_line_is_a_row_a_reject_or_a_blank(tmp_path_factory, content, suffix, limit):
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(content)
    try:
        source = open_source(str(path), ReadOptions(max_row_bytes=limit))
    except UserError:
        return
    if source.format == "json":  # one value over many lines
        return
    num_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    assert len(list(source.rows())) + source.num_blank_lines == num_lines


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "json"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    """Peak memory for 40,000 rows (4 MB), one row of 30 MB among them, stays under 4 MB."""
    row, large = {
        "jsonl": ('{"text": "%s"}\n', '{"text": "%s"}\n'),
        "csv": ('"%s",x\n', '"%s",x\n'),
        "txt": ("%s\n", "%s\n"),
        "json": ('{"text": "%s"},\n', '{"text": "%s"},\n'),
    }[suffix]
    path = tmp_path / f"a.{suffix}"
    with path.open("w") as file:
        file.write({"csv": "text,label\n", "json": "["}.get(suffix, ""))
        file.writelines(row % ("x" * 80) for _ in range(20_000))
        file.write(large % ("x" * 30_000_000))
        file.writelines(row % ("x" * 80) for _ in range(20_000))
        file.write('{"text": "last"}]' if suffix == "json" else "")
    tracemalloc.start()
    try:
        kinds = [type(row) for row in _counted(open_source(str(path), ReadOptions(max_row_bytes=100_000)).rows())]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kinds == [Reject] and peak < 4_000_000


def _counted(rows):
    """Only the rejects, so that the test itself holds no rows."""
    num_rows = 0
    for row in rows:
        if isinstance(row, Reject):
            yield row
        else:
            num_rows += 1
    assert num_rows in (40_000, 40_001)


def test_reading_a_csv_imports_nothing_heavy(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    program = (
        "import sys; from tunewright.reading import open_source; print(list(open_source('a.csv').rows()));"
        "print([m for m in ('pyarrow', 'datasets', 'zstandard', 'numpy', 'torch', 'pydantic') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "num_rows", "text", "label", "multi_label"),
    [
        ("classification/imdb/train.csv", 5000, "review", "sentiment", False),
        ("classification/imdb/test.jsonl", 2000, "text", "label", False),
        ("classification/sms_spam/SMSSpamCollection", 5574, "column2", "column1", False),
        ("classification/sms_spam/all.jsonl", 5574, "text", "label", False),
        ("classification/banking77/train.jsonl", 10_003, "text", "label", False),
        ("classification/goemotions/train.jsonl", 8000, "text", "labels", True),
    ],
)
def test_real_files_are_read_whole(name, num_rows, text, label, multi_label):
    if not (DATA / name).exists():
        pytest.skip(f"the shared data are not here ({DATA}; TUNEWRIGHT_DATA names another folder)")
    source = open_source(str(DATA / name))
    rows = list(source.rows())
    assert len(rows) == num_rows and all(isinstance(row, Row) for row in rows)
    assert source.num_blank_lines == 0
    roles = detect_roles(*reversed(peek(source)))
    assert (roles.text, roles.pair, roles.label, roles.multi_label) == ((text,), None, label, multi_label)


def test_the_two_forms_of_the_sms_collection_agree():
    folder = DATA / "classification/sms_spam"
    if not folder.exists():
        pytest.skip(f"the shared data are not here ({DATA}; TUNEWRIGHT_DATA names another folder)")
    table = [tuple(row.fields.values()) for row in open_source(str(folder / "SMSSpamCollection")).rows()]
    lines = [(row.fields["label"], row.fields["text"]) for row in open_source(str(folder / "all.jsonl")).rows()]
    assert table == lines
