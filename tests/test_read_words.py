"""Tables with a row for each word: one row for each sentence, and no sentence that lacks a word."""

import pytest

from tunewright.records import Reject, Row

from .test_read_jsonl import read

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
    assert f"read as sentences by {sentence!r}" in source.notes[-1]
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
    ],
)
def test_other_tables_stay(tmp_path, content):
    _, rows = read(tmp_path, content, "a.csv")
    assert rows[0].fields == dict(
        zip(content.split("\n")[0].split(","), content.split("\n")[1].split(","), strict=True)
    )
