"""CSV and TSV: cells exactly their text, one bad quote costs one row, the shape found from the first lines."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reading.formats.test_jsonl import read
from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.reading.fields import records
from tunewright.records import Reject, Row


def table(tmp_path, content, name="a.csv", **options):
    return read(tmp_path, content, name, **options)


def cells(rows):
    return [tuple(row.fields.values()) for row in rows]


def test_cells_are_exactly_their_text(tmp_path):
    source, rows = table(tmp_path, "text,label\nNA,null\n007,1e5\n 2024-01-01 ,\n,\n")
    assert cells(rows) == [("NA", "null"), ("007", "1e5"), (" 2024-01-01 ", ""), ("", "")]
    assert (source.columns, source.notes, [row.line for row in rows]) == (("text", "label"), [], [2, 3, 4, 5])


def test_quoted_cells_hold_commas_quotes_and_line_ends(tmp_path):
    source, rows = table(tmp_path, 'text,label\r\n"a, ""b""\r\nc\nd",x\r\n\r\nplain "quote",y\r\n')
    assert cells(rows) == [('a, "b"\r\nc\nd', "x"), ('plain "quote"', "y")]
    assert [row.line for row in rows] == [2, 6]
    assert source.num_blank_lines == 1


@pytest.mark.parametrize("inside", ["\r", "\x85", "\u2028", "\x0b", "\x0c", "\r\r"])
def test_only_newline_ends_a_line(tmp_path, inside):
    _, rows = table(tmp_path, f'text,label\na{inside}b,x\na{inside}b,"x"\n"c{inside}",y\r\n"c\n",{inside}y\n')
    assert cells(rows) == [(f"a{inside}b", "x")] * 2 + [(f"c{inside}", "y"), ("c\n", f"{inside}y")]
    _, rows = table(tmp_path, f"text\tlabel\na{inside}b\tx\n", "a.tsv")
    assert cells(rows) == [(f"a{inside}b", "x")]


@pytest.mark.parametrize(("row", "expected"), [("a", "1 field"), ("a,b,c", "3 fields")])
def test_a_short_or_long_row_is_rejected(tmp_path, row, expected):
    _, rows = table(tmp_path, f"text,label\n{row}\nb,y\n")
    assert rows[0] == Reject(rows[0].source, 2, f"{expected}, expected 2 (text, label)", row)
    assert cells(rows[1:]) == [("b", "y")]


def test_an_unclosed_quote_costs_its_line_only(tmp_path):
    body = 'ok,x\n"open,x\ngood one,y\nsecond,z\nlast,y\n'
    _, rows = table(tmp_path, "text,label\n" + body)
    assert [row.line for row in rows] == [2, 3, 4, 5, 6]
    assert rows[1] == Reject(rows[1].source, 3, "the quote opened here is never closed", '"open,x')
    assert cells(rows[:1] + rows[2:]) == [("ok", "x"), ("good one", "y"), ("second", "z"), ("last", "y")]


def test_an_unclosed_quote_before_quoted_rows_costs_its_line_only(tmp_path):
    _, rows = table(tmp_path, 'text,label\n"open,x\ngood,y\n"fine, too",z\n"two\nlines",z\n')
    assert [type(row) for row in rows] == [Reject, Row, Row, Row]
    assert "not closed properly: line 4" in rows[0].reason
    assert cells(rows[1:]) == [("good", "y"), ("fine, too", "z"), ("two\nlines", "z")]


def test_the_end_of_a_broken_quoted_field_is_no_row(tmp_path):
    _, rows = table(tmp_path, 'text,label\n"two\nlines" more,x\ngood,y\n')
    assert [(type(row), row.line) for row in rows] == [(Reject, 2), (Reject, 3), (Row, 4)]
    assert "broken on an earlier line" in rows[1].reason


def test_text_after_a_closing_quote_costs_its_line_only(tmp_path):
    _, rows = table(tmp_path, 'text,label\n"a"b,x\ngood,y\n')
    assert [type(row) for row in rows] == [Reject, Row]
    assert rows[0].reason == "text after a closing quote; a quote inside a quoted field must be doubled"


def test_a_quote_open_beyond_the_limit_is_given_up(tmp_path):
    lines = "".join(f"row {number},x\n" for number in range(1000))
    _, rows = table(tmp_path, f'text,label\n"open,x\n{lines}"closed",x\n', max_row_bytes=500)
    assert rows[0].reason == "the quote opened here is never closed (within 500 bytes)"
    assert cells(rows[1:]) == [(f"row {number}", "x") for number in range(1000)] + [("closed", "x")]


def test_many_unclosed_quotes_take_linear_time(tmp_path):
    lines = '"a""b,x\n' * 20_000
    _, rows = table(tmp_path, "text,label\nok,x\n" + lines)
    assert len(rows) == 20_001 and all(isinstance(row, Reject) for row in rows[1:])


def test_a_line_over_the_limit_is_passed(tmp_path):
    _, rows = table(tmp_path, "text,label\n" + "x" * 5000 + ",y\nok,z\n", max_row_bytes=100)
    assert [type(row) for row in rows] == [Reject, Row]
    assert "5,003 bytes" in rows[0].reason and rows[0].raw == "x" * 2000 + " …"
    _, rows = table(tmp_path, 'text,label\n"open\n' + "x" * 5000 + '",y\nok,z\n', max_row_bytes=100)
    assert [(type(row), row.line) for row in rows] == [(Reject, 2), (Reject, 3), (Row, 4)]


def test_wrong_bytes_and_nuls_reject_their_row(tmp_path):
    content = b'text,label\n"two\ncaf\xe9",x\na\0b,x\nok,y\n'
    _, rows = table(tmp_path, content)
    assert [(type(row), row.line) for row in rows] == [(Reject, 2), (Reject, 4), (Row, 5)]
    assert f"byte 0xE9 at offset {content.index(233)}" in rows[0].reason
    assert rows[0].raw == '"two\ncaf\\xe9",x' and "NUL" in rows[1].reason


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("text;label\na, b, c;x\nd;y\n", ";"),
        ("text\tlabel\na, b\tx\nd; e\ty\n", "\t"),
        ('text,label\n"a; b; c",x\nd,y\n', ","),
        ("text\na; b\nc; d\n", ","),
    ],
)
def test_the_delimiter_is_found_and_noted(tmp_path, content, delimiter):
    source, rows = table(tmp_path, content)
    assert len(source.columns) == (1 if content.startswith("text\n") else 2)
    assert all(isinstance(row, Row) for row in rows)
    assert any("delimiter" in note for note in source.notes) == (delimiter != ",")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a"])
def test_a_pipe_is_found_too(tmp_path, name):
    source, rows = table(tmp_path, "text|label\na, b; c|x\nd|y\n", name)
    assert (source.columns, cells(rows)) == (("text", "label"), [("a, b; c", "x"), ("d", "y")])
    assert source.notes == ["delimiter '|'"]


@pytest.mark.parametrize(
    ("comments", "note"),
    [
        ("# exported on Monday\n", "line 1 is read as a comment: '# exported on Monday'"),
        ("# exported, on Monday\n", "line 1 is read as a comment: '# exported, on Monday'"),
        ("# one\n# two, three, four\r\n", "lines 1 to 2 are read as a comment: '# one'"),
    ],
)
def test_comments_above_the_header_are_noted_and_counted(tmp_path, comments, note):
    source, rows = table(tmp_path, comments + "text,label\n# a,x\nb,y\n")
    first = comments.count("\n") + 2
    assert (source.columns, cells(rows)) == (("text", "label"), [("# a", "x"), ("b", "y")])
    assert ([row.line for row in rows], source.notes) == ([first, first + 1], [note])
    assert source.num_blank_lines == first - 2
    assert source.row_at(first).fields["text"] == "# a"


@pytest.mark.parametrize(
    ("content", "columns", "num_rows"),
    [
        ("#,text,label\n1,a b,x\n2,c d,y\n", ("#", "text", "label"), 2),
        ("#text,label\na b,review\nc d,y\n", ("#text", "label"), 2),
        ("#happy to be here,x\nso sad,y\nso glad,x\n", ("column1", "column2"), 3),
        ("#happy\n#sad\n", ("column1",), 2),
        ("#happy to be here\nso sad and blue\nso sad and blue\n", ("column1",), 3),
    ],
)
def test_a_row_that_begins_with_a_hash_is_no_comment(tmp_path, content, columns, num_rows):
    source, rows = table(tmp_path, content)
    assert (source.columns, len(rows)) == (columns, num_rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "some text,x\rother text,y\rmore,x\r"),
        ("a.jsonl", '{"text": "a"}\r{"text": "b"}\r{"text": "c"}'),
        ("a.txt", "one\rtwo\rthree"),
        ("a", "text\tlabel\ra\tx\rb\ty\r"),
    ],
)
def test_lines_that_end_in_a_lone_return_are_a_user_error(tmp_path, name, content):
    with pytest.raises(UserError, match=rf"{name}: the lines end in carriage returns.*Save the file with"):
        table(tmp_path, content, name)
    assert table(tmp_path, content.replace("\r", "\r\n"), name)[1]


def test_the_delimiter_can_be_said(tmp_path):
    source, rows = table(tmp_path, "text|label\na,b|x\n", delimiter="|")
    assert cells(rows) == [("a,b", "x")] and source.columns == ("text", "label")
    assert table(tmp_path, "text\tlabel\na\tb\n", delimiter="tab")[0].columns == ("text", "label")
    source, rows = table(tmp_path, 'text||label\na|"b"||x\n', delimiter="||")
    assert cells(rows) == [('a|"b"', "x")] and source.columns == ("text", "label")
    for delimiter in ("", '"', "a\n", "too long a one"):
        with pytest.raises(UserError, match=r"data.delimiter.*expected one to 8 characters"):
            ReadOptions(delimiter=delimiter)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("review,sentiment\nGood.,pos\n", ("review", "sentiment")),
        ("Review Text,Stars\nGood.,5\n", ("Review Text", "Stars")),
        ("phrase_x,code\nsome text,1\nmore,2\n", ("phrase_x", "code")),
        ("What they said,Our verdict\n" + "a long sentence about a thing that was bought and used,good\n" * 3, None),
        ("ham,Ok lar joking\nspam,Free entry\nham,Hi\n", ("column1", "column2")),
        ("1,Good\n0,Bad\n", ("column1", "column2")),
        (",text,label\n0,Good,pos\n", ("column1", "text", "label")),
        ("text , label\nGood,pos\n", ("text", "label")),
        ("text,label\n", ("text", "label")),
        (
            "v1,v2,,,\nham,Ok lar joking,,,\nspam,Free entry,,,\nham,Hi,,,\n",
            ("v1", "v2", "column3", "column4", "column5"),
        ),
        (",ticket,mood\n0,It broke.,sad\n1,It works.,glad\n", ("column1", "ticket", "mood")),
        (
            "Quality\t#1 String\t#2 String\n1\tHe said so.\tSo he said.\n0\tIt rains.\tNo.\n",
            ("Quality", "#1 String", "#2 String"),
        ),
        ("good film,pos\n", ("column1", "column2")),
        ("description,what colour is a tomato\nentity,what runs\ndescription,why\n", ("column1", "column2")),
    ],
)
def test_the_header_is_found(tmp_path, content, columns):
    source, rows = table(tmp_path, content)
    assert source.columns == (columns or ("What they said", "Our verdict"))
    headless = all(name.startswith("column") for name in source.columns)
    assert len(rows) == content.count("\n") - (not headless)
    assert any("no header" in note for note in source.notes) == headless


def test_the_header_can_be_said(tmp_path):
    assert cells(table(tmp_path, "text,label\na,b\n", header=False)[1]) == [("text", "label"), ("a", "b")]
    assert table(tmp_path, "1,2\na,b\n", header=True)[0].columns == ("1", "2")


def test_a_name_that_stands_twice_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"names a column twice; found 'text'"):
        table(tmp_path, "text,text,label\na,b,c\n")


def test_old_mac_line_ends_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"carriage returns.*Save the file with"):
        table(tmp_path, "text,label\ra,x\rb,y\r")


def test_a_first_row_that_cannot_be_read_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"a.csv:1: the first row cannot be read: byte 0xE9 at offset 3"):
        table(tmp_path, b"caf\xe9,label\na,b\n")
    with pytest.raises(UserError, match=r"never closed"):
        table(tmp_path, '"text,label\na,b\n')


def test_tab_separated_text_takes_lone_quotes_as_they_are(tmp_path):
    source, rows = table(tmp_path, 'ham\t"Gimme" he said\nspam\t"\nham\tok "\n', "a.tsv")
    assert cells(rows) == [("ham", '"Gimme" he said'), ("spam", '"'), ("ham", 'ok "')]
    assert any("plain text" in note for note in source.notes)


def test_tab_separated_text_that_is_quoted_properly_is_unquoted(tmp_path):
    source, rows = table(tmp_path, 'text\tlabel\n"a\tb\n""c"""\tx\nd\ty\n', "a.tsv")
    assert cells(rows) == [('a\tb\n"c"', "x"), ("d", "y")] and source.notes == []


def test_row_at_finds_the_row_that_spans_a_line(tmp_path):
    source, rows = table(tmp_path, 'text,label\n"two\nlines",x\nb,y\n')
    assert source.row_at(2) == source.row_at(3) == rows[0]
    assert source.row_at(4) == rows[1]
    with pytest.raises(UserError, match=r"a.csv:1: no row begins here"):
        source.row_at(1)
    with pytest.raises(UserError, match=r"the last row is"):
        source.row_at(9)


any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["\r", "\n", "\r\n", '"', '""', ",", "\x85\u2028", '",', '\n"', " a ", "\ufeff", "x\r"]
)


@given(
    st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(any_text, min_size=width, max_size=width), max_size=6)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([",", ";"]),
)
def test_what_csv_writes_is_what_is_read(tmp_path_factory, rows, end, quoting, delimiter):
    width = len(rows[0]) if rows else 2
    header = [f"name{number}" for number in range(width)]
    text = io.StringIO()
    if any("\r" in cell for row in rows for cell in row):
        quoting = csv.QUOTE_ALL  # an unquoted return before the line end would belong to the line end
    csv.writer(text, lineterminator=end, quoting=quoting, delimiter=delimiter).writerows([header, *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.getvalue().encode())
    found = list(open_source(str(path), ReadOptions(delimiter=delimiter, header=True)).rows())
    assert cells(found) == [tuple(row) for row in rows]


@given(st.lists(st.text('a",\n\r\x00', max_size=6), max_size=12), st.integers(3, 30))
def test_every_physical_line_is_in_one_record_and_good_records_are_those_of_csv(pieces, limit):
    lines = [(number, piece.replace("\n", "") + "\n", None) for number, piece in enumerate(pieces, 1)]
    found = list(records(iter(lines), ",", limit))
    assert [line for held, _, _ in found for line in held] == lines
    assert all((cells is None) != (fault is None) for _, cells, fault in found)


def test_excels_first_line_says_the_delimiter_and_is_no_row(tmp_path):
    source, rows = table(tmp_path, "sep=;\r\ntext;label\r\na;x\r\n")
    assert (source.columns, [row.line for row in rows]) == (("text", "label"), [3])
    assert "line 1 is read as a comment: 'sep=;'" in source.notes


def test_a_table_in_another_encoding_is_known_before_its_columns(tmp_path):
    content = ("Kommentar;Bewertung\n" + "Größe passt;gut\n" * 9).encode("cp1252")
    with pytest.raises(UserError, match=r"a.csv:2: most rows cannot be decoded: .*data.encoding=cp1252"):
        table(tmp_path, content)
    assert len(table(tmp_path, content, encoding="cp1252")[1]) == 9


def test_cells_in_quotes_tell_the_delimiter_by_what_stands_behind_them(tmp_path):
    """Cut at commas, most of these rows are broken, and the few that are not have as many fields as the header."""
    content = '"text";"label"\n' + '"a ""b"", c";"x"\n' * 9 + '"one, two";"y"\n'
    source, rows = table(tmp_path, content)
    assert source.columns == ("text", "label") and cells(rows)[-1] == ("one, two", "y") and len(rows) == 10
