"""The same ids as `TextOnly`, several times faster: every distinct pre-token is tokenized once, the rest is looked up.

    fast = FastIds.of(text_only)               # None where the tokenizer's pieces are not known to be independent
    fast.flat(["to be or", "not to be"])       # RaggedIds(ids=[1462 307 393 1662 284 307], offsets=[0 3 6])

    texts -> one buffer of bytes -> classes (classes.py) -> beginnings of pre-tokens (split.py, dialects.py) -> ids (memo.py)

No Python object is made per pre-token. A row with a character outside the proven ones, or with a word that the user added to the
vocabulary, goes the plain way; a random sample of the rows goes both ways, and after one difference everything goes the plain way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from warnings import warn

import numpy as np
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import CharDelimiterSplit

from tunewright.tokenization.fast.classes import BLANK, END, UNSAFE, CharClasses
from tunewright.tokenization.fast.dialects import Dialect, dialect_of
from tunewright.tokenization.fast.memo import PADDING, PieceMemo
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenization.ragged import RaggedIds

_BLOCK_CHARS = 1 << 20
_CHUNK_PIECES = 2_000
_CHUNKS_TOGETHER = 16
_BETWEEN = "\0"  # between pieces: no text with this character is cut into pieces
_SAMPLE = 1 / 256
_ALWAYS_SAMPLED = 20_000  # characters at the beginning, so that a small store is looked at, too
_SAMPLE_STREAM = 0xFA57  # keeps the sample's stream apart from others


class FastPathDiffers(Exception):
    """The fast path gave other ids than the plain one, a fault of ours: what was stored so far has to be encoded again."""


class FastIds:
    """Flat ids of many texts. Holds the memo; not to be shared between threads."""

    def __init__(self, text_only: TextOnly, dialect: Dialect) -> None:
        assert text_only.rust is not None
        self._text_only, self._dialect = text_only, dialect
        self._pieces = Tokenizer(text_only.rust.model)
        self._pieces.pre_tokenizer = CharDelimiterSplit(_BETWEEN)
        self._classes = CharClasses(dialect.probe)
        self._memo = PieceMemo(self._ids_of_pieces)
        self._added = _added_words(text_only)
        self._longest_known = _longest_known(text_only)
        """Characters of the longest piece that is more than unknown; None where any length may be."""
        self._sample = np.random.Generator(np.random.PCG64(_SAMPLE_STREAM))
        self._always = _ALWAYS_SAMPLED
        self.difference: str | None = None
        """The text on which the two ways differed. From there on all texts go the plain way."""
        self.num_plain = 0
        """Rows that went the plain way, the sample not counted."""

    @classmethod
    def of(cls, text_only: TextOnly) -> FastIds | None:
        if text_only.rust is None or not _added_words_are_literal(text_only):
            return None
        dialect = dialect_of(text_only.rust, text_only.settings)
        return None if dialect is None else cls(text_only, dialect)

    def flat(self, texts: Sequence[str]) -> RaggedIds:
        """Bare ids of whole texts: no special tokens, nothing cut."""
        parts = []
        for block in _blocks(texts):
            if self.difference is None:
                parts.append(self._block(block))
        if self.difference is not None:
            return RaggedIds.of(self._text_only(texts))
        ids = np.concatenate([np.zeros(0, np.int32), *(ids for ids, _ in parts)])
        return RaggedIds(ids, np.cumsum(np.concatenate([[0], *(counts for _, counts in parts)]), dtype=np.int64))

    def _ids_of_pieces(self, pieces: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 of all pieces, int64 how many each has). Many pieces are one text to the library, several texts run at once."""
        texts = self._dialect.model_texts(pieces)
        if self._longest_known is not None:
            texts = [text[: self._longest_known + 1] for text in texts]
        counts = np.zeros(len(texts), dtype=np.int64)
        full = [number for number, text in enumerate(texts) if text]
        chunks = [full[begin : begin + _CHUNK_PIECES] for begin in range(0, len(full), _CHUNK_PIECES)]
        ids = [np.zeros(0, np.int32)]
        for begin in range(0, len(chunks), _CHUNKS_TOGETHER):  # the library holds a hundred bytes for each byte of them
            together = chunks[begin : begin + _CHUNKS_TOGETHER]
            joined = [_BETWEEN.join([texts[number] for number in chunk]) for chunk in together]
            encodings = self._pieces.encode_batch(joined, add_special_tokens=False)
            for chunk, encoding in zip(together, encodings, strict=True):
                ids.append(np.array(encoding.ids, dtype=np.int32))
                counts[chunk] = np.bincount(np.array(encoding.word_ids, dtype=np.int64), minlength=len(chunk))
        return np.concatenate(ids), counts

    def _block(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids, how many each text has)."""
        plain = self._rows_with_added_words(texts)
        given = ["" if number in plain else text for number, text in enumerate(texts)] if plain else texts
        if self._dialect.prefix:
            given = [text if not text or text.startswith(" ") else " " + text for text in given]
        data = b"\0".join(_bytes_of(given, plain)) + bytes(1 + PADDING)
        raw = np.frombuffer(data, dtype=np.uint8)[:-PADDING]
        ends = np.flatnonzero(raw == END)
        classes = self._classes.of(data[:-PADDING])
        plain |= _hide_unsafe(classes, ends)
        ids, counts = self._memoized(data, raw, classes, ends)
        if plain:
            self.num_plain += len(plain)
            ids, counts = _with_plain(ids, counts, {n: self._text_only([texts[n]])[0] for n in sorted(plain)})
        self._compare_sample(texts, plain, ids, counts)
        return ids, counts

    def _rows_with_added_words(self, texts: Sequence[str]) -> set[int]:
        joined = "\0".join(texts)
        return {number for word in self._added if word in joined for number, text in enumerate(texts) if word in text}

    def _memoized(
        self, data: bytes, raw: np.ndarray, classes: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        begins = self._dialect.split(raw, classes)
        sizes = np.diff(begins, append=len(raw))
        kinds = classes[begins]
        pieces = (kinds != END) & (kinds != BLANK) if self._dialect.drops_blanks else kinds != END
        begins, sizes = begins[pieces], sizes[pieces]
        if not len(begins):
            return np.zeros(0, np.int32), np.zeros(len(ends), np.int64)
        ids, counts = self._memo.ids(data, begins, sizes)
        upto = np.concatenate([[0], np.cumsum(counts)])[np.searchsorted(begins, ends)]
        return ids, np.diff(upto, prepend=0)

    def _compare_sample(self, texts: Sequence[str], plain: set[int], ids: np.ndarray, counts: np.ndarray) -> None:
        chosen = self._sample.random(len(texts)) < _SAMPLE
        sizes = np.cumsum([len(text) for text in texts])
        chosen |= sizes <= self._always
        self._always -= int(sizes[-1])
        rows = [number for number in np.flatnonzero(chosen).tolist() if number not in plain]
        stops = np.cumsum(counts)
        for number, expected in zip(rows, self._text_only([texts[number] for number in rows]), strict=True):
            if ids[stops[number] - counts[number] : stops[number]].tolist() != expected:
                self.difference = texts[number]
                warn(
                    f"fast tokenization gives other ids on {texts[number][:200]!r}; the plain way is taken",
                    stacklevel=2,
                )
                return


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Neighbouring texts of about a million characters: arrays that fit into a processor's cache, memory that stays small."""
    begin = num_chars = 0
    for number, text in enumerate(texts):
        num_chars += len(text)
        if num_chars >= _BLOCK_CHARS:
            yield texts[begin : number + 1]
            begin, num_chars = number + 1, 0
    if begin < len(texts):
        yield texts[begin:]


def _bytes_of(texts: Sequence[str], plain: set[int]) -> Iterator[bytes]:
    """UTF-8. A text with a NUL, or with half a surrogate pair, is left to the plain path."""
    for number, text in enumerate(texts):
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            data = b"\0"
        if b"\0" in data:
            plain.add(number)
            data = b""
        yield data


def _hide_unsafe(classes: np.ndarray, ends: np.ndarray) -> set[int]:
    """Rows that hold an unsafe character; their bytes become END, so that no pre-token begins there."""
    unsafe = set(np.searchsorted(ends, np.flatnonzero(classes == UNSAFE)).tolist())
    for row in unsafe:
        classes[ends[row - 1] + 1 if row else 0 : ends[row]] = END
    return unsafe


def _with_plain(ids: np.ndarray, counts: np.ndarray, plain: dict[int, list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Put the ids of plain rows, which are empty so far, into their places."""
    at = np.cumsum(counts)
    places = [np.full(len(row), at[number]) for number, row in plain.items()]
    flat = np.array([one for row in plain.values() for one in row], dtype=np.int32)
    counts = counts.copy()
    counts[list(plain)] = [len(row) for row in plain.values()]
    return np.insert(ids, np.concatenate(places), flat), counts


def _longest_known(text_only: TextOnly) -> int | None:
    """WordPiece takes a longer word for unknown as a whole; a word that is longer than any of a list of words is not in it."""
    model = text_only.settings["model"]
    if model["type"] == "WordPiece":
        return int(model["max_input_chars_per_word"])
    if model["type"] == "WordLevel" and text_only.rust is not None:
        return max(map(len, text_only.rust.get_vocab()), default=0)
    return None


def _added_words(text_only: TextOnly) -> list[str]:
    """Vocabulary that the user added on purpose; of words that hold one another only the inner ones: they find all rows."""
    words = {_as_found(text_only, token) for token in _visible(text_only)}
    return [word for word in words if not any(other in word for other in words if other != word)]


def _visible(text_only: TextOnly) -> list[dict[str, Any]]:
    return [token for token in text_only.settings.get("added_tokens", []) if not token["special"]]


def _as_found(text_only: TextOnly, token: dict[str, Any]) -> str:
    """A word is found as it is spelled, or in the normalized text: see `normalized` of the library's `AddedToken`."""
    normalizer = text_only.rust.normalizer if text_only.rust and token.get("normalized", True) else None
    return token["content"] if normalizer is None else normalizer.normalize_str(token["content"])


def _added_words_are_literal(text_only: TextOnly) -> bool:
    """Whether an added word is found only where it stands letter for letter in the text, among the proven characters."""
    kind = (text_only.settings.get("normalizer") or {"type": "NFC"})["type"]
    return kind == "NFC" or not any(token.get("normalized", True) for token in _visible(text_only))
