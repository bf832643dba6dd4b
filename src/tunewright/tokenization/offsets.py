"""Token ids with their offsets in the text: what tagging words and finding spans is built on.

encoder.encode_with_offsets(["New York!"])[0]
input_ids   [101, 2047, 2259, 999, 102]
offsets_T2  [[0 0] [0 3] [4 8] [8 9] [0 0]]     characters of the text, end exclusive
word_ids    [-1 0 1 2 -1]                       which pre-token (or which of the given words); -1 on control tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.tokenization.template import Layout


@dataclass(frozen=True, slots=True)
class Aligned:
    """One text, whole (nothing is cut), its template's tokens in place. T tokens.

    input_ids: int32 (T,). offsets_T2: int32 (T, 2), start and end in Python characters of the text (of the word, where words
    were given), as the reference tokenizer says them: byte-level ones may count the blank before a word, and several
    tokens of one character share its offsets. (0, 0) on control tokens. word_ids: int32 (T,), -1 on control tokens.
    special_mask: bool (T,), True on the template's tokens.
    """

    input_ids: np.ndarray
    offsets_T2: np.ndarray
    word_ids: np.ndarray
    special_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


def framed(encoding: Any, layout: Layout) -> Aligned:
    """An encoding without special tokens -> the aligned text with the template around it."""
    before, after = len(layout.before), len(layout.after)
    body = slice(before, before + len(encoding))
    length = before + len(encoding) + after
    offsets = np.zeros((length, 2), dtype=np.int32)
    words = np.full(length, -1, dtype=np.int32)
    special = np.ones(length, dtype=bool)
    if len(encoding):
        offsets[body] = encoding.offsets
        words[body] = [-1 if word is None else word for word in encoding.word_ids]
        special[body] = False
    ids = np.array([*layout.before, *encoding.ids, *layout.after], dtype=np.int32)
    return Aligned(ids, offsets, words, special)
