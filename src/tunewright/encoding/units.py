"""An aligned text -> its units (one label each), and its windows with the template's tokens around them.

    "unhappy Ann", [CLS] un ##happy ann [SEP]     units at tokens [1 3], characters [0 7), [8 11)

A unit is a word of the tokenizer, labelled on its first piece, or every piece. Array suffixes: T tokens, U units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunewright.annotations.windows import Window, windows_of
from tunewright.tokenization.offsets import Aligned

AUTO_WINDOW = 128
"""Models are tuned on sentences: in much wider windows they find fewer entities of a long text."""


@dataclass(frozen=True, slots=True)
class Units:
    """int32 `(units,)` each: the token that carries the label, and the characters `[start, end)` of the text."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def of_words(self, words_W2: np.ndarray) -> Units:
        """One unit for each of the given words that has a token: its first one, over all of the word's characters."""
        word_of_U = np.searchsorted(words_W2[:, 1], self.starts, side="right")
        words, first = np.unique(word_of_U, return_index=True)
        return Units(self.tokens[first], words_W2[words, 0], words_W2[words, 1])

    def within(self, low: int, high: int) -> Units:
        """Those whose tokens stand in `[low, high)`."""
        part = slice(*np.searchsorted(self.tokens, [low, high]))
        return Units(self.tokens[part], self.starts[part], self.ends[part])


def units_of(text: str, aligned: Aligned, *, every_piece: bool) -> Units:
    """The units of a text, without white space that the tokenizer includes in words, and without units of only white space."""
    body = np.flatnonzero(~aligned.special_mask)
    words_T = aligned.word_ids[body]
    begins_T = np.ones(len(body), bool)
    if not every_piece:
        begins_T[1:] = (words_T[1:] != words_T[:-1]) | (words_T[1:] < 0)
    first = np.flatnonzero(begins_T)
    last = np.append(first[1:], len(body))[: len(first)] - 1  # a text may have no token at all
    starts, ends = aligned.offsets_T2[body[first], 0].copy(), aligned.offsets_T2[body[last], 1].copy()
    for unit, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if start < end and (text[start].isspace() or text[end - 1].isspace()):
            inner = text[start:end]
            starts[unit], ends[unit] = start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())
    real = starts < ends
    return Units(body[first][real].astype(np.int32), starts[real], ends[real])


@dataclass(frozen=True, slots=True)
class Framed:
    """A window as a row of tokens. window: in tokens of the whole text, template included; shift: from those to the row's."""

    input_ids: np.ndarray
    window: Window
    shift: int

    def own(self, values_T: np.ndarray, *, fill: int) -> np.ndarray:
        """Values of the whole text's tokens on this row, `fill` on tokens that belong to another window."""
        row = np.full(len(self.input_ids), fill, dtype=values_T.dtype)
        first, last = self.window.first, self.window.last
        row[first + self.shift : last + self.shift] = values_T[first:last]
        return row


def framed_windows(
    aligned: Aligned, units: Units, max_length: int, *, window: int | str, overlap: int | str, cut: str | None = None
) -> list[Framed]:
    """A text that fits `max_length` as one row; else windows of `window` tokens, template included, between units.

    cut: right or left, to give one row of `max_length` tokens and drop the rest.
    """
    body = np.flatnonzero(~aligned.special_mask)
    before = int(body[0]) if len(body) else len(aligned)
    after = before + len(body)
    room = max_length - (len(aligned) - len(body))
    if len(body) > room and cut is None:
        room -= max(0, max_length - (AUTO_WINDOW if window == "auto" else int(window)))
        room = max(room, 1)
    shared = min(room // 4 if overlap == "auto" else int(overlap), room - 1)
    windows = windows_of(len(body), room, shared, units.tokens - before)
    if cut is not None and len(windows) > 1:
        low = 0 if cut == "right" else len(body) - room
        windows = [Window(low, low + room, low, low + room)]
    ids, rows = aligned.input_ids, []
    for one in windows:
        start, end = one.start + before, one.end + before
        row = np.concatenate([ids[:before], ids[start:end], ids[after:]])
        rows.append(Framed(row, Window(start, end, one.first + before, one.last + before), before - start))
    return rows
