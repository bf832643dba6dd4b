"""Byte streams under `files.py`: zstd unpacked with its end checked, and wide encodings recoded as UTF-8.

io.BufferedReader(Recoded(stream, "utf-16")).readline()      b'caf\\xc3\\xa9\\n'
"""

from __future__ import annotations

import codecs
import io
from abc import abstractmethod
from typing import Any, BinaryIO

_PIECE = 2**17
_PACKED = 2**8
"""Bytes unpacked at a time: a frame of one letter unpacks to 32,000 times its size, and a piece must fit into memory."""
_MARK = "tunewright-mark"


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    """Bytes that cannot be decoded become lone surrogates, which the UTF-8 decoder downstream refuses."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_MARK, _mark_undecodable)


class _Pieces(io.RawIOBase):
    """A raw stream made of pieces; `next_piece` gives b"" at the end only."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._rest = memoryview(b"")

    @abstractmethod
    def next_piece(self) -> bytes: ...

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(self.next_piece())
        num = min(len(buffer), len(self._rest))
        buffer[:num] = self._rest[:num]
        self._rest = self._rest[num:]  # a view: what is left is never copied
        return num


class ZstdStream(_Pieces):
    """Unpacks zstd frames; raises EOFError at a cut one, which zstandard's own reader takes for the end."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(source)
        self._frame: Any = None
        self._packed = b""

    def next_piece(self) -> bytes:
        import zstandard

        while self._packed or (packed := self._source.read(_PACKED)):
            packed, self._packed = self._packed or packed, b""
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                piece = self._frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
            if piece:
                return piece
        if self._frame is not None:
            raise EOFError("it ends within a zstd frame")
        return b""


class Recoded(_Pieces):
    """Text in any encoding as UTF-8 bytes, its byte order mark dropped."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        super().__init__(source)
        self._decoder = codecs.getincrementaldecoder(encoding)(_MARK)
        self._started = self._ended = False

    def next_piece(self) -> bytes:
        while not self._ended:
            raw = self._source.read(_PIECE)
            self._ended = not raw
            text = self._decoder.decode(raw, final=self._ended)
            if text and not self._started:
                self._started, text = True, text.removeprefix("\ufeff")
            if text:
                return text.encode("utf-8", "surrogatepass")
        return b""
