"""A path -> its unpacked bytes -> decoded physical lines: the base of every text reader.

    TextFile(Path("train.csv.gz"), "train.csv.gz", options).lines()    (1, 'review,sentiment\\n', None), (2, …

`.gz` and `.zst` are known by their first bytes. A line ends at `\\n` and nowhere else: U+0085, U+2028 and a lone
`\\r` are text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tunewright.errors import UserError
from tunewright.reading.encodings import encoding_hint
from tunewright.reading.options import ReadOptions
from tunewright.reading.source import MAX_RAW, MAX_RAW_LARGE
from tunewright.reading.unpack import Recoded, ZstdStream
from tunewright.reporting.phases import read_bytes

Line = tuple[int, str, str | None]
"""(1-based number, text with its line end, fault). With a fault, the text is an excerpt for messages."""

NUL = "the text holds a NUL character"
LONE_SURROGATE = "the text holds half of a surrogate pair, which is no character"
_BLOCK = 2**16
"""Bytes read at a time. Valid UTF-8 is split into lines at once; otherwise each line is decoded by itself."""
_UTF8_MARK = b"\xef\xbb\xbf"
_MARKS = {
    b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", _UTF8_MARK: "utf-8",
}  # fmt: skip
_READ_AT_ONCE = 2**17
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class _CountedFile(io.FileIO):
    """A file whose bytes count for the phase that reads it."""

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override] # any buffer; nobody gives another
        size = super().readinto(buffer)
        read_bytes(size)
        return size

    def readall(self) -> bytes:
        content = super().readall()
        read_bytes(len(content))
        return content


@contextmanager
def opened(path: Path, name: str) -> Iterator[io.BufferedReader]:
    """The decompressed bytes of a file; errors while reading become UserErrors."""
    try:
        with io.BufferedReader(_CountedFile(path), _READ_AT_ONCE) as packed:
            yield _unpacked(cast(io.BufferedReader, packed))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"the compressed file is damaged or incomplete ({error})",
            where=name,
            hint="Download it again, or decompress it to see what is left.",
        ) from error
    except UnicodeError as error:  # a codec that gives up on the stream as a whole
        raise UserError(
            f"the text cannot be decoded ({error})",
            where=name,
            hint="Set data.encoding; text without a byte order mark is utf-16-le or utf-16-be.",
        ) from error
    except OSError as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: OSError) -> UserError:
    """The UserError for a file or folder that the system cannot open."""
    if isinstance(error, PermissionError):
        return UserError("no permission to read it", where=name, hint=f"Try: chmod u+r {name}")
    return UserError(f"cannot be read ({error.strerror or error})", where=name, hint="Check the path.")


def is_packed(path: Path, name: str) -> bool:
    """Whether the content is gzip or zstd, whatever the file is called."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith((_GZIP_MAGIC, _ZSTD_MAGIC))
    except OSError as error:
        raise unreadable(name, error) from error


def _unpacked(packed: io.BufferedReader) -> io.BufferedReader:
    magic = packed.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=packed)), 2**18)
    if magic == _ZSTD_MAGIC:
        return io.BufferedReader(ZstdStream(packed), 2**18)
    return packed


@dataclass(frozen=True)
class TextFile:
    """A text file as bytes, decoded text or physical lines; every pass begins at the start."""

    path: Path
    name: str
    options: ReadOptions

    @contextmanager
    def stream(self) -> Iterator[tuple[BinaryIO, str, int | None]]:
        """(bytes after a byte order mark, their encoding, the file offset of the first of them).

        Encodings in which `\\n` is not the byte 0x0A (UTF-16 and its like) come recoded as UTF-8, with offset None.
        """
        encoding = self.options.encoding
        with opened(self.path, self.name) as stream:
            start = stream.peek(4)[:4]
            self._require_marked(start)
            if "\n".encode(encoding) != b"\n":
                yield io.BufferedReader(Recoded(stream, encoding)), "utf-8", None
                return
            offset = len(stream.read(3)) if start.startswith(_UTF8_MARK) else 0
            yield stream, encoding, offset

    def _require_marked(self, start: bytes) -> None:
        """Raises UserError where the byte order mark belongs to another encoding."""
        encoding = codecs.lookup(self.options.encoding).name
        marked = next((wide for mark, wide in _MARKS.items() if start.startswith(mark)), None)
        if marked is None or encoding.startswith(marked) or (marked == "utf-32" and encoding.startswith("utf-16")):
            return
        raise UserError(
            f"the file is {marked.upper()}, not {self.options.encoding.upper()} (its first bytes say so)",
            where=self.name,
            hint=f"Set data.encoding={marked}",
        )

    def lines(self) -> Iterator[Line]:
        """Every physical line, in order; an unusable line with its fault."""
        limit, number = self.options.max_row_bytes, 0
        most = max(limit + 3, 4 * MAX_RAW_LARGE)  # the line end may stand beyond the limit
        with self.stream() as (stream, encoding, offset):
            while block := stream.read(_BLOCK):
                if not block.endswith(b"\n"):
                    block += stream.readline(most)
                sound = encoding == "utf-8" and len(block) <= limit and b"\0" not in block
                if sound and (text := _decoded(block)) is not None:
                    for line in io.StringIO(text, newline="\n"):
                        number += 1
                        yield number, line, None
                    offset = _after(offset, len(block))
                    continue
                for raw in io.BytesIO(block):
                    number += 1
                    size = len(raw)
                    if size > limit and len(raw.rstrip(b"\r\n")) > limit:
                        size += 0 if raw.endswith(b"\n") else _skip_line(stream)
                        yield number, _beginning(raw, encoding), too_large(size, limit)
                    else:
                        yield number, *self._line(raw, encoding, offset)
                    offset = _after(offset, size)

    def _line(self, raw: bytes, encoding: str, offset: int | None) -> tuple[str, str | None]:
        """One line decoded by itself, and its fault."""
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            fault = _wrong_bytes(raw, error, offset, self.options.encoding)
            return raw.decode(encoding, "backslashreplace"), fault
        if "\0" in text:
            return text, NUL
        return text, LONE_SURROGATE if has_surrogate(text) else None

    def first_lines(self, num_lines: int, num_bytes: int = 4 * 2**20) -> tuple[list[Line], bool]:
        """A sample from the beginning, and whether it is the whole file."""
        sample: list[Line] = []
        size = 0
        for line in self.lines():
            if len(sample) == num_lines or size > num_bytes:
                return sample, False
            sample.append(line)
            size += len(line[1])
        return sample, True

    def sample(self, num_lines: int) -> tuple[list[Line], bool]:
        """`first_lines`. Raises UserError where there is nothing, nothing but blank lines, or lines that end in a lone `\\r`."""
        lines, is_whole = self.first_lines(num_lines)
        first = next(
            (line for line in (lines if is_whole else itertools.chain(lines, self.lines())) if line[1].strip()), None
        )
        if first is None:
            raise empty(self.name)
        if first[2] is None and not first[1].endswith("\n") and first[1].count("\r") > 1:
            raise UserError(
                "the lines end in carriage returns (old Mac format), not in newlines",
                where=self.name,
                hint="Save the file with Unix or Windows line endings.",
            )
        return lines, is_whole


def empty(name: str) -> UserError:
    return UserError(
        "the file is empty", where=name, hint="Check that it is the right file and was written completely."
    )


def too_large(size: int, limit: int) -> str:
    return f"the row has {size:,} bytes, more than data.max_row_bytes allows ({limit:,})"


def is_utf8(path: str) -> bool:
    """Whether the bytes of a file's name are UTF-8, also under a locale of ASCII, where Python holds letters beyond it as surrogates."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return False
    return True


def has_surrogate(text: str) -> bool:
    """Whether the text contains half of a surrogate pair (encoding finds it faster than a search)."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def without_line_end(text: str) -> str:
    """The text without its `\\n` or `\\r\\n`; a `\\r` anywhere else stays."""
    if text.endswith("\r\n"):
        return text[:-2]
    return text[:-1] if text.endswith("\n") else text


def excerpt(text: str) -> str:
    """What a Reject keeps of a row."""
    return without_line_end(text)[:MAX_RAW]


def _after(offset: int | None, size: int) -> int | None:
    return None if offset is None else offset + size


def _decoded(block: bytes) -> str | None:
    try:
        return block.decode()
    except UnicodeDecodeError:
        return None


def _beginning(raw: bytes, encoding: str) -> str:
    return raw[: 4 * MAX_RAW_LARGE].decode(encoding, "backslashreplace")[:MAX_RAW_LARGE] + " …"


def _skip_line(stream: BinaryIO) -> int:
    """Reads past the rest of a line, a piece at a time; gives the number of bytes passed."""
    passed = 0
    while piece := stream.readline(2**20):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def _wrong_bytes(raw: bytes, error: UnicodeDecodeError, offset: int | None, encoding: str) -> str:
    """Which byte, where, and a likely fix. `offset`: where `raw` begins in the file, None where it was recoded."""
    label = "UTF-8" if encoding == "utf-8" else encoding
    if offset is None:
        return f"character {len(raw[: error.start].decode('utf-8', 'replace')) + 1} of the line is not {label}"
    fault = f"byte 0x{raw[error.start]:02X} at offset {offset + error.start:,} is not {label}"
    return fault + (encoding_hint(raw) if encoding == "utf-8" else "")
