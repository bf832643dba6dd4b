"""Tags of words and spans of words: every scheme by hand, both ways, recognised, and its faults named."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import scheme as seqeval_schemes
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import Entities

from tunewright.annotations.spans import Span
from tunewright.annotations.tags import SCHEMES, detect_scheme, spans_of_tags, tags_of_spans
from tunewright.errors import RowError
from tunewright.metrics.tags import lenient_spans

# Ann Bo  Ulm     Rio de  Janeiro Rio            two people who touch, a place, a gap, two places that touch
SPANS = [Span(0, 1, "PER"), Span(1, 2, "PER"), Span(2, 3, "LOC"), Span(4, 7, "LOC"), Span(7, 8, "LOC")]
WRITTEN = {
    "IOB2": "B-PER B-PER B-LOC O B-LOC I-LOC I-LOC B-LOC",
    "IOB1": "I-PER B-PER I-LOC O I-LOC I-LOC I-LOC B-LOC",
    "IOE2": "E-PER E-PER E-LOC O I-LOC I-LOC E-LOC E-LOC",
    "IOE1": "E-PER I-PER I-LOC O I-LOC I-LOC E-LOC I-LOC",
    "BMEWO": "W-PER W-PER W-LOC O B-LOC M-LOC E-LOC W-LOC",
    "BIOES": "S-PER S-PER S-LOC O B-LOC I-LOC E-LOC S-LOC",
    "BILOU": "U-PER U-PER U-LOC O B-LOC I-LOC L-LOC U-LOC",
    "IO": "I-PER I-PER I-LOC O I-LOC I-LOC I-LOC I-LOC",
    "bare": "PER PER LOC O LOC LOC LOC LOC",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_hand_written_row_in_every_scheme(scheme):
    assert tags_of_spans(SPANS, 8, scheme) == WRITTEN[scheme].split()
    merged = [Span(0, 2, "PER"), Span(2, 3, "LOC"), Span(4, 8, "LOC")]  # what schemes without B- make of neighbours
    assert spans_of_tags(WRITTEN[scheme].split(), scheme) == (merged if scheme in ("IO", "bare") else SPANS)
    assert detect_scheme([WRITTEN[scheme].split()])[0] == scheme


@pytest.mark.parametrize(
    ("scheme", "tags", "reason"),
    [
        ("IOB2", "O I-LOC", "word 2: I-LOC after O, which IOB2 does not allow"),
        ("IOB2", "I-LOC", "word 1: I-LOC at the beginning, which IOB2 does not allow"),
        ("IOB2", "B-PER I-LOC", "word 2: I-LOC after B-PER, which IOB2 does not allow"),
        ("IOB1", "O E-LOC", "word 2: E-LOC after O, which IOB1 does not allow"),
        ("IOE2", "I-LOC B-LOC", "word 2: B-LOC after I-LOC, which IOE2 does not allow"),
        ("BIOES", "B-LOC O", "word 2: O after B-LOC, which BIOES does not allow"),
        ("BIOES", "O E-LOC", "word 2: E-LOC after O, which BIOES does not allow"),
        ("BIOES", "S-LOC I-LOC", "word 2: I-LOC after S-LOC, which BIOES does not allow"),
        ("BIOES", "O B-LOC", "word 2: the row ends after B-LOC, which BIOES does not allow"),
        ("IO", "S-LOC", "word 1: S-LOC at the beginning, which IO does not allow"),
        ("IOB2", "O LOC", "word 2: 'LOC' is not a tag of the scheme IOB2"),
    ],
)
def test_what_a_scheme_does_not_allow_is_named(scheme, tags, reason):
    with pytest.raises(RowError) as caught:
        spans_of_tags(tags.split(), scheme)
    assert caught.value.reason == reason


def test_an_empty_tag_is_no_tag():
    with pytest.raises(RowError, match="word 2: a tag is empty"):
        spans_of_tags(["B-LOC", ""], "IOB2")


def test_spellings():
    assert spans_of_tags(["B-LOC", "M-LOC", "E-LOC", "S_PER"], "BIOES") == [Span(0, 3, "LOC"), Span(3, 4, "PER")]
    assert spans_of_tags(["B-creative-work", "I-creative-work"], "IOB2") == [Span(0, 2, "creative-work")]
    assert spans_of_tags(["O", "B", "I"], "IOB2") == [Span(1, 3, "entity")]
    assert detect_scheme([["person-actor", "O", "building"]])[0] == "bare"


def test_the_few_do_not_outvote_the_many():
    one_wrong = [["B-LOC", "I-LOC"]] * 5 + [["O", "I-LOC"]]
    assert detect_scheme(one_wrong) == ("IOB2", "entities begin with B-")
    touching = [["I-LOC", "I-LOC"]] * 5 + [["I-LOC", "B-LOC"]]
    assert detect_scheme(touching)[0] == "IOB1"
    assert detect_scheme([["O", "O"], []]) == ("IOB2", "no entities found")


@st.composite
def span_rows(draw):
    """(spans that do not overlap, number of units)."""
    cuts = sorted(draw(st.sets(st.integers(0, 14), max_size=10)))
    pairs = [pair for pair in itertools.pairwise(cuts) if draw(st.booleans())]
    return [Span(*pair, draw(st.sampled_from(["PER", "LOC", "a-b"]))) for pair in pairs], 14


@given(span_rows(), st.sampled_from(["IOB2", "IOB1", "IOE2", "IOE1", "BIOES", "BILOU", "BMEWO"]))
def test_spans_survive_their_tags(row, scheme):
    spans, num_units = row
    tags = tags_of_spans(spans, num_units, scheme)
    assert spans_of_tags(tags, scheme) == spans
    assert len(tags) == num_units


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-MISC O", [Span(1, 2, "MISC")]),
        ("B-MISC I-MISC I-LOC", [Span(0, 2, "MISC"), Span(2, 3, "LOC")]),
        ("I-PER B-LOC I-LOC O", [Span(0, 1, "PER"), Span(1, 3, "LOC")]),
        ("I-PER B-PER B-PER I-PER", [Span(0, 1, "PER"), Span(1, 2, "PER"), Span(2, 4, "PER")]),
        ("B-PER O B-PER I-PER O I-LOC", [Span(0, 1, "PER"), Span(2, 4, "PER"), Span(5, 6, "LOC")]),
    ],
)
def test_iob1_with_a_b_where_none_is_needed_is_read_as_conlleval_reads_it(tags, spans):
    assert spans_of_tags(tags.split(), "IOB1") == spans == lenient_spans(tags.split())
    assert spans_of_tags(tags.split(), "IO") == spans


@given(st.lists(st.sampled_from(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]), max_size=8))
def test_iob1_is_what_seqeval_reads(tags):
    found = get_entities(tags)
    assert [(span.label, span.start, span.end - 1) for span in spans_of_tags(tags, "IOB1")] == found


@given(span_rows(), st.sampled_from(["IOB2", "IOB1", "IOE2", "IOE1", "BIOES", "BILOU"]))
def test_every_scheme_is_that_of_seqeval(row, scheme):
    spans, num_units = row
    tags = tags_of_spans(spans, num_units, scheme)
    if scheme == "IOE1":  # seqeval's strict reading knows no entity of E- alone
        assert get_entities(tags) == [(one.label, one.start, one.end - 1) for one in spans]
        return
    theirs = Entities([tags], {"BIOES": seqeval_schemes.IOBES}.get(scheme) or getattr(seqeval_schemes, scheme))
    assert [(one.start, one.end, one.tag) for one in theirs.entities[0]] == [
        (one.start, one.end, one.label) for one in spans
    ]


def test_iob1_with_few_stray_b_is_recognised_and_what_comes_late_is_read():
    assert detect_scheme([["I-PER", "O", "I-LOC"]] * 40 + [["O", "B-MISC", "O"]])[0] == "IOB1"
    assert detect_scheme([["I-PER", "O", "I-LOC"]] * 40)[0] == "IO"
    assert spans_of_tags(["O", "E-MISC", "I-MISC"], "IO") == [Span(1, 2, "MISC"), Span(2, 3, "MISC")]
