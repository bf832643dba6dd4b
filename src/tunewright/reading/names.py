"""Common column names for texts, pairs and labels: `sniff.py` recognizes headers by them, `detect.py` roles.

    tier(TEXT_TIERS, "Review Text")     1: as good as `review`, second to `text`

Names are compared in lower case with `_` for spaces and hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def one_of(*lines: str) -> frozenset[str]:
    """The words of these lines."""
    return frozenset(word for line in lines for word in line.split())


SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "eval", "trial"),
    "test": ("test", "testing"),
}
"""Names of files and folders of each split, the most common first."""
TEXT_TIERS: tuple[frozenset[str], ...] = (
    one_of("text"),
    one_of(
        "review review_text reviewtext review_body sentence content body message comment comment_text tweet tweet_text",
        "question utterance utt document query sms email post article abstract passage input texts",
    ),
    one_of("description summary statement phrase paragraph prompt"),
    one_of("title headline subject review_title"),
)
LABEL_TIERS: tuple[frozenset[str], ...] = (
    one_of("label labels gold_label"),
    one_of(
        "sentiment category categories class classes class_index intent emotion emotions target topic topics tag tags",
        "airline_sentiment is_duplicate toxic spam",
    ),
    one_of("stars star_rating rating score review_score review_rating overall polarity"),
    one_of("label_text label_name labels_text label_names label_id y"),
)
PAIRS: tuple[tuple[str, str], ...] = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("premise", "hypo"),
    ("context", "hypothesis"),
    ("#1_string", "#2_string"),
    ("question1", "question2"),
    ("question_1", "question_2"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("question", "passage"),
    ("question", "sentence"),
    ("question", "context"),
    ("query", "document"),
    ("query", "passage"),
    ("claim", "evidence"),
)
BINARY: Mapping[str, bool] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y", "on"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n", "off"), False),
}
"""Lower-case values of a column that says whether a label applies."""
NEVER = one_of("id idx index uuid guid key row row_id sample_id text_id review_id tweet_id user_id date time")
"""Columns that are neither text nor label, whatever they hold."""

KNOWN = NEVER.union(*TEXT_TIERS, *LABEL_TIERS, *PAIRS) | one_of(
    "instruction answer output completion response chosen rejected messages conversations name source author user lang",
    "language url split tokens ner_tags",
)
"""Any name that makes the first row of a table a header."""


def normalize_name(name: str) -> str:
    """`Review Text` -> `review_text`."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def tier(tiers: Sequence[frozenset[str]], name: str) -> int | None:
    """Index of the tier that has the name, 0 the best; None without one."""
    return next((place for place, names in enumerate(tiers) if normalize_name(name) in names), None)
