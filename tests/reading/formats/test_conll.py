"""CoNLL files: columns and their order found, sentences whole, faults with their line; and what is no CoNLL."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import shared
from tunewright.errors import UserError
from tunewright.reading import ReadOptions, open_source
from tunewright.records import Reject, Row


def read(tmp_path, content, name="a.conll", **options):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    source = open_source(str(path), ReadOptions(**options))
    return source, list(source.rows())


def fields(rows):
    return [(row.line, row.fields["tokens"], row.fields["ner_tags"]) for row in rows]


TWO = "Ulm\tB-LOC\nliegt\tO\n\nJa\tO\n"


def test_two_columns(tmp_path):
    source, rows = read(tmp_path, TWO)
    assert fields(rows) == [(1, ["Ulm", "liegt"], ["B-LOC", "O"]), (4, ["Ja"], ["O"])]
    assert (source.format, source.columns, source.notes) == ("conll", ("tokens", "ner_tags"), [])
    assert rows == list(source.rows())


@pytest.mark.parametrize("name", ["train.tsv", "train.txt", "emerging.annotated", "train"])
def test_known_by_content_whatever_the_suffix(tmp_path, name):
    source, rows = read(tmp_path, TWO, name)
    assert source.format == "conll"
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.tsv", "text\tlabel\nUlm\tB\nJa\tO\n", "tsv"),
        ("a.tsv", "spam\tO Lord\n\nham\tB-side is fine\n", "tsv"),
        ("a.txt", "First line.\n\nI am\n\nO\n", "text"),
    ],
)
def test_tables_and_texts_stay_what_they_are(tmp_path, name, content, format):
    assert read(tmp_path, content, name)[0].format == format


def test_the_first_column_may_hold_the_tags(tmp_path):
    source, rows = read(tmp_path, "B-LOC\tUlm\nO\tliegt\n\nO\tJa\n")
    assert fields(rows) == [(1, ["Ulm", "liegt"], ["B-LOC", "O"]), (4, ["Ja"], ["O"])]
    assert source.notes == ["the first column holds the tags"]


def test_four_columns_by_blanks_with_documents_and_comments(tmp_path):
    content = (
        "-DOCSTART- -X- O O\n\n# sent = 1\nU.N. NNP I-NP I-ORG\nofficial NN I-NP O\n\n"
        "-DOCSTART- -X- O O\n# NN O O\n! . O O\n"
    )
    source, rows = read(tmp_path, content)
    assert fields(rows) == [(4, ["U.N.", "official"], ["I-ORG", "O"]), (8, ["#", "!"], ["O", "O"])]
    assert source.notes == ["words in column 1, tags in column 4; columns not used: 2, 3"]


def test_a_column_that_counts_the_words_is_not_read(tmp_path):
    source, rows = read(tmp_path, "# sent_id = 1\n1\tAnn\tB-PER\n2-3\tdoes\tO\n\n# sent_id = 2\n1\tJa\tO\n")
    assert fields(rows) == [(2, ["Ann", "does"], ["B-PER", "O"]), (6, ["Ja"], ["O"])]
    assert source.notes == ["words in column 2, tags in column 3; columns not used: 1"]


def test_of_entities_within_entities_those_outside_are_read(tmp_path):
    _, rows = read(tmp_path, "Uni\tB-ORG\tO\nUlm\tI-ORG\tB-PER\n\nAnn\tB-PER\tO\n")
    assert [row.fields["ner_tags"] for row in rows] == [["B-ORG", "I-ORG"], ["B-PER"]]
    _, rows = read(tmp_path, "Uni\tB-ORG\tO\nUlm\tI-ORG\tO\n\nAnn\tB-PER\tO\n")
    assert [row.fields["ner_tags"] for row in rows] == [["B-ORG", "I-ORG"], ["B-PER"]]


def test_types_without_prefixes(tmp_path):
    lines = [
        "Ann\tperson-actor",
        "is\tO",
        "here\tO",
        "",
        "in\tO",
        "old\tO",
        "Ulm\tplace",
        "now\tO",
        "and\tO",
        "so\tO",
        "",
    ]
    _, rows = read(tmp_path, "\n".join(lines * 3) + "\n", "a.tsv")
    assert rows[0].fields["ner_tags"] == ["person-actor", "O", "O"]


def test_blank_lines_may_hold_blanks_and_lines_end_as_windows_ends_them(tmp_path):
    _, rows = read(tmp_path, "Ulm\tB-LOC\r\n\t\r\n\r\nJa\tO")
    assert fields(rows) == [(1, ["Ulm"], ["B-LOC"]), (4, ["Ja"], ["O"])]


def test_words_may_hold_what_looks_like_blanks(tmp_path):
    _, rows = read(tmp_path, "New York\tB-LOC\n\x85\tO\n\u200b\tO\n\nJa\tO\n")
    assert rows[0].fields["tokens"] == ["New York", "\x85", "\u200b"]


def test_a_faulty_line_rejects_its_sentence_and_is_named(tmp_path):
    _, rows = read(tmp_path, "Ulm\tB-LOC\nliegt\n\nJa\tO\nso\t\n\nNein\tO\na\tO\tx\n\ngut\tO\n")
    assert [(type(row), row.line) for row in rows] == [(Reject, 2), (Reject, 5), (Reject, 8), (Row, 10)]
    assert [row.reason for row in rows[:3]] == ["1 column, expected 2", "the tag is blank", "3 columns, expected 2"]
    assert rows[0].raw == "Ulm\tB-LOC\nliegt"


def test_bytes_that_are_not_text_reject_their_sentence(tmp_path):
    path = tmp_path / "a.conll"
    path.write_bytes(b"Ulm\tB-LOC\n\xff\tO\n\nJa\tO\n")
    rows = list(open_source(str(path)).rows())
    assert (rows[0].line, type(rows[0])) == (2, Reject)
    assert fields(rows[1:]) == [(4, ["Ja"], ["O"])]


def test_a_file_without_blank_lines_does_not_fill_the_memory(tmp_path):
    _, rows = read(tmp_path, "Ulm\tB-LOC\n" * 100 + "\nJa\tO\n", max_row_bytes=200)
    assert "more than data.max_row_bytes allows (200)" in rows[0].reason
    assert len(rows) == 2


def test_no_tags_at_all_is_said(tmp_path):
    with pytest.raises(UserError, match="no column of tags found"):
        read(tmp_path, "just some\ntext here\n")


words = st.text(  # no capitals: a file whose words are all tags cannot be told from one that is the other way round
    st.characters(codec="utf-8", exclude_characters="\t\n\r\0", exclude_categories=["Lu", "Cs"]), min_size=1, max_size=6
).filter(lambda word: word.strip(" ") and word[0] != "#")
tags = st.sampled_from(["O", "B-PER", "I-PER", "B-a-b"])


@given(st.lists(st.lists(st.tuples(words, tags), min_size=1, max_size=6), min_size=2))
def test_what_is_written_is_read(tmp_path_factory, sentences):
    content = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences)
    _, rows = read(tmp_path_factory.mktemp("conll"), content)
    found = [list(zip(row.fields["tokens"], row.fields["ner_tags"], strict=True)) for row in rows]
    assert found == sentences


@pytest.mark.parametrize(
    ("conll", "twin"),
    [
        ("wnut17/emerging.dev.conll", "wnut17/dev.jsonl"),
        ("wnut17/emerging.test.annotated", "wnut17/test.jsonl"),
        ("wnut17/wnut17train.conll", "wnut17/train.jsonl"),
        ("ncbi_disease/test.tsv", "ncbi_disease/test.jsonl"),
    ],
)
def test_real_files_hold_what_their_twins_hold(conll, twin):
    rows = open_source(str(shared(f"ner/{conll}"))).rows()
    with open(shared(f"ner/{twin}"), encoding="utf-8") as lines:
        for row, line in zip(rows, lines, strict=True):
            assert isinstance(row, Row)
            assert row.fields == json.loads(line)


def test_a_line_of_names_is_no_sentence(tmp_path):
    source, rows = read(tmp_path, "Word\tPOS\tTag\nAnn\tNNP\tB-PER\nsleeps\tVBZ\tO\n\nUlm\tNNP\tB-LOC\n")
    assert fields(rows) == [(2, ["Ann", "sleeps"], ["B-PER", "O"]), (5, ["Ulm"], ["B-LOC"])]
    assert source.notes[0] == "the first line names the columns: Word POS Tag"


def test_a_language_before_every_word_is_left_out(tmp_path):
    lines = ["en:Ann\tB-PER", "en:lives\tO", "en:in\tO", "en:U.N.\tB-ORG", "", "en:It\tO", "en:is\tO", "en::\tO"]
    source, rows = read(tmp_path, "\n".join(lines) + "\n")
    assert [row.fields["tokens"] for row in rows] == [["Ann", "lives", "in", "U.N."], ["It", "is", ":"]]
    assert "the prefix 'en:' of every word" in source.notes[0]
    _, rows = read(tmp_path, "\n".join(lines).replace("en:lives", "lives") + "\n")
    assert rows[0].fields["tokens"][0] == "en:Ann"


def test_tags_with_their_types_first_are_not_passed_over_for_the_chunks(tmp_path):
    """Of word, part of speech, chunk and tag, the last one: also where it is PER-I and the chunk I-NP."""
    lines = ["Ada NNP I-NP PER-I", "saw VBD I-VP O", "Ulm NNP I-NP LOC-I", "Bonn NNP I-NP LOC-B", ". . O O", ""] * 6
    (tmp_path / "a.conll").write_text("\n".join(lines) + "\n")
    rows = list(open_source(str(tmp_path / "a.conll")).rows())
    assert [row.fields["ner_tags"] for row in rows] == [["PER-I", "O", "LOC-I", "LOC-B", "O"]] * 6
