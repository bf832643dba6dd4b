"""A file whose columns are called otherwise than the training file's is read under the training names, and it is said."""

from __future__ import annotations

from tests.conftest import write_jsonl
from tunewright.reading import open_source
from tunewright.reading.align import aligned


def rows(n: int = 12) -> list[dict]:
    return [{"text": f"a longer text number {i} of the file", "label": "ab"[i % 2]} for i in range(n)]


def test_other_names_are_renamed_and_noted(tmp_path):
    path = write_jsonl(tmp_path / "test.jsonl", rows())
    source = aligned(open_source(str(path)), text=("review",), pair=None, label="sentiment")
    assert next(iter(source.rows())).fields == {"review": "a longer text number 0 of the file", "sentiment": "a"}
    assert source.notes == ["column 'text' is read as 'review', 'label' is read as 'sentiment'"]
    assert source.row_at(3).fields["sentiment"] == "a"


def test_the_same_names_several_texts_and_doubt_leave_it_as_it_is(tmp_path):
    path = write_jsonl(tmp_path / "test.jsonl", rows())
    for text, label in ((("text",), "label"), (("a", "b"), "label"), (("review",), "label")):
        source = aligned(open_source(str(path)), text=text, pair=None, label=label)
        assert next(iter(source.rows())).fields["text"]
    two = [{"title": "one text here", "subject": "another text here"} for _ in range(5)]
    path = write_jsonl(tmp_path / "two.jsonl", two)
    source = aligned(open_source(str(path)), text=("x",), pair=None, label=None)
    assert [row.fields for row in source.rows()] == two and not source.notes
