"""JSON files: one list of objects, streamed; line numbers, cuts and broken elements."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reading.formats.test_jsonl import objects, read
from tunewright.errors import UserError
from tunewright.reading import ReadOptions, json_window, open_source
from tunewright.records import Reject, Row


def array(tmp_path, content, **options):
    return read(tmp_path, content, "a.json", **options)


def test_elements_are_rows_and_know_their_lines(tmp_path):
    source, rows = array(tmp_path, '[\n  {"a": 1},\n  {\n    "a": "x\\ny"\n  }, {"a": []}\n]\n')
    assert [(row.line, row.fields) for row in rows] == [(2, {"a": 1}), (3, {"a": "x\ny"}), (5, {"a": []})]
    assert (source.format, source.notes) == ("json", [])


@pytest.mark.parametrize("content", ['[{"a": 1}, 7, {"a": 3}]', '{"data": [\n{"a": 1}, 7,\n{"a": 3}]}'])
def test_objects_that_share_lines_are_counted_and_it_is_noted(tmp_path, content):
    source, rows = array(tmp_path, content)
    assert [(type(row), row.line) for row in rows] == [(Row, 1), (Reject, 2), (Row, 3)]
    assert source.notes[-1].endswith("a.json:37 means the 37th object")
    assert source.row_at(3).fields == {"a": 3}
    with pytest.raises(UserError, match=r"no row begins here; found the last row is .*a.json:3"):
        source.row_at(4)


def test_an_empty_list_has_no_rows(tmp_path):
    assert array(tmp_path, "[]")[1] == []


def test_one_object_a_line_is_jsonl_with_a_note(tmp_path):
    source, rows = array(tmp_path, '{"a": 1}\n{"a": 2}\n')
    assert [row.fields for row in rows] == [{"a": 1}, {"a": 2}]
    assert source.format == "jsonl" and "one object per line" in source.notes[0]


def test_a_broken_first_line_does_not_hide_jsonl(tmp_path):
    _, rows = array(tmp_path, '{"a": 1\n{"a": 2}\n')
    assert [type(row) for row in rows] == [Reject, Row]


def test_the_one_list_inside_an_object_is_read_with_a_note(tmp_path):
    source, rows = array(tmp_path, '{"version": "1", "n": [1], "o": {"x": [{}]}, "data": [{"a": 1}], "z": 3}')
    assert [row.fields for row in rows] == [{"a": 1}]
    assert source.notes == ["the rows are the list under 'data'"]


def test_two_lists_inside_an_object_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"train": [{"a": 1}], "test": [{"a": 2}]}')
    with pytest.raises(UserError, match=r"two lists of objects; found 'train' and 'test'"):
        list(open_source(str(path)).rows())


@pytest.mark.parametrize("content", ['{"text": ["a", "b"]}', '{"text": {"0": "a"}}', '"text"', "12", "{}", "nonsense"])
def test_no_list_of_objects_is_a_user_error(tmp_path, content):
    with pytest.raises(UserError, match=r"no list of objects.*Write a list of objects"):
        array(tmp_path, content)


def test_a_cut_list_gives_its_whole_elements_and_a_reject(tmp_path):
    _, rows = array(tmp_path, '[\n{"a": 1},\n{"a": "two')
    assert rows[0].fields == {"a": 1}
    assert (rows[1].line, rows[1].raw) == (3, '{"a": "two') and "truncated here" in rows[1].reason
    _, rows = array(tmp_path, '[{"a": 1}\n,')
    assert [type(row) for row in rows] == [Row, Reject] and "not closed" in rows[1].reason


def test_a_broken_element_costs_one_row(tmp_path):
    _, rows = array(tmp_path, '[{"a": 1},\n{"a" 2, "b": [{"c": "]}"}]},\n{"a": NaN},\n7, {"a": 1, "a": 2}, {"a": 3}]')
    assert [type(row) for row in rows] == [Row, Reject, Reject, Reject, Reject, Row]
    assert [row.line for row in rows] == [1, 2, 3, 4, 4, 4]
    assert rows[1].reason == "not valid JSON: expecting ':' delimiter at character 6"
    assert rows[1].raw == '{"a" 2, "b": [{"c": "]}"}]}'
    assert [row.reason.split(" ")[0] for row in rows[2:5]] == ["NaN", "a", "the"]


def test_a_missing_comma_and_text_behind_the_list_are_rejects(tmp_path):
    _, rows = array(tmp_path, '[{"a": 1} {"a": 2}] more')
    assert [type(row) for row in rows] == [Row, Reject, Reject]
    assert "no comma" in rows[1].reason and "after the end" in rows[2].reason


def test_a_large_element_is_passed_without_being_held(tmp_path):
    large = json.dumps({"a": "x" * 3_000_000})
    _, rows = array(tmp_path, f'[{{"a": 1}}, {large}, {{"a": 2}}]', max_row_bytes=1000)
    assert [type(row) for row in rows] == [Row, Reject, Row]
    assert "3,000,009 bytes" in rows[1].reason and "1,000" in rows[1].reason
    assert rows[1].raw == large[:2000] + " …"
    source = open_source(str(tmp_path / "a.json"), ReadOptions(max_row_bytes=1000))
    with source.paths[0].open("rb") as stream:
        window, longest = json_window.Window(stream, "utf-8", 0), 0
        window.peek()
        window.at += 1
        window.skip_value()
        window.at += 1
        window.peek()
        fill = window.fill

        def watched():
            nonlocal longest
            longest = max(longest, len(window.text))
            return fill()

        window.fill = watched
        assert window.skip_value()[1] == len(large)
    assert longest <= 2**18


def test_a_wrong_byte_rejects_its_element_only(tmp_path):
    content = '[{"a": "é"},\n{"a": "'.encode() + b"caf\xe9" + b'"}, {"a": 2}]'
    _, rows = array(tmp_path, content)
    assert [type(row) for row in rows] == [Row, Reject, Row]
    assert rows[1].reason.startswith(f"byte 0xE9 at offset {content.index(b'f') + 1} is not UTF-8; set data.encod")


def test_utf_16_with_its_mark(tmp_path):
    _, rows = array(tmp_path, '[{"a": "é😀"}]'.encode("utf-16"), encoding="utf-16")
    assert rows[0].fields == {"a": "é😀"}


@settings(max_examples=50)
@given(st.lists(objects, max_size=8), st.sampled_from([None, 1]), st.integers(1, 40), st.booleans())
def test_what_json_writes_is_what_is_read_whatever_the_window(tmp_path_factory, rows, indent, piece, ascii_only):
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode())
    before, json_window._PIECE = json_window._PIECE, piece
    try:
        found = list(open_source(str(path)).rows())
    finally:
        json_window._PIECE = before
    assert [row.fields for row in found] == rows
    if indent:
        starts = [1 + text[: len(text) - len(rest)].count("\n") for rest in _rests(text, rows)]
        assert [row.line for row in found] == starts


def _rests(text, rows):
    """The text from each element on, found with the plain decoder."""
    at, decoder = 1, json.JSONDecoder()
    for _ in rows:
        at += len(text[at:]) - len(text[at:].lstrip(", \n"))
        yield text[at:]
        at = decoder.raw_decode(text, at)[1]


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
def test_quotes_and_brackets_in_text_end_nothing(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(json_window, "_PIECE", piece)
    rows = [{"a": 'x"}]\\', "b": {"c": ["]", "\\"]}}, {"a": "\\\\"}, {"d": "{"}]
    assert [row.fields for row in array(tmp_path, json.dumps(rows))[1]] == rows


def test_one_list_in_pieces_of_one_byte_keeps_offsets(tmp_path, monkeypatch):
    monkeypatch.setattr(json_window, "_PIECE", 1)
    content = '[{"a": "é"}, {"a": "'.encode() + b"\xff" + b'"}]'
    _, rows = array(tmp_path, content)
    assert f"offset {content.index(255)} " in rows[1].reason


@pytest.mark.parametrize(
    "content",
    [
        '[["Ulm [x]", {"entities": [[0, 3, "LOC"]]}], ["Ja", {"entities": []}]]',
        '{"classes": ["LOC"], "annotations": [\n["Ulm [x]", {"entities": [[0, 3, "LOC"]]}],["Ja", {"entities": []}]]}',
    ],
)
def test_texts_with_what_is_known_of_them(tmp_path, content):
    _, rows = array(tmp_path, content)
    assert [row.fields for row in rows] == [
        {"text": "Ulm [x]", "entities": [[0, 3, "LOC"]]},
        {"text": "Ja", "entities": []},
    ]


@pytest.mark.parametrize("pair", ['["a", 1]', '["a", {"text": "b"}]', '["a", {}, 1]', "[1, {}]"])
def test_other_lists_are_no_rows(tmp_path, pair):
    _, rows = array(tmp_path, f"[{pair}, {pair}]")
    assert [row.reason for row in rows] == ["a list, expected an object: {…}"] * 2


def test_such_pairs_one_a_line(tmp_path):
    _, rows = read(tmp_path, '["Ulm", {"entities": [[0, 3, "LOC"]]}]\n["\\ud800", {}]\n')
    assert rows[0].fields == {"text": "Ulm", "entities": [[0, 3, "LOC"]]}
    assert "surrogate" in rows[1].reason


def test_a_list_of_other_pairs_is_passed_over(tmp_path):
    _, rows = array(tmp_path, '{"vocab": [["a", {"n": 1}]], "data": [{"a": 1}]}')
    assert [row.fields for row in rows] == [{"a": 1}]
