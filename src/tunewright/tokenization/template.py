"""What a tokenizer's template puts around texts, read off once by probing, and how much of each text fits between.

bert:     [CLS] a [SEP]      [CLS] a [SEP] b [SEP]       type ids 0 … 0 1 … 1
roberta:  <s> a </s>         <s> a </s></s> b </s>       no type ids
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenization.ragged import RaggedIds

_LETTERS = "abcdeABCDE01"


@dataclass(frozen=True)
class Layout:
    """What stands around one text, or around and between two, with token type ids."""

    before: list[int]
    between: list[int] | None
    after: list[int]
    types: tuple[list[int], int, list[int], int, list[int]]
    """Type ids of: before, the first text, between, the second text, after."""

    @property
    def num_special(self) -> int:
        return len(self.before) + len(self.between or ()) + len(self.after)


def probe(tokenizer: Any, ids_of: TextOnly, *, pair: bool) -> Layout | None:
    """Read the template off the encoding of two short texts. None: the tokenizer just joins pairs in its own way."""
    texts = _known_texts(tokenizer, ids_of)[: 1 + pair]
    bodies = ids_of(texts)
    encoded = tokenizer(*texts, return_token_type_ids=True)
    full, types = list(encoded["input_ids"]), list(encoded.get("token_type_ids") or [0] * len(encoded["input_ids"]))
    for start in range(len(full) - len(bodies[0]) + 1):
        stop = start + len(bodies[0])
        if full[start:stop] != bodies[0]:
            continue
        if not pair:
            return Layout(full[:start], None, full[stop:], (types[:start], types[start], [], 0, types[stop:]))
        for second in range(stop, len(full) - len(bodies[1]) + 1):
            end = second + len(bodies[1])
            if full[second:end] == bodies[1]:
                kinds = (types[:start], types[start], types[stop:second], types[second], types[end:])
                return Layout(full[:start], full[stop:second], full[end:], kinds)
    return None


def _known_texts(tokenizer: Any, ids_of: TextOnly) -> list[str]:
    """Two short texts that the tokenizer has ids for: not all know `a` and `b` (DNA, digits). UserError where it knows none."""
    known = [text for text in _LETTERS if ids_of([text])[0]]
    if not known:
        pieces = (tokenizer.decode([number]) for number in range(len(tokenizer)))
        known = [text for text in pieces if text.strip() and ids_of([text])[0]]
    if not known:
        raise UserError("the tokenizer has no token for any text", hint="Choose another tokenizer.")
    return [known[0], known[min(1, len(known) - 1)]]


def kept_lengths(
    first: np.ndarray, second: np.ndarray, room: int, *, odd_to_first: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after `longest_first` truncation to `room` tokens, as the tokenizers library cuts. int64 `(rows,)` each.

    When both texts lose tokens and `room` is odd, the longer one keeps one more; `odd_to_first`: always the first one, which
    is how transformers' tokenizers written in Python cut.
    """
    half = room // 2
    one_fits = np.minimum(first, second) <= half
    more_to_first = (first > second) | odd_to_first
    kept = np.where(
        one_fits, np.where(first <= second, first, room - second), np.where(more_to_first, room - half, half)
    )
    over = first + second > room
    return np.where(over, kept, first), np.where(over, room - kept, second)


def assembled(
    layout: Layout,
    first: RaggedIds,
    second: RaggedIds,
    *,
    max_length: int,
    cut_left: bool,
    odd_to_first: bool,
    type_ids: bool,
) -> EncodedRows:
    """Texts cut to `max_length` with the template around them, one row each. second: empty texts where there are none."""
    num_first, num_second = first.lengths, second.lengths
    kept_first, kept_second = kept_lengths(
        num_first, num_second, max_length - layout.num_special, odd_to_first=odd_to_first
    )
    offsets = np.concatenate([[0], np.cumsum(layout.num_special + kept_first + kept_second)])
    ids = np.empty(offsets[-1], dtype=np.int32)
    types = np.empty(offsets[-1], dtype=np.int8) if type_ids else None
    at = offsets[:-1].copy()
    before, one, between, two, after = layout.types

    def put_tokens(tokens: list[int], kinds: list[int]) -> None:
        for token, kind in zip(tokens, kinds, strict=True):
            put(at, token, kind)
            np.add(at, 1, out=at)

    def put_texts(texts: RaggedIds, kind: int, kept: np.ndarray) -> None:
        put(*_moved(texts, kept, at, cut_left=cut_left), kind)
        np.add(at, kept, out=at)

    def put(places: np.ndarray, tokens: Any, kind: int) -> None:
        ids[places] = tokens
        if types is not None:
            types[places] = kind

    put_tokens(layout.before, before)
    put_texts(first, one, kept_first)
    put_tokens(layout.between or [], between)
    put_texts(second, two, kept_second)
    put_tokens(layout.after, after)
    num_rows = len(num_first)
    return EncodedRows(
        input_ids=ids,
        offsets=offsets,
        token_type_ids=types,
        num_cut=(num_first + num_second - kept_first - kept_second).astype(np.int32),
        num_supervised=np.zeros(num_rows, np.int32),
        example=np.arange(num_rows),
        part=np.zeros(num_rows, np.int32),
    )


def _moved(texts: RaggedIds, kept: np.ndarray, to: np.ndarray, *, cut_left: bool) -> tuple[np.ndarray, np.ndarray]:
    """(places in the rows, tokens) of the kept tokens: `kept[r]` from the beginning (or end) of text r go to `to[r]` on."""
    ends = np.cumsum(kept)
    within = np.arange(ends[-1] if len(ends) else 0)
    places = within + np.repeat(to - ends + kept, kept)
    if len(within) == len(texts.ids):
        return places, texts.ids
    begins = texts.offsets[1:] - kept if cut_left else texts.offsets[:-1]
    return places, texts.ids[within + np.repeat(begins - ends + kept, kept)]
