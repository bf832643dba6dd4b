"""Tags of units <-> spans of units, in the schemes people use: recognised, checked, converted.

    spans_of_tags(["I-PER", "I-PER", "B-PER"], "IOB1")     [Span(0, 2, "PER"), Span(2, 3, "PER")]
    tags_of_spans([Span(0, 2, "PER")], 3, "BIOES")         ["B-PER", "E-PER", "O"]

IOB2 (BIO): every entity begins with B-. IOB1: with I-, and with B- where it follows one of its own type (Ramshaw and Marcus 1995);
a B- elsewhere begins one too, as conlleval and seqeval read it. IOE1 and IOE2 are the same with E- at the ends.
BIOES: E- ends an entity and S- is one by itself; BILOU says L- and U-, BMES says M- for I-, BMEWO M- and W-. IO: I- alone. bare: `PER` alone.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tunewright.annotations.spans import Span
from tunewright.errors import RowError

SCHEMES = ("IOB2", "IOB1", "IOE2", "IOE1", "BIOES", "BILOU", "BMEWO", "IO", "bare")
OUTSIDE = "O"
UNNAMED = "entity"
"""The type of a tag that is a prefix alone (`B`)."""
_TAG = re.compile(r"([BIESLUMW])(?:[-_](.+))?")
_TYPE_FIRST = re.compile(r"(.+)[-_]([BIESLUMW])")
_SAME_PREFIX = {"L": "E", "U": "S", "W": "S", "M": "I"}
_SCHEME_PREFIXES = {"BILOU": {"E": "L", "S": "U"}, "BMEWO": {"I": "M", "S": "W"}}
_WITH_BOTH_ENDS = ("BIOES", "BILOU", "BMEWO")
_UNSPLIT = ("O", "")


def split_tag(tag: str, scheme: str) -> tuple[str, str]:
    """`B-PER` -> ("B", "PER"); prefixes as in BIOES, ("O", "") outside. RowError for a string that is not a tag."""
    if tag in (OUTSIDE, ""):
        if tag:
            return _UNSPLIT
        raise RowError("a tag is empty")
    if scheme == "bare":
        return "I", tag
    match = _TAG.fullmatch(tag)
    if match is None:
        raise RowError(f"{tag!r} is not a tag of the scheme {scheme}")
    return _SAME_PREFIX.get(match[1], match[1]), match[2] or UNNAMED


def continues(before: str, prefix: str, same_type: bool) -> bool:
    """Whether a unit continues the entity of the previous unit. The same in every scheme."""
    return same_type and before in "BI" and prefix in "IE"


def may_follow(scheme: str, before: str, prefix: str, same_type: bool) -> bool:
    """Whether `prefix` may follow `before` (before the first unit: O; after the last: `prefix` O)."""
    if prefix not in _PREFIXES[scheme]:
        return False
    if scheme == "IOB2":
        return prefix != "I" or continues(before, prefix, same_type)
    if scheme in _WITH_BOTH_ENDS:
        return continues(before, prefix, same_type) if before in "BI" else prefix not in "IE"
    return True


_PREFIXES = {
    "IOB2": "BIO", "IOB1": "BIO", "IOE2": "IOE", "IOE1": "IOE", "BIOES": "BIESO", "BILOU": "BIESO", "BMEWO": "BIESO",
    "IO": "BIEO", "bare": "IO",
}  # fmt: skip
"""Written as in BIOES. IO may be IOB1 or IOE1 data without adjacent entities of one type."""


def spans_of_tags(tags: Sequence[str], scheme: str) -> list[Span]:
    """The entities of a legal sequence. RowError naming the first illegal unit, counted from 1."""
    spans: list[Span] = []
    if tags.count(OUTSIDE) == len(tags):  # most rows
        return spans
    before, kind, start = "O", "", 0
    for place, tag in enumerate(tags):
        try:
            prefix, label = split_tag(tag, scheme)
        except RowError as error:
            raise RowError(f"word {place + 1}: {error.reason}") from None
        if not may_follow(scheme, before, prefix, label == kind):
            raise RowError(f"word {place + 1}: {_illegal(tags, place, scheme)}")
        if not continues(before, prefix, label == kind):
            if before not in "OES":
                spans.append(Span(start, place, kind))
            start = place
        if prefix in "ES":
            spans.append(Span(start, place + 1, label))
        before, kind = prefix, label
    if before not in "OES":
        if not may_follow(scheme, before, "O", False):
            raise RowError(f"word {len(tags)}: the row ends after {tags[-1]}, which {scheme} does not allow")
        spans.append(Span(start, len(tags), kind))
    return spans


def _illegal(tags: Sequence[str], place: int, scheme: str) -> str:
    before = f"after {tags[place - 1]}" if place else "at the beginning"
    return f"{tags[place]} {before}, which {scheme} does not allow"


def tags_of_spans(spans: Iterable[Span], num_units: int, scheme: str = "IOB2") -> list[str]:
    """Tags of spans that do not overlap. IO and bare cannot separate adjacent spans of one type."""
    tags = [OUTSIDE] * num_units
    before = None
    for span in sorted(spans):
        touches = before is not None and before.end == span.start and before.label == span.label
        if touches and scheme == "IOE1":
            tags[span.start - 1] = f"E-{span.label}"
        for place, prefix in enumerate(_prefixes(span.end - span.start, scheme, touches), start=span.start):
            tags[place] = span.label if scheme == "bare" else f"{prefix}-{span.label}"
        before = span
    return tags


def _prefixes(length: int, scheme: str, touches: bool) -> Iterator[str]:
    prefix_names = _SCHEME_PREFIXES.get(scheme, {})
    for place in range(length):
        last = place == length - 1
        if scheme in _WITH_BOTH_ENDS:
            prefix = ("S" if last else "B") if place == 0 else ("E" if last else "I")
            yield prefix_names.get(prefix, prefix)
        elif place == 0 and (scheme == "IOB2" or (scheme == "IOB1" and touches)):
            yield "B"
        else:
            yield "E" if last and scheme == "IOE2" else "I"


def detect_scheme(sequences: Iterable[Sequence[str]]) -> tuple[str, str]:
    """(scheme, reason): the scheme that the fewest units contradict; IOB2 where all tags are O."""
    prefixes, kinds = Counter[str](), Counter[str]()
    open_ends = 0
    for tags in sequences:
        split = [_prefix_and_type(tag) for tag in tags if tag]
        prefixes.update(prefix for prefix, _ in split)
        for (before, kind), (prefix, label) in itertools.pairwise([("O", ""), *split, ("O", "")]):
            open_ends += before == "I" and label != kind
            inside = before in "BI" and label == kind
            kinds[prefix] += not inside if prefix in "BI" else 0
    if prefixes["?"] > sum(prefixes[prefix] for prefix in "BIESLUMW"):
        return "bare", "tags without prefixes"
    if prefixes["E"] and not any(prefixes[prefix] for prefix in "BSLUMW"):
        return ("IOE2", "entities end with E-") if not open_ends else ("IOE1", "E- between entities that touch")
    if any(prefixes[prefix] for prefix in "ESLUMW"):
        if prefixes["M"] and prefixes["W"] > prefixes["S"]:
            return "BMEWO", "M- and W- among its tags"
        if prefixes["L"] + prefixes["U"] > prefixes["E"] + prefixes["S"]:
            return "BILOU", "L- and U- among its tags"
        return "BIOES", "E- and S- among its tags"
    if prefixes["I"] and not prefixes["B"]:
        return "IO", "I- alone"
    if kinds["I"] > kinds["B"]:
        return "IOB1", "entities that begin with I-"
    return "IOB2", "entities begin with B-" if prefixes["B"] else "no entities found"


def are_types_first(sequences: Iterable[Sequence[str]]) -> bool:
    """Whether tags name the type before the prefix: `PER-B`, `PER-I`.

    Needs two prefixes or two types: a lone `HEPATITIS-B` is a type of that name. Types of one letter (`B-I`) are read as usual.
    """
    tags = {tag for sequence in sequences for tag in sequence} - {OUTSIDE, ""}
    parts = [match.groups() for tag in tags if (match := _TYPE_FIRST.fullmatch(tag))]
    if not tags or len(parts) < len(tags) or all(map(_TAG.fullmatch, tags)):
        return False
    types, prefixes = zip(*parts, strict=True)
    return len(set(types)) > 1 or len(set(prefixes)) > 1


def prefix_first(tag: str) -> str:
    """`PER-B` -> `B-PER`; any other tag as it is."""
    match = _TYPE_FIRST.fullmatch(tag)
    return f"{match[2]}-{match[1]}" if match else tag


def _prefix_and_type(tag: str) -> tuple[str, str]:
    """As written; ("?", tag) for a tag without a prefix."""
    if tag == OUTSIDE:
        return _UNSPLIT
    match = _TAG.fullmatch(tag)
    return ("?", tag) if match is None else (match[1], match[2] or UNNAMED)
