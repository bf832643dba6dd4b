"""JSON lines: every value as it stands, every line a row, a reject or a counted blank."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.records import Reject, Row


def read(tmp_path, content, name="a.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_source(str(path), ReadOptions(**options))
    return source, list(source.rows())


def reason(tmp_path, line, **options):
    _, rows = read(tmp_path, line, **options)
    assert [type(row) for row in rows] == [Reject]
    return rows[0].reason


def test_a_row_is_its_object_with_source_and_line(tmp_path):
    source, rows = read(tmp_path, '{"text": "Fine.", "label": 7}\n{"text": "Poor.", "label": null}')
    name = str(tmp_path / "a.jsonl")
    assert rows == [Row(name, 1, {"text": "Fine.", "label": 7}), Row(name, 2, {"text": "Poor.", "label": None})]
    assert (source.format, source.columns, source.files()) == ("jsonl", None, [tmp_path / "a.jsonl"])


def test_rows_may_be_read_again(tmp_path):
    source, rows = read(tmp_path, '{"a": 1}\n\n{"a": 2}\n')
    assert list(source.rows()) == rows
    assert source.num_blank_lines == 1


def test_blank_lines_are_counted_and_line_numbers_hold(tmp_path):
    source, rows = read(tmp_path, '\n{"a": 1}\r\n \t\r\n\n{"a": 2}\n\n')
    assert [row.line for row in rows] == [2, 5]
    assert source.num_blank_lines == 4


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x7f"])
def test_only_newline_ends_a_line(tmp_path, separator):
    _, rows = read(tmp_path, json.dumps({"text": f"a{separator}b"}, ensure_ascii=False) + "\n")
    assert rows[0].fields == {"text": f"a{separator}b"}


def test_a_lone_return_between_tokens_splits_nothing(tmp_path):
    assert read(tmp_path, '{"a":\r1}\r\n{"a": 2}')[1][0].fields == {"a": 1}


def test_numbers_are_exact(tmp_path):
    _, rows = read(tmp_path, '{"big": 123456789012345678901234567890, "float": 0.1, "text": "007"}')
    assert rows[0].fields == {"big": 123456789012345678901234567890, "float": 0.1, "text": "007"}


def test_white_space_around_an_object_is_fine(tmp_path):
    assert read(tmp_path, '  {"a": 1} \t\r\n')[1][0].fields == {"a": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "cut he', "the line is truncated at column 17"),
        ('{"text": "cut", ', "the line is truncated at column 16"),
        ("{'text': 1}", "not valid JSON at column 2: expecting property name enclosed in double quotes"),
        ('{"a": 1} {"a": 2}', "not valid JSON at column 10: extra data"),
        ('["a"]', "a list, expected an object"),
        ('"a"', "a string, expected an object"),
        ("12", "a number, expected an object"),
        ("null", "null, expected an object"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        ('{"x": {"a": 1, "a": 3}}', "the key 'a' occurs twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "too large for a float"),
        ('{"a": "x\\u0000y"}', "NUL"),
        ('{"a": "x\0y"}', "NUL"),
        ('{"a": ["\\ud800"]}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "more digits"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason(tmp_path, line, expected):
    assert expected in reason(tmp_path, line)


def test_a_reject_leaves_no_trace_on_the_next_row(tmp_path):
    _, rows = read(tmp_path, '{"a": NaN}\n{"a": 1}\n{"a": NaN, 7\n{"b": 2}\n')
    assert [type(row) for row in rows] == [Reject, Row, Reject, Row]
    assert rows[0].raw == '{"a": NaN}'


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a": 2}]', '\n[\n{"a": 1}]'])
def test_a_list_that_is_named_jsonl_says_so(tmp_path, content):
    with pytest.raises(UserError, match=r"one JSON list, not one object per line. Set data.format=json"):
        read(tmp_path, content)
    assert read(tmp_path, content, format="json")[1][0].fields == {"a": 1}


def test_a_surrogate_pair_is_one_character(tmp_path):
    assert read(tmp_path, '{"a": "\\ud83d\\ude00"}')[1][0].fields == {"a": "😀"}


def test_a_wrong_byte_is_named_by_file_offset_and_the_likely_encoding(tmp_path):
    content = b'\xef\xbb\xbf{"a": "x"}\n{"a": "caf\xe9"}\n{"a": "ok"}\n'
    _, rows = read(tmp_path, content)
    offset = content.index(b"\xe9")
    assert rows[1].reason.startswith(f"byte 0xE9 at offset {offset} is not UTF-8")
    assert "set data.encoding=cp1252" in rows[1].reason
    assert rows[1].raw == '{"a": "caf\\xe9"}'
    assert [type(row) for row in rows] == [Row, Reject, Row]


def test_the_offset_is_that_of_the_file_however_far_in(tmp_path):
    good = b'{"a": "%s"}\n' % (b"x" * 100)
    content = good * 2000 + b'{"a": "\xe9"}\n' + good * 10 + b'{"a": "\xe8"}\n'
    _, rows = read(tmp_path, content)
    found = [(row.line, row.reason.split(" is")[0]) for row in rows if isinstance(row, Reject)]
    assert found == [
        (2001, f"byte 0xE9 at offset {content.index(0xE9):,}"),
        (2012, f"byte 0xE8 at offset {content.index(0xE8):,}"),
    ]
    assert len(rows) == 2012


def test_a_byte_that_windows_has_not_either_gets_no_hint(tmp_path):
    assert reason(tmp_path, b'{"a": "\x81"}') == "byte 0x81 at offset 7 is not UTF-8"


def test_windows_text_reads_with_its_encoding(tmp_path):
    _, rows = read(tmp_path, b'{"a": "caf\xe9"}', encoding="cp1252")
    assert rows[0].fields == {"a": "café"}


@pytest.mark.parametrize("size", [99, 100, 101, 5000])
def test_the_size_limit_counts_the_line_without_its_end(tmp_path, size):
    line = '{"a": "' + "x" * (size - 9) + '"}'
    assert len(line) == size
    _, rows = read(tmp_path, f'{line}\r\n{{"a": 2}}\n', max_row_bytes=100)
    if size <= 100:
        assert [type(row) for row in rows] == [Row, Row]
    else:
        assert isinstance(rows[0], Reject) and f"{size + 2:,} bytes" in rows[0].reason and "100" in rows[0].reason
        assert rows[0].raw.endswith(" …") and rows[0].raw.startswith('{"a": "xxx')
        assert len(rows[0].raw) <= 2002
        assert rows[1] == Row(rows[0].source, 2, {"a": 2})


def test_a_long_bad_line_keeps_its_first_ten_thousand_characters(tmp_path):
    _, rows = read(tmp_path, "[" + "1," * 20_000)
    assert len(rows[0].raw) == 10_000


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, texts, max_size=2)
objects = st.dictionaries(texts, values, max_size=4)


@settings(max_examples=50)
@given(st.lists(objects, min_size=1, max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_json_writes_is_what_is_read(tmp_path_factory, rows, ascii_only, end):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows).encode("utf-8"))
    assert [row.fields for row in open_source(str(path)).rows()] == rows


def test_many_keys_of_which_one_stands_twice_take_linear_time(tmp_path):
    keys = ",".join(f'"k{number}":1' for number in range(100_000))
    begun = time.process_time()
    _, (row,) = read(tmp_path, "{" + keys + ',"k99999":2}\n', "a.jsonl")
    assert row.reason == "the key 'k99999' occurs twice" and time.process_time() - begun < 3
