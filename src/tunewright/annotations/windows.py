"""A text longer than the model -> overlapping windows; each unit belongs to exactly one of them.

    10 units, room for 6 tokens, overlap 4      [0 1 2 3|4 5]
                                                     [2 3|4 5 6 7]      each unit is labelled, and scored, where it has
                                                         [4 5|6 7 8 9]  the most context: between the bars

Training supervises a unit in its own window only, prediction takes its score from there: what is trained is what is used, no
entity is cut by an edge, and none is found twice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `[start, end)` of a text, of which `[first, last)` belong to this window."""

    start: int
    end: int
    first: int
    last: int


def windows_of(num_tokens: int, room: int, overlap: int, cuts: np.ndarray) -> list[Window]:
    """Windows of at most `room` tokens over a text of `num_tokens`, neighbours sharing about `overlap` of them.

    cuts: sorted token positions where a window may begin, end or hand over (the first tokens of words); a word longer than
    `room` is split. Every token of the text belongs to exactly one window.
    """
    assert 0 <= overlap < room
    if num_tokens <= room:
        return [Window(0, num_tokens, 0, num_tokens)]
    bounds = [(0, _last_cut(cuts, 1, room))]
    while bounds[-1][1] < num_tokens:
        before, end = bounds[-1]
        lowest = max(before + 1, end - (overlap + room) // 2)  # so that every window goes on
        start = _last_cut(cuts, lowest, max(end - overlap, lowest))
        end_after = min(start + room, num_tokens)
        bounds.append((start, end_after if end_after == num_tokens else _last_cut(cuts, end + 1, end_after)))
    edges = [0]
    for (_, end), (start, _) in itertools.pairwise(bounds):
        edges.append(_last_cut(cuts, max(start, edges[-1]), (start + end + 1) // 2))
    edges.append(num_tokens)
    return [Window(*bound, first, last) for bound, first, last in zip(bounds, edges[:-1], edges[1:], strict=True)]


def _last_cut(cuts: np.ndarray, low: int, high: int) -> int:
    """The last allowed position in `[low, high]`; `high` where there is none."""
    place = int(np.searchsorted(cuts, high, side="right")) - 1
    return int(cuts[place]) if place >= 0 and cuts[place] >= low else high
