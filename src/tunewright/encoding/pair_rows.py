"""Compared answers -> store rows with both sides, one after the other, and the positions of the answers' tokens.

    ids      [1 872 198 6023 | 9707 2]  [1 872 198 6023 | 3838 13 2]      second 6      learned (4, 6, 10, 13)
              prompt          chosen      prompt           rejected

Each side is rendered and tokenized as in supervised fine-tuning (`encoding/dialogue_rows.py`). Rows that are too long lose turns and tokens
of the prompt as there, the same on both sides, so that both still answer the same question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tunewright.chat.preferences import Comparison
from tunewright.encoding.dialogue_rows import ChatRow, DialogueEncoder

_NO_LIMIT = 1 << 40


@dataclass(frozen=True)
class SidedRow:
    """ids: int32 `(length,)`, of both sides. second: where the second side begins; `length` where there is one side.

    learned: [begin, end, begin, end, …] of the answers' tokens, counted over the whole row. num_cut: over both sides. notes: see `Rendered`.
    """

    ids: np.ndarray
    second: int
    learned: list[int]
    num_cut: int
    notes: tuple[str, ...] = ()

    @property
    def num_supervised(self) -> int:
        return sum(
            end - max(begin, start + 1)
            for start, stop in ((0, self.second), (self.second, len(self.ids)))
            for begin, end in zip(self.learned[::2], self.learned[1::2], strict=True)
            if start <= begin < stop
        )


def sided_rows(chats: DialogueEncoder, found: Sequence[Comparison], *, max_length: int) -> list[SidedRow | str]:
    """A row for each comparison, or the reason why there is none. max_length: tokens of the longer side."""
    whole = replace(chats, max_length=_NO_LIMIT)
    sides = iter(whole.for_training([side for one in found for side in one.sides]))
    return [_row(whole, one, [next(sides) for _ in one.sides], max_length, cuts=chats.cuts_prompts) for one in found]


def _row(
    chats: DialogueEncoder, of: Comparison, sides: list[ChatRow | str], max_length: int, *, cuts: bool
) -> SidedRow | str:
    rows = []
    for name, side in zip(("chosen", "rejected"), sides, strict=False):
        if isinstance(side, str):
            return f"{name}: {side}" if len(sides) > 1 else side
        rows.append(side)
    if len(rows) > 1 and np.array_equal(rows[0].ids, rows[1].ids):
        return "chosen and rejected are equal as the model reads them: the template leaves out their difference"
    longest = max(len(row.ids) for row in rows)
    if longest > max_length:
        shorter = chats.shortened(of.sides, [len(row.ids) for row in rows], max_length) if cuts else None
        if shorter is None:
            return f"too long: {longest:,} tokens, data.max_length is {max_length:,}, and an answer would be cut"
        rows = shorter
    second = len(rows[0].ids)
    learned = [
        place + start for row, start in zip(rows, (0, second), strict=False) for span in row.learned for place in span
    ]
    notes = tuple(dict.fromkeys(fact for row in rows for fact in row.notes))
    return SidedRow(np.concatenate([row.ids for row in rows]), second, learned, sum(row.num_cut for row in rows), notes)


def sides_of(ids: np.ndarray, second: int, learned: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(ids, bool: part of an answer) of each side of a stored row; the first token of a side is never predicted."""
    inside = np.zeros(len(ids), dtype=bool)
    for begin, end in zip(learned[::2], learned[1::2], strict=True):
        inside[int(begin) : int(end)] = True
    inside[0] = False
    if second < len(ids):
        inside[second] = False
        yield ids[:second], inside[:second]
        ids, inside = ids[second:], inside[second:]
    yield ids, inside


def mismatched(
    prompt_of: tuple[np.ndarray, np.ndarray], answer_of: tuple[np.ndarray, np.ndarray], *, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """One row's prompt with another's answer, as `sides_of` gives them; cut at the start of the prompt where it is too long."""
    (prompt, begins), (answer, learned) = prompt_of, answer_of
    first, begin = int(np.argmax(begins)), int(np.argmax(learned))
    ids = np.concatenate([prompt[:first], answer[begin:]])
    inside = np.concatenate([np.zeros(first, dtype=bool), learned[begin:]])
    ids, inside = ids[-max_length:], inside[-max_length:].copy()
    inside[0] = False
    return ids, inside
