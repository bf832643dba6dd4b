"""The text of a JSON file through a sliding window: where a value ends, on which line, at which byte.

    window.at -> '{"a": [1, "]"]}, …'          window.skip_value() leaves window.at at ', …' whatever the value's size

Holds one value and what was read beyond it; never the whole file.
"""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO

from tunewright.reading.files import has_surrogate
from tunewright.reading.source import MAX_RAW_LARGE

_PIECE = 2**18
_SPACE = re.compile(r"[ \t\r\n]*")
_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[,\]}\s]")


class Window:
    """`text[at]` is the next character of the file, once `peek` has been called."""

    def __init__(self, stream: BinaryIO, encoding: str, offset: int | None) -> None:
        self.text, self.at, self.ended = "", 0, False
        self.damaged = False
        """Whether some bytes so far were not in the encoding (they stand as lone surrogates)."""
        self._stream, self._encoding, self._offset = stream, encoding, offset
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._line, self._counted = 1, 0

    def fill(self) -> bool:
        """Drops the text before `at` and reads more; False at the end of the file."""
        if self.ended:
            return False
        self.line()
        if self._offset is not None:
            self._offset += self.num_bytes(0, self.at)
        rest = self.text[self.at :]
        raw = self._stream.read(max(_PIECE, len(rest)))
        self.ended = not raw
        more = self._decoder.decode(raw, final=self.ended)
        self.damaged = self.damaged or has_surrogate(more)
        self.text, self.at, self._counted = rest + more, 0, 0
        return bool(more) or self.fill()

    def line(self) -> int:
        """The 1-based line on which `at` stands."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def num_bytes(self, start: int, end: int) -> int:
        return len(self.text[start:end].encode(self._encoding, "surrogateescape"))

    def offset_of(self, position: int) -> int | None:
        """The byte of the file at which a position of the window stands; None where the file was recoded."""
        return None if self._offset is None else self._offset + self.num_bytes(0, position)

    def peek(self) -> str:
        """Moves `at` to the next character that is not white space and returns it; "" at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill():
                return ""

    def whole_value(self, limit: int) -> int | None:
        """End of the value at `at`, reading as far as needed; None where the file or `limit` characters end first."""
        extent, seen = _Extent(), self.at
        while (end := extent.find(self.text, seen)) is None:
            num_seen = len(self.text) - self.at
            if num_seen > limit or not self.fill():
                return len(self.text) if self.ended and extent.is_scalar else None
            seen = self.at + num_seen
        return end

    def skip_value(self) -> tuple[str, int, bool]:
        """Moves past the value at `at` without holding it: (its beginning, its size in bytes, whether it ends)."""
        shown, size, extent = "", 0, _Extent()
        while (end := extent.find(self.text, self.at)) is None:
            shown += self.text[self.at : self.at + MAX_RAW_LARGE - len(shown)]
            size += self.num_bytes(self.at, len(self.text))
            self.at = len(self.text)
            if not self.fill():
                return shown, size, extent.is_scalar
        shown += self.text[self.at : min(end, self.at + MAX_RAW_LARGE - len(shown))]
        size += self.num_bytes(self.at, end)
        self.at = end
        return shown, size, True


class _Extent:
    """Finds where a value ends by its brackets and quotes alone, fed piece by piece; it need not be valid JSON."""

    def __init__(self) -> None:
        self.is_scalar = False
        self._depth = 0
        self._started = self._in_string = self._escaped = False

    def find(self, text: str, at: int) -> int | None:
        """The end of the value in `text`, of which everything before `at` has been seen; None: not yet."""
        if not self._started:
            if at >= len(text):
                return None
            self._started = True
            self.is_scalar = text[at] not in '{["'
            at += self.is_scalar
        if self.is_scalar:
            end = _SCALAR_END.search(text, at)
            return end.start() if end else None
        if self._escaped and at < len(text):
            self._escaped, at = False, at + 1
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(text, at):
            mark, at = match[0], match.end()
            if mark == "\\":
                if at == len(text):
                    self._escaped = True
                    return None
                at += 1
                continue
            if mark == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if mark in "{[" else -1
            if self._depth <= 0 and not self._in_string:
                return at
        return None
