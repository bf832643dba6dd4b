"""Texts with entities -> rows (or windows) of tokens and tags: what NER trains on and decodes with.

    Annotated("Ann lives in Ulm", (Span(0, 3, "PER"), …))   ->   input_ids 101 5754 3268 1999 17359 2213 102
                                                                 labels   -100    1    0    0     3 -100 -100
Columns of a row (`TAG_COLUMNS`), int32 lists: labels (a tag per token, -100 without), units (tokens that decide, of this window
alone), unit_starts and unit_ends (their characters), and in a text's first window gold_starts, gold_ends, gold_types (the
entities as annotated) and changes (how many entities were trimmed, dropped, moved, lost, windows apart).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tunewright.annotations.entities import Annotated
from tunewright.annotations.spans import Laid, lay_on_units
from tunewright.batching.store import SplitStore
from tunewright.encoding.units import Framed, Units, framed_windows, units_of
from tunewright.records import IGNORED, Encoded
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder
from tunewright.tokenization.offsets import Aligned

TAG_COLUMNS = (
    "labels", "units", "unit_starts", "unit_ends", "gold_starts", "gold_ends", "gold_types", "changes",
)  # fmt: skip
CHANGES = ("utf16", "trimmed", "dropped", "moved", "lost", "cut")
"""What the numbers in the column `changes` count, in this order."""


@dataclass(frozen=True)
class TaggedTexts:
    """Encodes annotated texts. tags: O, B-x, I-x, B-y, …; the rest as in the config."""

    encoder: TextEncoder
    tags: tuple[str, ...]
    every_piece: bool
    align: str
    window: int | str
    overlap: int | str
    truncate: bool

    @cached_property
    def _begin(self) -> dict[str, int]:
        """Type -> the number of its B- tag; I- is the next."""
        return {tag[2:]: number for number, tag in enumerate(self.tags) if tag.startswith("B-")}

    def encode(self, texts: Sequence[Annotated]) -> EncodedRows:
        rows: list[Encoded] = []
        columns: dict[str, list[np.ndarray]] = {name: [] for name in TAG_COLUMNS}
        examples: list[int] = []
        for number, (text, aligned) in enumerate(
            zip(texts, self.encoder.encode_with_offsets([text.text for text in texts]), strict=True)
        ):
            for row, values in self._rows(text, aligned):
                rows.append(row)
                examples.append(number)
                for name in TAG_COLUMNS:
                    columns[name].append(values[name])
        supervised = [int((labels != IGNORED).sum()) for labels in columns["labels"]]
        return EncodedRows.of(rows, example=examples, num_supervised=supervised, values=columns)

    def _rows(self, text: Annotated, aligned: Aligned) -> list[tuple[Encoded, dict[str, np.ndarray]]]:
        units = units_of(text.text, aligned, every_piece=self.every_piece)
        # a given word is one word, whatever characters it has
        deciding = units if text.words_W2 is None else units.of_words(text.words_W2)
        laid = lay_on_units(text.spans or (), units.starts, units.ends, how=self.align)
        labels_T = self._labels(text, units, laid, len(aligned))
        if text.words_W2 is not None and not self.every_piece:
            labels_T = _at(labels_T, deciding.tokens)
        cut = self.encoder.truncation_side if self.truncate else None
        windows = framed_windows(
            aligned, units, self.encoder.max_length, window=self.window, overlap=self.overlap, cut=cut
        )
        num_cut = int((~aligned.special_mask).sum()) - sum(one.window.last - one.window.first for one in windows)
        rows = []
        for number, one in enumerate(windows):
            first = number == 0
            values = {"labels": one.own(labels_T, fill=IGNORED), **_unit_columns(deciding, one)}
            values |= self._gold_columns(text, laid, _num_cut_off(laid, units, windows)) if first else _NO_GOLD
            types = self.encoder.single_type_ids(len(one.input_ids))
            rows.append((Encoded(one.input_ids, types, num_cut if first else 0), values))
        return rows

    def _labels(self, text: Annotated, units: Units, laid: Laid, length: int) -> np.ndarray:
        """int32 `(tokens,)`. Words of an entity that has no units of its own are ignored, since they are not outside."""
        labels_T = np.full(length, IGNORED, dtype=np.int32)
        if text.spans is None:
            return labels_T
        tags_U = np.zeros(len(units), dtype=np.int32)
        for span in laid.spans:
            tags_U[span.start : span.end] = self._begin[span.label] + 1
            tags_U[span.start] -= 1
        for lost in laid.lost:
            for span in lay_on_units([lost], units.starts, units.ends).spans:
                part = tags_U[span.start : span.end]
                part[part == 0] = IGNORED
        labels_T[units.tokens] = tags_U
        return labels_T

    def _gold_columns(self, text: Annotated, laid: Laid, num_cut_off: int) -> dict[str, np.ndarray]:
        spans = text.spans or ()
        counts = {
            **{name: text.changes.count(name) for name in CHANGES},
            "moved": len(laid.moved),
            "lost": len(laid.lost),
        }
        return {
            "gold_starts": np.array([span.start for span in spans], dtype=np.int32),
            "gold_ends": np.array([span.end for span in spans], dtype=np.int32),
            "gold_types": np.array([self._begin[span.label] // 2 for span in spans], dtype=np.int32),
            "changes": np.array([*list(counts.values())[:-1], num_cut_off], dtype=np.int32),
        }


def _at(labels_T: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The labels of these tokens, the others ignored."""
    kept_T = np.full_like(labels_T, IGNORED)
    kept_T[tokens] = labels_T[tokens]
    return kept_T


_NOTHING = np.zeros(0, dtype=np.int32)
_NO_GOLD = dict.fromkeys(("gold_starts", "gold_ends", "gold_types", "changes"), _NOTHING)


def _unit_columns(units: Units, row: Framed) -> dict[str, np.ndarray]:
    own = units.within(row.window.first, row.window.last)
    return {
        "units": (own.tokens + row.shift).astype(np.int32),
        "unit_starts": own.starts.astype(np.int32),
        "unit_ends": own.ends.astype(np.int32),
    }


def _num_cut_off(laid: Laid, units: Units, windows: Sequence[Framed]) -> int:
    """Entities with a token that truncation removed."""
    first, last = windows[0].window.first, windows[-1].window.last
    return sum(units.tokens[span.start] < first or units.tokens[span.end - 1] >= last for span in laid.spans)


def texts_of(split: SplitStore) -> list[range]:
    """The rows of each text, in order: its windows."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(split.row_ids) != 0])) if len(split) else np.zeros(0, int)
    return [range(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(split)], strict=True)]


def data_warnings(splits: Sequence[SplitStore]) -> list[str]:
    """A sentence for each kind of change that annotated entities underwent between file and store."""
    counts, num_entities, num_long, num_windows = np.zeros(len(CHANGES), dtype=np.int64), 0, 0, 0
    for split in splits:
        texts = texts_of(split)
        first = [rows.start for rows in texts]
        counts += np.sum(split.lists("changes", first), axis=0, dtype=np.int64) if first else 0
        num_entities += sum(map(len, split.lists("gold_starts", first)))
        num_long += sum(len(rows) > 1 for rows in texts)
        num_windows += sum(len(rows) for rows in texts if len(rows) > 1)
    warnings = [
        f"{count:,} of {num_entities:,} entities {_REASON[name]}"
        for name, count in zip(CHANGES, counts.tolist(), strict=True)
        if count and name != "utf16"
    ]
    if counts[0]:
        warnings.insert(0, f"the offsets of {counts[0]:,} rows were counted in UTF-16 units and have been converted")
    if num_long:
        warnings.append(f"{num_long:,} long texts were split into {num_windows:,} overlapping windows")
    return warnings


_REASON = {
    "trimmed": "were trimmed of white space or removed as duplicates",
    "dropped": "overlapped a longer one and were removed (task.overlaps)",
    "moved": "began or ended inside a word of the tokenizer and were extended to it (task.align); task.label_pieces=all labels finer pieces",
    "lost": "share their words of the tokenizer with others: not learned, and counted as missed; task.label_pieces=all labels finer pieces",
    "cut": "were cut off by truncation (task.long_texts=windows keeps them)",
}
