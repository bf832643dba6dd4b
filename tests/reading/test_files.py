"""Finding a file, unpacking and decoding it: what is there reads, what is wrong is said, with what to do."""

import gzip
import os
import random
import time
import tracemalloc

import pytest
import zstandard

from tests.reading.formats.test_jsonl import read
from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.reading.locate import readers, suffixes
from tunewright.records import Reject, Row

JSONL = b'{"text": "caf\xc3\xa9", "label": 1}\n{"text": "b", "label": 0}\n'
CSV = b"text,label\na,x\nb,y\n"


@pytest.mark.parametrize("suffix", sorted(suffixes()))
def test_every_suffix_has_its_reader(suffix):
    assert suffixes()[suffix] in readers()
    assert {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".txt", ".text", ".md"} < set(suffixes())
    assert {".parquet", ".arrow", ".feather"} < set(suffixes())


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lambda raw: raw])
@pytest.mark.parametrize("suffix", [".gz", ".zst", ""])
def test_packed_files_are_known_by_their_content(tmp_path, pack, suffix):
    source, rows = read(tmp_path, pack(JSONL), "a.jsonl" + suffix)
    assert [row.fields["text"] for row in rows] == ["café", "b"] and source.format == "jsonl"
    assert len(read(tmp_path, pack(CSV), "a.csv" + suffix)[1]) == 2


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_several_packed_members_are_one_file(tmp_path, pack):
    assert len(read(tmp_path, pack(JSONL) + pack(JSONL), "a.jsonl.gz")[1]) == 4


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_cut_archive_is_a_user_error_and_never_fewer_rows(tmp_path, pack):
    lines = b"".join(b'{"text": "%d"}\n' % random.Random(number).getrandbits(200) for number in range(5000))
    packed = pack(lines)
    with pytest.raises(UserError, match=r"damaged or incomplete.*Download it again"):
        read(tmp_path, packed[: len(packed) // 2], "a.jsonl.gz")
    with pytest.raises(UserError, match=r"damaged or incomplete"):
        read(tmp_path, packed[:-8] + b"checksum" if packed[:2] == b"\x1f\x8b" else packed[:-9], "a.jsonl.gz")
    with pytest.raises(UserError, match=r"damaged or incomplete"):
        read(tmp_path, packed[:-5], "a.jsonl.gz")
    with pytest.raises(UserError, match=r"damaged or incomplete"):
        read(tmp_path, packed[:4] + b"rubbish" * 9, "a.jsonl.gz")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "shift_jis", "cp037"])
def test_other_encodings_read_the_same(tmp_path, encoding):
    text = "text,label\r\n日本 line,x\r\nb,y\r\n" if encoding != "cp037" else "text,label\r\né line,x\r\nb,y\r\n"
    _, rows = read(tmp_path, text.encode(encoding), "a.csv", encoding=encoding)
    assert [tuple(row.fields.values()) for row in rows] == [(text.split("\r\n")[1][:-2], "x"), ("b", "y")]


def test_a_broken_unit_of_utf_16_rejects_its_line(tmp_path):
    broken = "a\nb".encode("utf-16-le") + b"\x00\xd8" + "c\nd\n".encode("utf-16-le") + b"\x41"
    _, rows = read(tmp_path, broken, "a.txt", encoding="utf-16-le")
    assert [(type(row), row.line) for row in rows] == [(Row, 1), (Reject, 2), (Row, 3), (Reject, 4)]
    assert rows[1].reason == "character 2 of the line is not utf-16-le"


def test_utf_16_without_a_mark_says_which_to_set(tmp_path):
    with pytest.raises(UserError, match=r"Set data.encoding; .* utf-16-le"):
        read(tmp_path, "ab\n".encode("utf-16-le"), "a.txt", encoding="utf-16")


def test_a_wide_byte_order_mark_names_the_encoding(tmp_path):
    with pytest.raises(UserError, match=r"Set data.encoding=utf-16"):
        read(tmp_path, "a,b\n".encode("utf-16"), "a.csv")
    with pytest.raises(UserError, match=r"Set data.encoding=utf-32"):
        read(tmp_path, "a,b\n".encode("utf-32"), "a.csv")


def test_a_utf_8_byte_order_mark_is_no_text(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbf" + CSV, "a.csv")[0].columns == ("text", "label")


@pytest.mark.parametrize("encoding", ["utf8x", "hex", "rot13"])
def test_an_unknown_encoding_is_a_user_error(encoding):
    with pytest.raises(UserError, match=r"data.encoding: no text encoding"):
        ReadOptions(encoding=encoding)


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "noending"])
def test_an_empty_file_is_a_user_error(tmp_path, content, name):
    with pytest.raises(UserError, match=f"{name}: the file is empty"):
        read(tmp_path, content, name)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_an_empty_columnar_file_is_a_user_error(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: the file is empty"):
        read(tmp_path, b"", name)


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (JSONL, "jsonl"),
        (b'[{"a": 1}]', "json"),
        (b'{\n"data": [{"a": 1}]}', "json"),
        (b"ham\tOk, lar\r\nspam\tFree entry, now\r\n", "tsv"),
        (b"ham,Ok\nspam,Free\nham,Hi\n", "csv"),
        (b"Once upon a time.\nThere was a king, and a queen.\n", "text"),
    ],
)
def test_a_file_without_suffix_is_known_by_its_content(tmp_path, content, format):
    assert read(tmp_path, content, "SMSCollection")[0].format == format


def test_the_format_can_be_said(tmp_path):
    assert read(tmp_path, CSV, "a.txt", format="csv")[0].columns == ("text", "label")
    assert read(tmp_path, CSV, "a.data", format="csv")[0].columns == ("text", "label")
    with pytest.raises(UserError, match=r"data.format: no format 'cvs'. Did you mean csv?"):
        read(tmp_path, CSV, "a.txt", format="cvs")


def test_plain_text_has_a_row_a_line(tmp_path):
    source, rows = read(tmp_path, " First\u2028line \r\n\n\t\nsecond", "a.txt")
    assert rows == [Row(source.name, 1, {"text": " First\u2028line "}), Row(source.name, 4, {"text": "second"})]
    assert (source.columns, source.num_blank_lines, source.notes) == (("text",), 2, [])


def test_text_that_looks_like_a_table_says_so(tmp_path):
    assert "data.format=tsv" in read(tmp_path, b"ham\tOk\nspam\tFree\n", "a.txt")[0].notes[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", "spreadsheets are not supported. Save it as CSV"),
        ("a.pkl", "pickle files are not supported.* Save the data as .jsonl"),
        ("a.bin", "pickle files are not supported"),
        ("a.csv.zip", "archives are not supported.* Unpack it"),
        ("a.foo", "unknown file suffix .foo; expected .arrow .*.csv .*Set data.format"),
    ],
)
def test_other_suffixes_are_user_errors(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, CSV, name)


def test_a_path_that_is_not_there_is_met_with_what_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_bytes(CSV)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reviews.jsonl").write_bytes(JSONL)
    for path, message in [
        ("trian.csv", "trian.csv: no such file. Did you mean train.csv?"),
        ("data/review.jsonl", "data/review.jsonl: no such file. Did you mean data/reviews.jsonl?"),
        ("stanfordnlp/imdb", "stanfordnlp/imdb: no such file. Did you mean hub:stanfordnlp/imdb?"),
        ("data/zzzz.csv", "data/zzzz.csv: no such file; found in that folder: 'reviews.jsonl'."),
        ("a/b/c.csv", "a/b/c.csv: no such file; found no folder 'a/b' either."),
        ("https://example.org/a.csv", "https://example.org/a.csv: URLs are not downloaded. Download the file"),
        (
            "data",
            "data: this is a folder, not a file; found inside it 'reviews.jsonl'. Name one, such as data/reviews.jsonl",
        ),
        ("bad\0name.csv", "no such file"),
        ("x" * 5000 + ".csv", "cannot be read"),
    ]:
        with pytest.raises(UserError) as error:
            open_source(path)
        assert message in str(error.value)


def test_a_file_without_permission_is_a_user_error(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    if os.geteuid() == 0:  # root may read everything: ask what happens when the system says no
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        path.chmod(0)
    with pytest.raises(UserError, match=r"a.csv: no permission to read it. Try: chmod"):
        open_source(str(path))


def test_a_pipe_is_a_user_error(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"not a regular file.*save this to a regular file"):
        open_source(str(tmp_path / "a.csv"))


def test_a_file_that_goes_away_is_a_user_error(tmp_path):
    source, _ = read(tmp_path, JSONL)
    source.paths[0].unlink()
    with pytest.raises(UserError, match=r"cannot be read"):
        list(source.rows())


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_frame_that_unpacks_to_much_is_unpacked_in_linear_time_and_little_memory(tmp_path, pack):
    """A line of 40 MB in some kilobytes: what is left of a piece is never copied, and no piece is as large as the line."""
    content = b'{"text": "' + b"x" * 40_000_000 + b'"}\n{"text": "b"}\n'
    packed = gzip.compress(content) if pack == "gz" else zstandard.ZstdCompressor().compress(content)
    (tmp_path / f"a.jsonl.{pack}").write_bytes(packed)
    source = open_source(str(tmp_path / f"a.jsonl.{pack}"), ReadOptions(max_row_bytes=100_000))
    tracemalloc.start()
    try:
        begun = time.process_time()
        first, second = source.rows()
        took, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(first, Reject) and "40,000,013 bytes" in first.reason and second.fields == {"text": "b"}
    assert took < 4 and peak < 20_000_000


def test_a_file_whose_name_is_no_text_is_a_user_error(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_bytes(JSONL)
    with pytest.raises(UserError, match=r"caf\\udce9.jsonl: the file name is not UTF-8. Rename the file.") as caught:
        open_source(str(path))
    str(caught.value).encode()
