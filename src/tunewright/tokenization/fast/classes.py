"""Bytes -> what each is to the pre-tokenizer: letter, digit, blank …, asked of the reference tokenizer once per character.

    b"caf\\xc3\\xa9 3!"  ->  L L L L L S N O        both bytes of é carry its class

A character that is not in a range known to be plain (no combining, no joining, no reordering) is UNSAFE, and so is one that the
reference treats in a way the splitting rules do not describe. Rows with such a character are encoded the plain way.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np

END, LETTER, NUMBER, OTHER, BLANK, NEWLINE, UNSAFE, _UNSEEN, _LEAD, _TAIL = range(10)
"""END stands between rows: byte 0, which no row may contain."""

_PLAIN_RANGES = (
    (0x01, 0x2FF), (0x370, 0x482), (0x48A, 0x58F), (0x5D0, 0x5F4), (0x620, 0x64A), (0x660, 0x66F),
    (0x671, 0x6D5), (0x1E00, 0x1FFF), (0x2000, 0x200B), (0x2010, 0x2029), (0x202F, 0x205F), (0x20A0, 0x20C0), (0x2100, 0x2BFF),
    (0x3000, 0x3029), (0x3030, 0x303D), (0x3041, 0x3096), (0x309B, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xFF01, 0xFF9D), (0x1F300, 0x1F3FA), (0x1F400, 0x1FAFF), (0x20000, 0x2A6DF),
)  # fmt: skip
_COMBINING = frozenset(("Mn", "Mc", "Me", "Cn"))  # Cn: not assigned yet, may become anything


class CharClasses:
    """The class of every character met so far. probe: character -> LETTER … NEWLINE or UNSAFE, asking the reference."""

    def __init__(self, probe: Callable[[str], int]) -> None:
        self._probe = probe
        self._of_point = np.full(0x110000, _UNSEEN, dtype=np.uint8)
        self._of_point[0] = END
        of_byte = bytearray(256)
        for code in range(1, 128):
            of_byte[code] = self._of_point[code] = self._ask(code)
        of_byte[0x80:0xC0] = bytes([_TAIL]) * 0x40
        of_byte[0xC0:] = bytes([_LEAD]) * 0x40
        self._of_byte = bytes(of_byte)

    def of(self, data: bytes) -> np.ndarray:
        """uint8, one class per byte of valid UTF-8."""
        classes = np.frombuffer(bytearray(data.translate(self._of_byte)), dtype=np.uint8)
        if data.isascii():
            return classes
        raw = np.frombuffer(data, dtype=np.uint8)
        leads = np.flatnonzero(classes == _LEAD)
        points, sizes = _decode(raw, leads)
        for point in np.unique(points[self._of_point[points] == _UNSEEN]):
            self._of_point[point] = self._ask(int(point))
        of_leads = self._of_point[points]
        classes[leads] = of_leads
        for tail in (1, 2, 3):
            longer = sizes > tail
            classes[leads[longer] + tail] = of_leads[longer]
        return classes

    def _ask(self, point: int) -> int:
        char = chr(point)
        known = any(low <= point <= high for low, high in _PLAIN_RANGES)
        if not known or unicodedata.category(char) in _COMBINING or unicodedata.combining(char):
            return UNSAFE
        return self._probe(char)


def _decode(raw: np.ndarray, leads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(code points, sizes in bytes) of the multi-byte characters that begin at `leads`."""
    first = raw[leads].astype(np.int64)
    sizes = 2 + (first >= 0xE0) + (first >= 0xF0)
    points = first & np.array([0, 0, 0x1F, 0x0F, 0x07])[sizes]
    for tail in (1, 2, 3):
        longer = sizes > tail
        points[longer] = points[longer] << 6 | raw[leads[longer] + tail] & 0x3F
    return points, sizes
