"""Which columns are text, pair and label: by name, else by content, else asked."""

import pytest

from tests.reading.formats.test_jsonl import read
from tunewright.errors import UserError
from tunewright.reading.detect import Roles, detect_roles, find_column, peek
from tunewright.reading.unlabelled import is_lone_text, text_roles
from tunewright.records import Row

TEXTS = [f"this is the {number}th sentence about some film that we saw" for number in range(12)]
LABELS = ["good", "bad", "good"] * 4
OTHER = [f"another {number} long text that goes on about the same film" for number in range(12)]


def roles(**columns):
    columns = {name: list(values) for name, values in columns.items()}
    rows = [
        Row("a.csv", number + 2, dict(zip(columns, values, strict=True)))
        for number, values in enumerate(zip(*columns.values(), strict=True))
    ]
    return detect_roles(tuple(columns), rows)


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"text": TEXTS, "label": LABELS}, "text", "label"),
        ({"review": TEXTS, "sentiment": LABELS}, "review", "sentiment"),
        ({"ID": range(12), "Review Text": TEXTS, "Stars": [1, 2, 3] * 4}, "Review Text", "Stars"),
        ({"text": TEXTS, "label": [0, 1, 0] * 4, "label_text": LABELS}, "text", "label"),
        ({"title": LABELS, "content": TEXTS, "label": LABELS}, "content", "label"),
        ({"Class Index": [1, 2, 3] * 4, "Title": OTHER, "Description": TEXTS}, "Description", "Class Index"),
        ({"question": TEXTS, "answer": [True, False, True] * 4}, "question", "answer"),
        ({"column1": LABELS, "column2": TEXTS}, "column2", "column1"),
        ({"v1": LABELS, "v2": TEXTS}, "v2", "v1"),
        ({"column1": range(12), "column2": TEXTS, "column3": LABELS}, "column2", "column3"),
        ({"review": TEXTS, "verdict": LABELS}, "review", "verdict"),
        ({"text": TEXTS}, "text", None),
        ({"anything": TEXTS}, "anything", None),
        ({"id": LABELS, "text": TEXTS}, "text", None),
        ({"text": TEXTS, "label": [None] * 12}, "text", "label"),
        ({"text": [*TEXTS[:11], 7], "label": LABELS}, "text", "label"),
        ({"text": [["a"], *TEXTS[1:]], "remark": OTHER, "label": LABELS}, "text", "label"),
        ({"anything": [7, *TEXTS[1:]], "label": LABELS}, "anything", "label"),
    ],
)
def test_roles_of_one_text(columns, text, label):
    found = roles(**columns)
    assert (found.text, found.pair, found.label, found.multi_label) == ((text,), None, label, False)


@pytest.mark.parametrize(
    "names", [("sentence1", "sentence2"), ("Premise", "Hypothesis"), ("question", "passage"), ("text_a", "text_b")]
)
def test_named_twins_are_a_pair(names):
    found = roles(**{names[0]: TEXTS, names[1]: OTHER, "label": LABELS, "idx": range(12)})
    assert (found.text, found.pair, found.label) == ((names[0],), names[1], "label")


def test_two_free_columns_are_never_guessed_to_be_a_pair():
    with pytest.raises(UserError, match=r"a.csv: more than one column could be the text; found 'left', 'right'"):
        roles(left=TEXTS, right=OTHER, label=LABELS)


@pytest.mark.parametrize("lists", [[["a"], [], ["a", "b"]] * 4, [[1], [], [1, 2]] * 4])
@pytest.mark.parametrize("name", ["labels", "anything"])
def test_a_list_is_a_multi_label_label(lists, name):
    found = roles(**{"text": TEXTS, name: lists, "id": [f"e{number}" for number in range(12)]})
    assert found == Roles(("text",), None, name, True, found.reason)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": TEXTS, "sentiment": LABELS, "topic": LABELS},
        {"text": TEXTS, "one": LABELS, "two": LABELS},
        {"review": TEXTS, "comment": OTHER, "label": LABELS},
    ],
)
def test_what_stays_open_is_asked(columns):
    with pytest.raises(UserError, match=r"a.csv: more than one column.*found '.*Set data.text=… and data.label=…"):
        roles(**columns)


def test_what_is_named_stands_and_the_rest_is_found():
    columns = {"review": TEXTS, "comment": OTHER, "sentiment": LABELS, "topic": LABELS}

    def named(**given):
        values = zip(*columns.values(), strict=True)
        rows = [Row("a.csv", 2, dict(zip(columns, row, strict=True))) for row in values]
        found = detect_roles(tuple(columns), rows, **given)
        return found.text, found.pair, found.label

    assert named(text=("comment",), label="topic") == (("comment",), None, "topic")
    assert named(text=("review", "comment"), label="topic") == (("review", "comment"), None, "topic")
    assert named(pair="comment", label="topic") == (("review",), "comment", "topic")
    with pytest.raises(UserError, match=r"could be the label; found 'sentiment', 'topic'"):
        named(text=("review",))
    with pytest.raises(UserError, match=r"could be the text; found 'review', 'comment'"):
        named(label="topic")


def test_a_text_that_is_named_is_no_half_of_a_pair():
    rows = [Row("a.csv", 2, {"premise": "a", "hypothesis": "b", "label": 1})]
    assert detect_roles(("premise", "hypothesis", "label"), rows, text=("premise",)).pair is None
    assert detect_roles(("premise", "hypothesis", "label"), rows, pair="hypothesis").text == ("premise",)


def test_no_text_is_a_user_error():
    with pytest.raises(UserError, match=r"no column holds text; found 'x', 'label'. Set data.text"):
        roles(x=range(0, 24, 2), label=LABELS)


def test_a_column_of_numbers_is_no_text_whatever_its_name():
    with pytest.raises(UserError, match=r"no column holds text"):
        roles(text=[*range(0, 20, 2), "a", "b"], label=LABELS)
    with pytest.raises(UserError, match=r"no column holds text"):
        roles(text=[str(number) for number in range(0, 24, 2)], label=LABELS)


def test_the_reason_says_how():
    assert roles(review=TEXTS, verdict=LABELS).reason == "text 'review' by its name, label 'verdict' by its values"


def test_a_column_that_is_not_there_lists_those_there_are():
    assert find_column("text", ["text", "label"]) == "text"
    with pytest.raises(UserError) as error:
        find_column("txt", ["text", "label"], where="a.csv")
    assert str(error.value) == "a.csv: no column 'txt'; found 'text', 'label'. Did you mean 'text'?"
    with pytest.raises(UserError, match=r"Did you mean 'Review Text'"):
        find_column("review_text", ["Review Text", "label"])
    with pytest.raises(UserError, match=r"Set data.text to one of them"):
        find_column("zzz", ["text"], key="data.text")


def test_peek_gives_the_first_rows_and_every_key(tmp_path):
    source, _ = read(tmp_path, '{"a": 1}\nbad\n{"a": 1, "b": 2}\n{"c": 3}\n')
    rows, columns = peek(source, 2)
    assert [row.line for row in rows] == [1, 3] and columns == ("a", "b")
    assert peek(source)[1] == ("a", "b", "c")


def test_columns_of_noughts_and_ones_are_asked_about():
    ones = [0, 1, 0] * 4
    with pytest.raises(UserError, match="several columns could each be a label; found 'toxic', 'obscene', 'threat'"):
        roles(comment_text=TEXTS, toxic=ones, obscene=ones, threat=ones)
    assert roles(comment_text=TEXTS, toxic=ones, obscene=ones).label == "toxic"


def test_lists_spelled_as_texts_are_several_labels():
    found = roles(text=TEXTS, labels=["['a', 'b']", "['a']", "[]"] * 4)
    assert (found.label, found.multi_label) == ("labels", True)


def test_what_is_said_about_a_text_is_not_passed_over():
    spans = [Row("a.jsonl", n, {"text": text, "entities": [["PER", 0, 4]]}) for n, text in enumerate(TEXTS)]
    assert not is_lone_text(("text", "entities"), spans)
    assert is_lone_text(("text",), spans)


def test_a_text_is_found_whatever_the_labels_could_be():
    rows = [Row("a.jsonl", n, {"text": text, "dump": "x", "language": "en"}) for n, text in enumerate(TEXTS)]
    assert text_roles(("text", "dump", "language"), rows, source="a.jsonl")[0] == ("text",)
