"""Whether quotes quote in tab-separated text: what each program writes comes back exactly, what may be either is asked about."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.records import Reject, Row

TEXTS = [
    "plain", 'he said "hi"', '"quoted"', "a, b", "tab\there", "line\nbreak", '"', '"open', "café", "", "007", "it's", '"a" b',
    'x ""y""', 'end"', "back\\slash",
]  # fmt: skip
PLAIN = [(f"plain row {number}", "ab"[number % 2]) for number in range(1_200)]


def csv_module(rows, **how):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", **how).writerows([("text", "label"), *rows])
    return text.getvalue()


def pandas(rows, **how):
    frame = pytest.importorskip("pandas").DataFrame(rows, columns=["text", "label"])
    return frame.to_csv(sep="\t", index=False, **how)


def excel(rows):
    """Its "Text (Tab delimited)": quotes where a tab, a line end, a quote or a comma stands."""

    def cell(text):
        return '"' + text.replace('"', '""') + '"' if any(one in text for one in '\t\n,"') else text

    return "text\tlabel\r\n" + "".join(f"{cell(text)}\t{cell(label)}\r\n" for text, label in rows)


def r_write_table(rows, quote='\\"'):
    """write.table(sep="\\t"): names of rows, quotes around every text, a quote inside behind a backslash (qmethod="double": twice)."""

    def cell(text):
        return '"' + text.replace('"', quote) + '"'

    lines = (f'"{number}"\t{cell(text)}\t{cell(label)}\n' for number, (text, label) in enumerate(rows, 1))
    return '"text"\t"label"\n' + "".join(lines)


def raw(rows):
    """No quoting, as Google Sheets, and whoever joins cells by tabs; neither can write tabs and line ends."""
    return "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)


WRITERS = {
    "csv": csv_module,
    "csv all": lambda rows: csv_module(rows, quoting=csv.QUOTE_ALL),
    "csv unix": lambda rows: csv_module(rows, lineterminator="\n"),
    "pandas": pandas,
    "pandas all": lambda rows: pandas(rows, quoting=csv.QUOTE_ALL),
    "excel": excel,
    "r": r_write_table,
    "r double": lambda rows: r_write_table(rows, '""'),
    "raw": raw,
}


def rows_of(tmp_path, content, name="a.tsv", **options):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = open_source(str(path), ReadOptions(**options))
    return source, list(source.rows())


def last_two(rows):
    return [tuple(row.fields.values())[-2:] for row in rows]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("before", [0, 1_200])
def test_what_a_program_writes_is_what_is_read_however_late_its_first_quote(tmp_path, writer, before):
    texts = [text for text in TEXTS if writer != "raw" or not set(text) & {"\t", "\n"}]
    rows = [*PLAIN[:before], *((text, "a") for text in texts)]
    _, found = rows_of(tmp_path, WRITERS[writer](rows))
    assert last_two(found) == rows


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "raw"])
@given(rows=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6))
def test_any_rows_of_a_program_that_quotes(tmp_path_factory, writer, rows):
    rows = [(text, "a") for text in rows]
    try:
        _, found = rows_of(tmp_path_factory.mktemp("tsv"), WRITERS[writer](rows), header=True)
    except UserError as error:
        assert "data.quoting" in str(error)
        return
    found = [row for row in found if isinstance(row, Row)] if writer.startswith("r") else found
    assert set(last_two(found)) <= set(rows) if writer.startswith("r") else last_two(found) == rows


@pytest.mark.parametrize(
    ("late", "found"),
    [
        ('"He said ""hi"""\ta\nshe said "no"\tb\n', "a cell in quotes on line 1,202, a quote that is part of the text on line 1,203"),
        ('"Fine."\ta\nGood.\tb\n', "a cell in quotes on line 1,202, while other cells of its column have none"),
        ('"open\ta\nend"\tb\n', "that closes on another line, though each line alone would be a row"),
    ],
)  # fmt: skip
def test_what_may_be_either_is_asked_about_with_the_place(tmp_path, late, found):
    with pytest.raises(UserError) as caught:
        rows_of(tmp_path, raw(PLAIN) + late)
    assert caught.value.where.endswith("a.tsv:1202") and found in caught.value.found
    _, rows = rows_of(tmp_path, raw(PLAIN) + late, quoting=False)
    assert last_two(rows[1_200:]) == [tuple(line.split("\t")) for line in late.splitlines()]
    _, rows = rows_of(tmp_path, raw(PLAIN) + late, quoting=True)
    assert last_two(rows[1_200:])[0][0] in ('He said "hi"', "Fine.", "open\ta\nend")  # fmt: skip


def test_one_damaged_line_of_many_quoted_ones_is_rejected(tmp_path):
    rows = [(f'row "{number}"', "a") for number in range(50)]
    _, found = rows_of(tmp_path, csv_module(rows) + '"broken" here\tb\r\n')
    assert last_two(found[:-1]) == rows and isinstance(found[-1], Reject)


def test_quoting_can_be_said_of_any_table(tmp_path):
    _, rows = rows_of(tmp_path, 'text,label\n"a",x\n"b,y\n', "a.csv", quoting=False)
    assert last_two(rows) == [('"a"', "x"), ('"b', "y")]


def test_a_file_that_was_written_again_is_looked_at_again(tmp_path):
    _, rows = rows_of(tmp_path, raw([('he said "hi"', "a")]))
    assert last_two(rows) == [('he said "hi"', "a")]
    _, rows = rows_of(tmp_path, csv_module([('he said "hi"', "a")]))
    assert last_two(rows) == [('he said "hi"', "a")]


# What else is found from the first lines, and contradicted by later ones


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_in_the_midst_of_a_file_is_no_row(tmp_path, mark):
    part = "text,label\n" + "a b,x\n" * 1_200
    _, rows = rows_of(tmp_path, part + mark + part, "a.csv")
    (reject,) = [row for row in rows if isinstance(row, Reject)]
    assert (reject.line, reject.reason, len(rows)) == (1_202, "the header is repeated here", 2_401)


def test_a_first_row_that_comes_again_late_is_asked_about(tmp_path):
    content = "outer,inner\n" + "".join(f"what was said {number},other\n" for number in range(1_100))
    rows_of(tmp_path, content, "a.csv")
    with pytest.raises(
        UserError, match=r"a.csv:1102: the first row was read as the header.*'inner'.*data.header=false"
    ):
        rows_of(tmp_path, content + "said last,inner\n", "a.csv")
    assert len(rows_of(tmp_path, content + "said last,inner\n", "a.csv", header=True)[1]) == 1_101
    assert len(rows_of(tmp_path, content + "said last,inner\n", "a.csv", header=False)[1]) == 1_102


@pytest.mark.parametrize(
    ("mark", "encoding", "said"),
    [
        (b"\xef\xbb\xbf", "cp1252", "UTF-8, not CP1252"),
        (b"\xef\xbb\xbf", "utf-16", "UTF-8, not UTF-16"),
        (b"\xff\xfe", "latin-1", "UTF-16, not LATIN-1"),
        (b"\xff\xfe\0\0", "utf-8", "UTF-32, not UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.json"])
def test_a_byte_order_mark_that_says_another_encoding_is_a_user_error(tmp_path, name, mark, encoding, said):
    with pytest.raises(UserError, match=rf"the file is {said} \(its first bytes say so\). Set data.encoding="):
        rows_of(tmp_path, mark + b'{"text": "a"}\n{"text": "b"}\n', name, encoding=encoding)


def test_windows_text_behind_the_first_lines_is_rejected_with_its_place(tmp_path):
    content = raw(PLAIN).encode() + "Größe\ta\n".encode("cp1252")
    _, rows = rows_of(tmp_path, content)
    assert isinstance(rows[-1], Reject) and "byte 0xF6 at offset" in rows[-1].reason and "cp1252" in rows[-1].reason


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_other_line_ends_behind_the_first_lines_change_no_text(tmp_path, end):
    _, rows = rows_of(tmp_path, raw(PLAIN) + f"one\ta{end}two\tb{end}three\ta{end}")
    if end == "\r":
        assert isinstance(rows[-1], Reject) and "fields" in rows[-1].reason
    else:
        assert last_two(rows[-3:]) == [("one", "a"), ("two", "b"), ("three", "a")]


def test_names_of_rows_as_r_writes_them_are_a_column(tmp_path):
    source, rows = rows_of(tmp_path, '"text","label"\n"1","a, b","x"\n"2","c","y"\n', "a.csv")
    assert source.columns == ("column1", "text", "label") and last_two(rows) == [("a, b", "x"), ("c", "y")]
    source, rows = rows_of(tmp_path, "text\nhello, you\nhello, me\n", "a.csv")
    assert source.columns == ("text",) and all(isinstance(row, Reject) for row in rows)
