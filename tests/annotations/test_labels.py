"""A label cell becomes names, text columns become texts: what cannot be understood is a RowError, nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.annotations.labels import (
    MAX_LABELS,
    LabelSpace,
    are_scores,
    are_tags_of_words,
    check_labels,
    joined_labels,
    label_name,
    label_names,
    parse_binary_columns,
)
from tunewright.errors import RowError, RowSkipped, UserError
from tunewright.files.record_json import from_json, to_json
from tunewright.reading.columns import TextColumns
from tunewright.records import Row

# Labels


def test_a_column_for_each_label():
    assert parse_binary_columns({"a": 1, "b": "0", "c": 1.0, "d": "TRUE"}) == ("a", "c", "d")
    with pytest.raises(RowSkipped, match="-1"):
        parse_binary_columns({"a": -1, "b": "-1"})
    with pytest.raises(RowError, match="column 'b' holds 2, expected 0 or 1"):
        parse_binary_columns({"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("cell", "name"),
    [(4, "4"), (4.0, "4"), (-1, "-1"), ("4", "4"), ("007", "007"), (" spam ", " spam "), (True, "true"), (False, "false"), ("NA", "NA")],
)  # fmt: skip
def test_a_cell_is_its_name(cell, name):
    assert label_name(cell) == name


def test_whole_numbers_of_tables_with_gaps_are_integers():
    assert [label_name(cell) for cell in ("4.0", "4.5", "v4.0")] == ["4", "4.5", "v4.0"]


@pytest.mark.parametrize("cell", [None, "", "  ", "\t\n"])
def test_no_label(cell):
    with pytest.raises(RowError, match="no label"):
        label_name(cell)


@pytest.mark.parametrize("cell", [0.5, float("nan"), float("inf"), ["a"], {"a": 1}, b"a"])
def test_what_is_no_label(cell):
    with pytest.raises(RowError, match="expected a text or an integer"):
        label_name(cell)


def test_a_decimal_is_called_as_it_is_written():
    assert [label_name(cell, decimals=True) for cell in (0.5, "0.5", 1.0, -2.25)] == ["0.5", "0.5", "1", "-2.25"]


def test_named_integers():
    names = ["neg", "pos"]
    assert [label_name(cell, names) for cell in (0, 1, 1.0, "1", "neg")] == ["neg", "pos", "pos", "pos", "neg"]
    assert label_name("1", ["1", "0"]) == "1"  # a name goes before a number
    with pytest.raises(RowSkipped, match="no label"):
        label_name(-1, names)
    for cell in (2, "maybe", "--1"):
        with pytest.raises(RowError, match=r"is not among data.label_names \('neg', 'pos'\)"):
            label_name(cell, names)


@pytest.mark.parametrize(
    ("cell", "delimiter", "names"),
    [
        (["a", "b", "a"], None, ("a", "b")), ([], None, ()), ("a", None, ("a",)), ("a, b", None, ("a, b",)), ("a, b,,a", ",", ("a", "b")),
        ("", ",", ()), ("  ", ",", ()), ((1, 2), None, ("1", "2")), ([3], None, ("3",)),
    ],
)  # fmt: skip
def test_several_labels(cell, delimiter, names):
    assert label_names(cell, delimiter=delimiter) == names


def test_several_labels_that_are_none():
    with pytest.raises(RowError, match="no labels"):
        label_names(None)
    with pytest.raises(RowError, match="the labels are 5, expected a list"):
        label_names(5)
    with pytest.raises(RowError, match="no label"):
        label_names(["a", None])
    assert label_names([0, 1], ["neg", "pos"]) == ("neg", "pos")


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ([1, 0, 1], ("a", "c")), ([0, 0, 0], ()), ([0.0, 1.0, 0.0], ("b",)), ([True, True, False], ("a", "b")),
        (["0", "0", "1"], ("c",)), ([0, 1], ("a", "b")), ([2, 0], ("c", "a")), ([], ()),
    ],
)  # fmt: skip
def test_noughts_and_ones_for_each_label_take_its_name(cell, found):
    assert label_names(cell, ["a", "b", "c"]) == found


@pytest.mark.parametrize(
    ("cell", "names", "hint"),
    [
        ([1, 0, 1], None, "set data.label_names to the 3 names in this order"),
        ([1, 0, 1], ["a", "b"], "set data.label_names to the 3 names"),
        ([1, 1], ["a", "b"], "list the labels' names instead"),
        ([0, 0], None, "list the labels' names instead"),
    ],
)
def test_noughts_and_ones_without_names_are_no_labels(cell, names, hint):
    with pytest.raises(RowError, match="a 0 or 1 for each label; " + hint):
        label_names(cell, names)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")), (["10", "9", "x"], ("10", "9", "x")), (["b", "B", "a"], ("B", "a", "b")),
        (["--5", "1"], ("--5", "1")), (["٣", "1"], ("1", "٣")), (["9" * 5_000, "1"], ("1", "9" * 5_000)), ([], ()),
    ],
)  # fmt: skip
def test_integers_in_their_order_other_labels_sorted(found, names):
    assert LabelSpace.learn(found).names == names


@given(st.sets(st.text(min_size=1), max_size=8))
def test_any_labels_have_an_order_that_does_not_depend_on_the_rows(found):
    space = LabelSpace.learn(sorted(found))
    assert set(space.names) == found == set(space.index)
    assert [space.index[name] for name in space.names] == list(range(len(space)))


def test_what_is_no_set_of_labels():
    for names, found in (((), "none"), (("a",), "only 'a'")):
        with pytest.raises(
            UserError,
            match=rf"data.csv, column 'y': classification needs at least two labels; found {found}; expected two",
        ):
            check_labels(LabelSpace(names), where="data.csv, column 'y'")
    with pytest.raises(
        UserError, match="does not look like a label column; found 5,001 different values; expected at most 5,000"
    ):
        check_labels(LabelSpace(tuple(map(str, range(MAX_LABELS + 1)))), where="x")
    with pytest.raises(UserError, match="a label is named twice; found 'a'"):
        check_labels(LabelSpace(("a", "b", "a")), where="x")
    check_labels(LabelSpace(("a", "b")), where="x")
    check_labels(LabelSpace(tuple(map(str, range(77)))), where="x", num_given=77)
    many = LabelSpace(tuple(f"A sentence of {i} words" for i in range(60)))
    check_labels(many, where="x", num_given=120)
    with pytest.raises(UserError, match="60 different values in 119 rows"):
        check_labels(many, where="x", num_given=119)


# Columns


def row(**fields):
    return Row("a.csv", 7, fields)


def test_one_text_stands_as_it_is():
    assert TextColumns(("t",)).texts_of(row(t="  NA \r\n")) == ("  NA \r\n", None)


def test_several_texts_are_joined_by_a_blank_line_and_blank_ones_left_out():
    columns = TextColumns(("subject", "body"))
    assert columns.texts_of(row(subject="Invoice 1007", body="Charged twice.")) == (
        "Invoice 1007\n\nCharged twice.",
        None,
    )
    assert columns.texts_of(row(subject=" ", body="b")) == ("b", None)
    assert columns.texts_of(row(subject="a", body=None)) == ("a", None)


def test_a_pair_needs_both_texts():
    columns = TextColumns(("a",), pair="b")
    assert columns.texts_of(row(a="x", b="y")) == ("x", "y")
    with pytest.raises(RowError, match="blank text in 'b'"):
        columns.texts_of(row(a="x", b=" "))
    with pytest.raises(RowError, match=r"blank text$"):
        columns.texts_of(row(a="", b="y"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no field 't'; found "), ({"u": 1}, "no field 't'; found 'u'"), ({"t": 5}, "'t' holds int 5, expected text"),
        ({"t": ["a"]}, "'t' holds list"), ({"t": None}, "blank text"), ({"t": " \n\u3000"}, "blank text"),
        ({"t": "\u200b \ufeff\u2060\xad"}, "blank text"), ({"t": True}, "holds bool"),
    ],
)  # fmt: skip
def test_what_is_no_text(fields, reason):
    with pytest.raises(RowError, match=reason):
        TextColumns(("t",)).texts_of(row(**fields))


@pytest.mark.parametrize(("cell", "weight"), [(2, 2.0), ("0.5", 0.5), (0, 0.0), (" 3 ", 3.0)])
def test_a_weight(cell, weight):
    assert TextColumns(("t",), weight="w").weight_of(row(w=cell)) == weight
    assert TextColumns(("t",)).weight_of(row(w=cell)) == 1.0


@pytest.mark.parametrize("cell", [None, "", "heavy", -1, "nan", "inf", float("nan"), [1]])
def test_what_is_no_weight(cell):
    with pytest.raises(RowError, match=r"the weight is .* expected a (finite )?number"):
        TextColumns(("t",), weight="w").weight_of(row(w=cell))


def test_columns_survive_their_saved_form():
    columns = TextColumns(("a", "b"), "c", "d", "e", ",")
    assert from_json(TextColumns, to_json(columns)) == columns


def test_lists_that_a_text_spells():
    assert label_names("['joy', 'anger']") == ("joy", "anger") == label_names('["joy", "anger"]')
    assert label_names("['joy' 'anger']") == ("joy", "anger") == label_names("['joy'\n 'anger']")
    assert label_names("[3 0]") == ("3", "0")
    assert label_names("[]") == ()
    assert label_names("[joy]") == ("[joy]",)


def test_labels_that_are_something_else():
    assert (
        are_tags_of_words(["O", "B-ORG"])
        and are_tags_of_words(["B-ORG O O", "O O"])
        and are_tags_of_words(["['O']", "['B-ORG','O']"])
    )
    assert not are_tags_of_words(["O", "A"]) and not are_tags_of_words(["B-grade film", "O"])
    assert are_scores(["0.25", "1.97", "3.50", "2.10", "0.5"]) and not are_scores(["1.5", "2.0", "1.0"])
    assert joined_labels(["joy", "anger", "joy,anger"]) == (",", "joy,anger")
    assert joined_labels(["Paris, France", "Rome, Italy", "France"]) is None
