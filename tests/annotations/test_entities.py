"""Rows of every shape -> the same text and entities: words and tags, spans, doccano, Prodigy, Label Studio."""

from __future__ import annotations

import csv
import json

import pytest

from tests.conftest import shared, write_jsonl
from tunewright.annotations.entities import Annotated, EntityReader, NotGold
from tunewright.annotations.entity_sources import entity_source
from tunewright.annotations.spans import Span
from tunewright.errors import RowError, UserError
from tunewright.reading import open_source
from tunewright.reading.detect import peek
from tunewright.reading.entities import entity_roles
from tunewright.records import Reject, Row

ULM = (Span(0, 3, "LOC"), Span(11, 14, "PER"))
WORDS = {"tokens": ["Ulm", "kennt", "", "Ann"], "ner_tags": ["B-LOC", "O", "O", "B-PER"]}
SPANS = {
    "text": "Ulm kennt  Ann",
    "entities": [{"start": 0, "end": 3, "label": "LOC"}, {"start": 11, "end": 14, "label": "PER"}],
}
OFFSETS = {
    "text": "Ulm kennt  Ann",
    "entities": [
        {"id": 7, "label": "PER", "start_offset": 11, "end_offset": 14},
        {"id": 8, "label": "LOC", "start_offset": 0, "end_offset": 3},
    ],
    "relations": [],
}
DOCCANO = {"id": 1, "text": "Ulm kennt  Ann", "label": [[0, 3, "LOC"], [11, 14, "PER"]]}
PRODIGY = {
    "text": "Ulm kennt  Ann",
    "tokens": [{"text": "Ulm", "start": 0, "end": 3, "id": 0}],
    "spans": [{"start": 0, "end": 3, "label": "LOC", "token_start": 0}, {"start": 11, "end": 14, "label": "PER"}],
    "answer": "accept",
    "_input_hash": 5,
}


def region(start, end, text, label):
    value = {"start": start, "end": end, "text": text, "labels": [label]}
    return {"type": "labels", "from_name": "label", "to_name": "text", "value": value}


def task(*annotations, **more):
    return {"id": 1, "data": {"text": "Ulm kennt  Ann"}, "annotations": list(annotations), "predictions": [], **more}


def annotation(*regions, by=1, **more):
    return {"result": list(regions), "completed_by": by, "was_cancelled": False, **more}


BOTH = (region(0, 3, "Ulm", "LOC"), region(11, 14, "Ann", "PER"))
STUDIO = task(annotation(*BOTH))
STUDIO_MIN = {
    "id": 1, "text": "Ulm kennt  Ann", "annotation_id": 4, "annotator": 1,
    "label": [{"start": 0, "end": 3, "text": "Ulm", "labels": ["LOC"]}, {"start": 11, "end": 14, "labels": ["PER"]}],
}  # fmt: skip
SHAPES = [WORDS, SPANS, OFFSETS, DOCCANO, PRODIGY, STUDIO, STUDIO_MIN]


def read(fields, **options) -> Annotated:
    roles = entity_roles(tuple(fields), [Row("a.jsonl", 1, fields)])
    assert roles is not None
    return EntityReader(roles.text[0], roles.label, **options).read(Row("a.jsonl", 1, fields))


@pytest.mark.parametrize("fields", SHAPES, ids=lambda fields: "-".join(fields)[:30])
def test_one_row_in_every_shape(fields):
    found = read(fields)
    assert (found.text, found.spans, found.changes) == ("Ulm kennt  Ann", ULM, ())
    assert (found.words_W2 is not None) == ("ner_tags" in fields)


def reason(fields, columns=("text", "entities"), **options):
    with pytest.raises(RowError) as caught:
        EntityReader(*columns, **options).read(Row("a.jsonl", 1, fields))
    return caught.value.reason


def test_what_is_wrong_with_a_row_is_said():
    words = ("tokens", "ner_tags")
    assert reason({"tokens": ["a", "b"], "ner_tags": ["O"]}, words) == "2 words but 1 tags"
    assert reason({"tokens": ["a", 5], "ner_tags": ["O", "O"]}, words) == "a word is 5, expected text"
    assert reason({"tokens": [], "ner_tags": []}, words) == "blank text"
    assert (
        reason({"tokens": ["a"], "ner_tags": ["I-X"]}, words)
        == "word 1: I-X at the beginning, which IOB2 does not allow"
    )
    assert "set data.label_names to name integer tags" in reason({"tokens": ["a"], "ner_tags": [1]}, words)
    assert reason({"tokens": ["a"]}, words) == "no field 'ner_tags'; found 'tokens'"
    assert reason({"tokens": ["", "a"], "ner_tags": ["B-X", "O"]}, words) == "the span 0:0 'X' holds no character"
    assert reason({"text": " ", "entities": []}) == "blank text"
    assert reason({"text": "a", "entities": None}) == "'entities' holds None, expected a list of entities"
    assert reason({"text": "a", "entities": [[0, 1]]}) == "an entity is [0, 1], expected [start, end, label]"
    assert "needs integers as start and end" in reason({"text": "a", "entities": [[0, 1.5, "X"]]})
    assert "has no label" in reason({"text": "a", "entities": [{"start": 0, "end": 1}]})
    assert "lies outside the text of 1 characters" in reason({"text": "a", "entities": [[0, 2, "X"]]})
    assert "overlap" in reason({"text": "abc", "entities": [[0, 2, "X"], [1, 3, "Y"]]})


def test_changes_are_told():
    found = EntityReader("text", "entities", overlaps="longest").read(
        Row("a", 1, {"text": "abc d ", "entities": [[0, 2, "X"], [1, 3, "Y"], [4, 6, "Z"]]})
    )
    assert found.spans == (Span(0, 2, "X"), Span(4, 5, "Z"))  # of two equally long ones the first
    assert found.changes == ("trimmed", "dropped")


def test_utf16_offsets_of_an_annotation_tool():
    fields = {"data": {"text": "\U0001f600 Ulm"}, "annotations": [annotation(region(3, 6, "Ulm", "LOC"))]}
    found = read(fields)
    assert (found.spans, found.changes) == ((Span(2, 5, "LOC"),), ("utf16",))


def test_what_prodigy_did_not_accept_is_no_gold():
    for answer in ("reject", "ignore"):
        with pytest.raises(NotGold, match=f"its answer is '{answer}'"):
            read({**PRODIGY, "answer": answer})
    without = {key: value for key, value in PRODIGY.items() if key != "spans"}
    assert EntityReader("text", "spans").read(Row("a", 1, without)).spans == ()


def test_cancelled_annotations_and_predictions_are_no_gold():
    cancelled = annotation(region(0, 3, "Ulm", "ORG"), was_cancelled=True)
    assert read(task(cancelled, annotation(*BOTH))).spans == ULM
    reader = EntityReader("data", "annotations")
    for fields in (task(cancelled), task(predictions=[{"result": list(BOTH)}])):
        with pytest.raises(NotGold, match="every annotation of this row was cancelled"):
            reader.read(Row("a", 1, fields))


def test_annotators_agree_or_one_is_chosen():
    first, second = annotation(*BOTH, by=1), annotation(BOTH[0], by={"id": 2, "email": "b@x"}, updated_at="2026-01-02")
    agreeing = annotation(*reversed(BOTH), by=3)
    assert read(task(first, agreeing)).spans == ULM
    with pytest.raises(RowError, match=r"the annotators '1', 'b@x' disagree; set task\.annotator"):
        read(task(first, second))
    assert read(task(first, second), annotator="b@x").spans == ULM[:1]
    assert read(task(first, second), annotator="1").spans == ULM
    assert read(task(second, first), annotator="latest").spans == ULM[:1]
    assert read(task(first, {**second, "ground_truth": True})).spans == ULM[:1]
    with pytest.raises(NotGold, match="no annotation by 9"):
        read(task(first, second), annotator="9")


def test_relations_and_choices_are_no_entities():
    extra = [{"type": "relation", "from_id": "a"}, {"type": "choices", "value": {"choices": ["good"]}}]
    assert read(task(annotation(*BOTH, *extra))).spans == ULM


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "Fine.", "label": "good"},
        {"text": "Fine.", "labels": ["good", "short"]},
        {"text": "Fine.", "labels": []},
        {"text": "Fine.", "label": [1, 0, 1]},
        {"tokens": ["a", "b"], "label": "good"},
        {"messages": [{"role": "user", "content": "a"}]},
        {"conversations": [{"from": "human", "value": "a"}], "label": "x"},
        {"prompt": "a", "completion": "b"},
    ],
)
def test_rows_of_other_tasks_are_not_claimed(fields):
    assert entity_roles(tuple(fields), [Row("a", 1, fields)]) is None


def test_the_tags_of_words_are_the_entities_among_several_columns():
    row = {"id": "0", "tokens": ["a", "b"], "pos_tags": [1, 2], "chunk_tags": [3, 4], "ner_tags": [0, 1]}
    roles = entity_roles(tuple(row), [Row("a", 1, row)])
    assert (roles.text, roles.label) == (("tokens",), "ner_tags")
    assert entity_roles(tuple(row), [Row("a", 1, row)], label="pos_tags").label == "pos_tags"
    odd = {"w": ["a", "b"], "x": ["O", "B-P"], "y": ["O", "O"]}
    with pytest.raises(UserError, match="more than one column could hold the tags"):
        entity_roles(tuple(odd), [Row("a", 1, odd)])


def rows_of(path, **options):
    return list(entity_source(open_source(str(path)), text="tokens", label="ner_tags", **options).rows())


def test_every_source_is_read_as_the_first_is(tmp_path):
    """Other names, another scheme, integers: all come as tokens and IOB2 tags."""
    path = write_jsonl(tmp_path / "a.jsonl", [{"words": ["New", "York", "!"], "labels": ["B-LOC", "E-LOC", "O"]}])
    source = entity_source(open_source(str(path)), text="tokens", label="ner_tags")
    assert [row.fields for row in source.rows()] == [
        {"tokens": ["New", "York", "!"], "ner_tags": ["B-LOC", "I-LOC", "O"]}
    ]
    assert source.notes == [
        "column 'words' is read as 'tokens'", "column 'labels' is read as 'ner_tags'", "tags are BIOES: E- and S- among its tags",
    ]  # fmt: skip
    path = write_jsonl(tmp_path / "b.jsonl", [{"tokens": ["Ulm", "!"], "ner_tags": [1, 0]}])
    assert rows_of(path, names=["O", "I-LOC"])[0].fields["ner_tags"] == ["B-LOC", "O"]
    bioes = [{"tokens": ["Ulm", "!"], "ner_tags": ["S-LOC", "O"]}, {"tokens": ["Ulm", "!"], "ner_tags": ["B-LOC", "O"]}]
    good, bad = rows_of(write_jsonl(tmp_path / "c.jsonl", bioes))
    assert good.fields["ner_tags"] == ["B-LOC", "O"]
    assert isinstance(bad, Reject)
    assert (bad.line, bad.reason) == (2, "word 2: O after B-LOC, which BIOES does not allow")


def test_integers_of_a_parquet_file_have_the_names_that_it_carries(tmp_path):
    import datasets

    features = datasets.Features({
        "tokens": datasets.List(datasets.Value("string")),
        "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-LOC", "I-LOC"])),
    })  # fmt: skip
    rows = {"tokens": [["New", "Ulm", "!"]], "ner_tags": [[1, 2, 0]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"))
    assert entity_roles(source.columns, peek(source)[0]).label == "ner_tags"
    (row,) = rows_of(tmp_path / "a.parquet")
    assert EntityReader("tokens", "ner_tags").read(row).spans == (Span(0, 7, "LOC"),)
    (row,) = rows_of(tmp_path / "a.parquet", names=["O", "B-X", "I-X"], overwrite=True)
    assert row.fields["ner_tags"] == ["B-X", "I-X", "O"]


def test_unlabelled_rows_of_any_text_column_are_inputs(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"id": 1, "text": "Ulm kennt Ann"}])
    source = entity_source(open_source(str(path)), text="tokens", label=None)
    (row,) = source.rows()
    assert EntityReader("tokens", "ner_tags").input(row) == Annotated("Ulm kennt Ann")


@pytest.mark.parametrize("name", ["wnut17/wnut17train.conll", "ncbi_disease/test.tsv"])
def test_real_files_become_entities(name):
    source = open_source(str(shared(f"ner/{name}")))
    roles = entity_roles(source.columns, peek(source)[0])
    source, reader = entity_source(source, text="tokens", label="ner_tags"), EntityReader(roles.text[0], roles.label)
    for row in source.rows():
        found = reader.read(row)
        words = row.fields["tokens"]
        begun = sum(tag.startswith("B-") for tag in row.fields["ner_tags"])
        assert len(found.spans) == begun
        assert found.text == " ".join(words)
        assert not found.changes
        json.dumps(found.spans)


PRINTED = [
    ({"tokens": "['Ulm', 'kennt', '', 'Ann']", "ner_tags": "['B-LOC', 'O', 'O', 'B-PER']"}, "Ulm kennt  Ann"),
    ({"tokens": "['Ulm' 'kennt' ''\n 'Ann']", "ner_tags": '["B-LOC", "O", "O", "B-PER"]'}, "Ulm kennt  Ann"),
    ({"text": "Ulm kennt  Ann", "entities": '[{"start": 0, "end": 3, "label": "LOC", "by": null}, {"start": 11, "end": 14, "tag": "PER"}]'}, "Ulm kennt  Ann"),
    ({"text": "Ulm kennt  Ann", "entities": "[(0, 3, 'LOC'), (11, 14, 'PER')]"}, "Ulm kennt  Ann"),
    ({"text": "Ulm kennt  Ann", "labels": "B-LOC O B-PER"}, "Ulm kennt Ann"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "text"), PRINTED)
def test_lists_that_a_table_holds_as_text(tmp_path, fields, text):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerow(fields)
    source = open_source(str(path))
    rows, columns = peek(source)
    roles = entity_roles(columns, rows)
    aligned = entity_source(source, text=roles.text[0], label=roles.label)
    found = [EntityReader(roles.text[0], roles.label).read(row) for row in aligned.rows()]
    assert [one.text for one in found] == [text]
    assert [text[span.start : span.end] for span in found[0].spans] == ["Ulm", "Ann"]
    assert any("lists written as text" in note or "split at blanks" in note for note in aligned.notes)


@pytest.mark.parametrize("fields", [{"text": "fine", "label": "O"}, {"text": "a b c", "label": "B-X O"}])
def test_a_label_that_looks_like_tags_beside_other_words_is_no_tag_of_words(fields):
    assert entity_roles(tuple(fields), [Row("a.csv", 2, fields)]) is None


def test_a_text_with_another_number_of_words_than_tags_is_a_reject_later_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,labels\nUlm kennt Ann,B-LOC O B-PER\nUlm kennt,B-LOC O B-PER\n")
    aligned = entity_source(open_source(str(path)), text="text", label="labels")
    good, bad = aligned.rows()
    assert EntityReader("text", "labels").read(good).text == "Ulm kennt Ann"
    with pytest.raises(RowError, match="2 words but 3 tags"):
        EntityReader("text", "labels").read(bad)


def test_an_empty_cell_among_lists_is_no_entity(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text,label\n1,Ulm kennt,"[{""start"": 0, ""end"": 3, ""labels"": [""LOC""]}]"\n2,Ja,\n')
    rows, columns = peek(open_source(str(path)))
    assert entity_roles(columns, rows).label == "label"
    aligned = entity_source(open_source(str(path)), text="text", label="label")
    assert [EntityReader("text", "label").read(row).spans for row in aligned.rows()] == [(Span(0, 3, "LOC"),), ()]


def test_a_list_of_tags_beside_a_text_of_words(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Sentence #,Sentence,Tag\n1,Ulm kennt Ann,\"['B-LOC', 'O', 'B-PER']\"\n")
    rows, columns = peek(open_source(str(path)))
    roles = entity_roles(columns, rows)
    assert (roles.text, roles.label) == (("Sentence",), "Tag")
    aligned = entity_source(open_source(str(path)), text="Sentence", label="Tag")
    assert [row.fields["Sentence"] for row in aligned.rows()] == [["Ulm", "kennt", "Ann"]]


def test_a_row_for_each_word_without_numbers_is_refused():
    rows = [
        Row("a.csv", n, {"word": word, "tag": tag}) for n, (word, tag) in enumerate([("Ann", "B-PER"), ("sleeps", "O")])
    ]
    with pytest.raises(UserError, match=r"no column numbers the sentences.*sentence_id"):
        entity_roles(("word", "tag"), rows)
    renamed = [Row("a.csv", row.line, {"text": row.fields["word"], "label": row.fields["tag"]}) for row in rows]
    assert entity_roles(("text", "label"), renamed) is None


def test_words_in_a_list_and_tags_in_a_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("tokens,ner_tags,text\n\"['Ulm', 'kennt', 'Ann']\",B-LOC O B-PER,Ulm kennt Ann\n,O,Ja\n")
    rows, columns = peek(open_source(str(path)))
    assert entity_roles(columns, rows).text == ("tokens",)
    first = next(entity_source(open_source(str(path)), text="tokens", label="ner_tags").rows())
    assert (first.fields["tokens"], first.fields["ner_tags"]) == (["Ulm", "kennt", "Ann"], ["B-LOC", "O", "B-PER"])


def test_real_lists_are_not_said_to_be_split(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "Ulm kennt Ann", "labels": ["B-LOC", "O", "B-PER"]}])
    notes = entity_source(open_source(str(path)), text="text", label="labels").notes
    assert "column 'text' is split at blanks" in notes and not any("'labels'" in note for note in notes)
