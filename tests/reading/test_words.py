"""Tables with a row for each word: one row for each sentence, and no sentence that lacks a word."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.reading.formats.test_jsonl import read
from tunewright.reading import ReadOptions, open_source
from tunewright.records import Reject, Row

FIRST_ONLY = """Sentence #,Word,POS,Tag
Sentence: 1,Ann,NNP,B-PER
,sleeps,VBZ,O
,".",.,O
Sentence: 2,Ulm,NNP,B-LOC
"""
EACH = "sentence_id;token;ner\n7;Ann;B-PER\n7;sleeps;O\n7;.;O\n8;Ulm;B-LOC\n"


@pytest.mark.parametrize(
    ("content", "names"), [(FIRST_ONLY, ("Word", "Tag", "Sentence #")), (EACH, ("token", "ner", "sentence_id"))]
)
def test_words_become_sentences(tmp_path, content, names):
    source, rows = read(tmp_path, content, "a.csv")
    word, tag, sentence = names
    assert [(row.line, row.fields[word], row.fields[tag]) for row in rows] == [
        (2, ["Ann", "sleeps", "."], ["B-PER", "O", "O"]),
        (5, ["Ulm"], ["B-LOC"]),
    ]
    assert f"grouped into sentences by {sentence!r}" in source.notes[-1]
    assert list(source.rows()) == rows
    assert source.row_at(3) == rows[0]


def test_a_word_that_cannot_be_read_spoils_the_sentences_it_may_belong_to(tmp_path):
    _, rows = read(tmp_path, EACH.replace("7;.;O", "7;.") + "8;is;O\n9;Oh;O\n", "a.csv")
    assert [(type(row), row.line) for row in rows] == [(Reject, 2), (Reject, 5), (Row, 7)]
    assert "a word cannot be read" in rows[0].reason and "a.csv:4): 2 fields, expected 3" in rows[1].reason
    assert "sleeps" in rows[0].raw


def test_within_a_sentence_the_next_one_is_kept(tmp_path):
    _, rows = read(tmp_path, EACH.replace("7;sleeps;O", "7;sleeps"), "a.csv")
    assert [type(row) for row in rows] == [Reject, Row]


@pytest.mark.parametrize(
    "content",
    [
        "sentence,word,label\nHe sat by the bank.,bank,river\n",
        "sentence,label\nFine.,O\n",
        "sentence_id,word,label\n1,bank,O\n",
        "sentence_id,word,complexity\n1,bank,0.5\n1,river,0.2\n",
        "sentence,word,label\n1,shirt,M\n1,coat,E\n",
    ],
)
def test_other_tables_stay(tmp_path, content):
    _, rows = read(tmp_path, content, "a.csv")
    assert rows[0].fields == dict(
        zip(content.split("\n")[0].split(","), content.split("\n")[1].split(","), strict=True)
    )


def sentences(tmp_path, content, column="token"):
    source, rows = read(tmp_path, content, "a.csv")
    return source, [row.fields[column] if isinstance(row, Row) else row.reason for row in rows]


def test_documents_number_their_sentences_anew_and_stay_one_value(tmp_path):
    content = "doc,sentence_id,token,tag\nd1,1,Ann,B-PER\nd1,1,sleeps,O\nd2,1,Ulm,B-LOC\nd2,1,is,O\n"
    source, found = sentences(tmp_path, content)
    assert found == [["Ann", "sleeps"], ["Ulm", "is"]]
    assert [row.fields["doc"] for row in source.rows()] == ["d1", "d2"]


def test_columns_that_say_the_same_of_all_words_are_one_value(tmp_path):
    source, found = sentences(tmp_path, "sid,sent_id,lang,token,tag\n9,1,en,Ann,B-PER\n9,1,en,is,O\n8,2,de,Oh,O\n")
    assert found == [["Ann", "is"], ["Oh"]]
    assert [(row.fields["lang"], row.fields["sid"]) for row in source.rows()] == [("en", "9"), ("de", "8")]


def test_numbers_that_come_back_are_rejects(tmp_path):
    _, found = sentences(tmp_path, "sentence_id,token,tag\n1,Ann,B-PER\n1,is,O\n2,Ulm,B-LOC\n1,here,O\n")
    assert found[:2] == [["Ann", "is"], ["Ulm"]] and "sentence '1' also occurs earlier" in found[2]


def test_a_column_without_numbers_is_no_endless_sentence(tmp_path):
    _, found = sentences(tmp_path, "sentence_id,token,tag\n,Ann,B-PER\n,is,O\n")
    assert found == ["the word has no sentence number"]


def test_a_missing_number_where_every_word_has_one_joins_no_sentence(tmp_path):
    lines = [f"{number // 2},word,{'B-PER' if number % 2 else 'O'}" for number in range(1000)]
    _, found = sentences(tmp_path, "\n".join(["sentence_id,token,tag", *lines, ",lost,O", "600,fine,O"]))
    assert found[-2:] == ["the word has no sentence number", ["fine"]]


def test_documents_and_sentences_are_each_numbered_once_or_always(tmp_path):
    content = "doc,sentence_id,token,tag\nd1,1,Ann,B-PER\n,1,sleeps,O\n,2,Oh,O\nd2,1,Ulm,B-LOC\n,1,is,O\n"
    source, found = sentences(tmp_path, content)
    assert found == [["Ann", "sleeps"], ["Oh"], ["Ulm", "is"]]
    assert [row.fields["sentence_id"] for row in source.rows()] == ["1", "2", "1"]


def test_a_column_that_differs_late_costs_no_sentence(tmp_path):
    lines = [f"{number // 2},word,O,{'x' if number == 1500 else '_'},{number // 2 % 3}" for number in range(1600)]
    lines[0] = "0,Ann,B-PER,_,0"
    source, found = sentences(tmp_path, "\n".join(["sentence_id,token,tag,misc,group", *lines]))
    assert len(found) == 800 and all(isinstance(words, list) for words in found)
    rows = list(source.rows())
    assert rows[750].fields["misc"] == ["x", "_"] and rows[750].fields["group"] == "0"


@pytest.mark.parametrize(
    "content",
    ["sentence_id,token\n1,Ann\n1,is\n", "sentence_id,token,tag\n1,Ann,O\n1,is,O\n", "sentence,word,tag\n1,Ann,B_PER\n1,is,O\n"],
)  # fmt: skip
def test_words_without_types_or_tags_are_sentences_too(tmp_path, content):
    assert sentences(tmp_path, content, content.split(",")[1].split("\n")[0])[1] == [["Ann", "is"]]


def test_a_sentence_without_an_end_is_rejected_and_not_held(tmp_path):
    content = "Sentence #,Word,Tag\nSentence: 1,Ann,B-PER\n,Bo,O\n" + ",Ulm,O\n" * 20_000 + "Sentence: 2,Ann,B-PER\n"
    _, (first, last) = read(tmp_path, content, "a.csv", max_row_bytes=10_000)
    assert isinstance(first, Reject) and first.reason.startswith("the row has 10,00") and last.fields["Word"] == ["Ann"]


def as_file(tmp_path, suffix, rows):
    """Words with the number of their sentence, in a file of another kind than CSV."""
    path = tmp_path / f"words{suffix}"
    if suffix in (".parquet", ".arrow"):
        table = pa.Table.from_pylist(rows)
        if suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(path, table.schema) as sink:
                sink.write_table(table)
    elif suffix == ".tsv":
        path.write_text("\n".join("\t".join(map(str, cells)) for cells in [rows[0], *(row.values() for row in rows)]))
    else:
        objects = [json.dumps(row) for row in rows]
        path.write_text("\n".join(objects) if suffix == ".jsonl" else f"[{','.join(objects)}]")
    return str(path)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".json", ".parquet", ".arrow"])
@pytest.mark.parametrize("tagged", [True, False])
def test_a_row_for_each_word_is_read_as_sentences_in_every_format(tmp_path, suffix, tagged):
    words = [(7, "Ada", "B-PER"), (7, "left", "O"), (9, "Ulm", "B-LOC"), (9, "is", "O"), (9, "far", "O")]
    rows = [{"sent_id": number, "token": word, **({"ner": tag} if tagged else {})} for number, word, tag in words]
    source = open_source(as_file(tmp_path, suffix, rows), ReadOptions(words_alone=not tagged))
    found = [row.fields for row in source.rows()]
    assert [row["token"] for row in found] == [["Ada", "left"], ["Ulm", "is", "far"]]
    assert not tagged or [row["ner"] for row in found] == [["B-PER", "O"], ["B-LOC", "O", "O"]]
    assert source.by_word is not None and len(list(source.by_word.rows())) == 5


def test_rows_of_json_that_are_no_words_stay_rows(tmp_path):
    rows = [{"sentence": f"the bank number {n}", "word": "bank", "label": "river"} for n in range(4)]
    assert open_source(as_file(tmp_path, ".jsonl", rows)).by_word is None
