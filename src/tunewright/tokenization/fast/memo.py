"""Pre-token -> ids, remembered: a hash table in NumPy that looks up a batch of byte strings at once.

    pieces   " the" " cat" " the"   ->   entries [1 2 1]   ->   ids [262 3797 262]

A piece of up to 16 bytes is its own key (two 64-bit words, compared exactly: a collision costs a probe, never a wrong id);
longer ones are keys of a dict. When the memo is full it is emptied; frequent pieces are back at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MOST_ENTRIES = 400_000
MOST_BYTES = 32 << 20
_KEY_BYTES = 16
PADDING = _KEY_BYTES
"""Zero bytes that must follow the text in its buffer, so that keys can be read at every position."""

_MASKS = np.array([(1 << 8 * size) - 1 for size in range(8)] + [2**64 - 1] * 9, dtype=np.uint64)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_HIGH = np.uint64(0xC2B2AE3D27D4EB4F)


class PieceMemo:
    """ids_of: some pieces -> (ids int32 of all of them, int64 how many each has). most_entries, most_bytes (of long pieces and ids): its limits."""

    def __init__(
        self,
        ids_of: Callable[[list[bytes]], tuple[np.ndarray, np.ndarray]],
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._ids_of, self._most_entries, self._most_bytes = ids_of, most_entries, most_bytes
        self._clear()

    def _clear(self) -> None:
        # Entry 0 is nobody: an empty slot leads to it, and no piece has its key.
        self.num_entries = 1
        self._low, self._high = np.zeros(1024, np.uint64), np.zeros(1024, np.uint64)
        self._begin, self._count = np.zeros(1024, np.int64), np.zeros(1024, np.int64)
        self._slots = np.zeros(4096, np.int32)
        self._long: dict[bytes, int] = {}
        self._pool = np.zeros(4096, np.int32)
        self._num_ids = self._num_long_bytes = 0

    def ids(self, data: bytes, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 of all pieces one after the other, int64 how many each piece has)."""
        if self.num_entries > self._most_entries or self._num_long_bytes + 4 * self._num_ids > self._most_bytes:
            self._clear()
        entries = self._entries(data, starts, sizes)
        counts = self._count[entries]
        ends = np.cumsum(counts)
        at = np.repeat(self._begin[entries] - ends + counts, counts)
        at += np.arange(len(at))
        return self._pool[at], counts

    def _entries(self, data: bytes, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        long = np.flatnonzero(sizes > _KEY_BYTES)
        low, high = _keys(data, starts, sizes)
        places = self._places(low, high)
        entries = self._slots[places]
        wrong = (self._low[entries] != low) | (self._high[entries] != high)
        wrong[long] = False
        missing = np.flatnonzero(wrong)
        if len(missing):
            entries[missing] = self._search(data, starts, sizes, low, high, places, missing)
        if len(long):
            entries[long] = self._long_entries(_slices(data, starts[long], sizes[long]))
        return entries

    def _places(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        shift = np.uint64(64 - (len(self._slots).bit_length() - 1))
        return (((low ^ high * _MIX_HIGH) * _MIX) >> shift).astype(np.int64)

    def _search(
        self, data: bytes, starts: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray, places: np.ndarray, missing: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """Entries of the pieces that are not where they should be: further along, or new."""
        found = np.zeros(len(missing), dtype=np.int32)
        active = np.arange(len(missing))
        at = places[missing]
        while len(active):
            entries = self._slots[at]
            of = missing[active]
            same = (self._low[entries] == low[of]) & (self._high[entries] == high[of]) & (entries > 0)
            found[active[same]] = entries[same]
            going = ~same & (entries > 0)
            active, at = active[going], (at[going] + 1) & (len(self._slots) - 1)
        new = np.flatnonzero(found == 0)
        if len(new):
            of = missing[new]
            order = np.argsort((low[of] ^ high[of] * _MIX_HIGH) * _MIX)  # equal pieces side by side
            first = np.ones(len(order), dtype=bool)
            first[1:] = (np.diff(low[of][order]) != 0) | (np.diff(high[of][order]) != 0)
            number = np.empty(len(order), dtype=np.int64)
            number[order] = np.cumsum(first) - 1
            chosen = of[order[first]]
            begin = self._learn(_slices(data, starts[chosen], sizes[chosen]))
            self._low[begin : self.num_entries], self._high[begin : self.num_entries] = low[chosen], high[chosen]
            self._insert(np.arange(begin, self.num_entries))
            found[new] = begin + number
        return found

    def _learn(self, pieces: list[bytes]) -> int:
        """Ask for the ids of new pieces; gives the first of their entries, which stand in a row."""
        flat, counts = self._ids_of(pieces)
        begin = self.num_entries
        self.num_entries += len(pieces)
        for name in ("_low", "_high", "_begin", "_count"):
            setattr(self, name, _grown(getattr(self, name), self.num_entries))
        self._pool = _grown(self._pool, self._num_ids + len(flat))
        self._pool[self._num_ids : self._num_ids + len(flat)] = flat
        self._count[begin : self.num_entries] = counts
        self._begin[begin : self.num_entries] = self._num_ids + np.cumsum(counts) - counts
        self._num_ids += len(flat)
        return begin

    def _long_entries(self, pieces: list[bytes]) -> list[int]:
        new = list(dict.fromkeys(piece for piece in pieces if piece not in self._long))
        if new:
            begin = self._learn(new)
            self._long.update(zip(new, range(begin, self.num_entries), strict=True))
            self._num_long_bytes += sum(map(len, new))
        return [self._long[piece] for piece in pieces]

    def _insert(self, entries: np.ndarray) -> None:
        """Give entries their slots. At most a quarter of the slots is taken, so that most pieces are at their place."""
        if 4 * self.num_entries > len(self._slots):
            self._slots = np.zeros(1 << (8 * self.num_entries - 1).bit_length(), np.int32)
            entries = np.arange(1, self.num_entries)
            entries = entries[self._low[entries] != 0]  # long pieces have no slot
        at = self._places(self._low[entries], self._high[entries])
        while len(entries):
            free = self._slots[at] == 0
            self._slots[at[free]] = entries[free]  # of several that want a slot the last one gets it
            rest = self._slots[at] != entries
            entries, at = entries[rest], (at[rest] + 1) & (len(self._slots) - 1)


def _keys(data: bytes, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first 16 bytes of each piece as two numbers; bytes behind its end count as 0."""
    at_any = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    low = at_any[starts] & _MASKS[np.minimum(sizes, 8)]
    high = np.zeros(len(low), dtype=np.uint64)
    wide = np.flatnonzero(sizes > 8)
    high[wide] = at_any[starts[wide] + 8] & _MASKS[np.minimum(sizes[wide] - 8, 8)]
    return low, high


def _slices(data: bytes, starts: np.ndarray, sizes: np.ndarray) -> list[bytes]:
    return [data[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    if size <= len(array):
        return array
    grown = np.zeros(1 << (size - 1).bit_length(), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
