"""Lists that tables hold as text: what JSON, Python and NumPy write is read back, and nothing else becomes a list."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.reading.stringified import stringified_list, stringified_value

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


@given(st.lists(values))
def test_what_python_and_json_print_is_read_back(value):
    assert stringified_value(str(value)) == value
    assert stringified_list(json.dumps(value)) == value


@given(st.lists(texts, min_size=1, max_size=20) | st.lists(st.integers(-9, 99), min_size=1))
def test_what_numpy_prints_is_read_back(items):
    assert stringified_list(str(np.array(items, dtype=object))) == items


def test_numpys_objects_on_one_line_and_on_several():
    turns = [{"role": "user", "content": "1 } { 2"}, {"role": "assistant", "content": "It's\n"}]
    assert stringified_list(str(np.array(turns, dtype=object))) == turns
    assert (
        stringified_list(str(np.array([one | {"more": "x" * 80} for one in turns], dtype=object)))[1]["content"]
        == "It's\n"
    )


@given(st.text() | st.text("[]{}()'\",: 019-e\\nxTrueNone\n"))
def test_any_text_is_a_list_or_none(text):
    assert isinstance(stringified_list(f"[{text}]"), list | None)


@pytest.mark.parametrize(
    "text",
    [
        "['a' 'b', 'c']", "[1, 'a' 'b']", "[01 02]", "['a\nb' 'c']", r"['\x' 'a']", "[0171 555]", "[Music]", "[1]x", "[b'a']", "['a'",
        "[" * 9999, "['a' 'b',]", "[1, 'a' 'b',]", "[1 2,]", "['it''s']", '["a""b"]', r"['\ud800']", r'["\ud800"]', r"['a\0' 'b']",
        "['\\中' 'a']",
    ],
)  # fmt: skip
def test_other_texts_are_no_lists(text):
    assert stringified_list(text) is None


def test_two_objects_are_no_value():
    with pytest.raises(ValueError, match="extra text after the value"):
        stringified_value("{'a': 1}\n{'b': 2}")
