"""Tags as a model writes them, legal or not -> spans, read as seqeval and conlleval read them.

    ["O", "I-PER", "I-PER"]      lenient: [Span(1, 3, "PER")]      strict IOB2: []

Lenient (seqeval's default, the CoNLL-2000 script): whatever can be an entity is one. Strict: only what the scheme allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunewright.annotations.spans import Span

_UNNAMED = "_"


def lenient_spans(tags: Sequence[str]) -> list[Span]:
    """Prefixes B I E S say where entities begin and end; a change of type does so too, whatever the prefixes."""
    spans: list[Span] = []
    before, kind, start = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, label = tag[:1], tag[1:].partition("-")[2] or tag[1:] or _UNNAMED
        if prefix == "O":
            label = ""
        changed = label != kind
        if before != "O" and (before in "ES" or (before in "BI" and prefix in "BSO") or changed):
            spans.append(Span(start, place, kind))
        if prefix != "O" and (prefix in "BS" or (before in "ESO" and prefix in "EI") or changed):
            start = place
        before, kind = prefix, label
    return spans


def strict_spans(tags: Sequence[str], scheme: str) -> list[Span]:
    """Only entities that begin, go on and end as the scheme says. ValueError for a prefix that it does not have."""
    prefixes, begins, goes_on, ends = _RULES[scheme]
    split = [(tag[:1], tag[1:].strip("-") or _UNNAMED) for tag in [*tags, "O"]]
    wrong = next((tags[place] for place, (prefix, _) in enumerate(split) if prefix not in prefixes), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no tag of {scheme}")
    spans, place, before = [], 0, ("O", _UNNAMED)
    while place < len(split):
        first = split[place]
        if first[0] == "O" or not begins(before[0], first[0], before[1] == first[1]):
            before, place = first, place + 1
            continue
        end = place + 1
        while goes_on(split[end - 1][0], split[end][0], split[end - 1][1] == split[end][1]):
            end += 1
        if ends(split[end - 1][0], split[end][0], split[end - 1][1] == split[end][1]):
            spans.append(Span(place, end, first[1]))
        before, place = split[end - 1], end
    return spans


Rule = Callable[[str, str, bool], bool]
"""(prefix before, prefix, same type) -> does the entity begin here, go on, or end before this unit?"""


def _iob1_begins(before: str, prefix: str, same: bool) -> bool:
    return (before in "BI" and same) if prefix == "B" else before in "BO" or not same


def _goes_on(inner: str) -> Rule:
    return lambda before, prefix, same: same and before in "BI" and prefix in inner


_ALWAYS: Rule = lambda before, prefix, same: True  # noqa: E731
_RULES: dict[str, tuple[str, Rule, Rule, Rule]] = {
    "IOB2": ("BIO", lambda _, prefix, same: prefix == "B", _goes_on("I"), _ALWAYS),
    "IOB1": ("BIO", _iob1_begins, _goes_on("I"), lambda before, prefix, same: before == "I" or prefix != "B" or same),
    "BIOES": ("BIOES", lambda _, prefix, same: prefix in "BS", _goes_on("IE"), lambda before, *_: before in "ES"),
    "BILOU": ("BILOU", lambda _, prefix, same: prefix in "BU", _goes_on("IL"), lambda before, *_: before in "LU"),
}
