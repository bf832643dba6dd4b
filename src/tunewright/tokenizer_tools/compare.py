"""Tokenizers side by side on the user's own texts: how finely they cut, what they lose, how fast they are.

    comparison = compare(Corpus.open(["reviews.csv"]), [tokenizer_source(name) for name in ("bert-base-cased", "gpt2")])
    comparison.models[0].tokens_per_word, comparison.models[0].lossy_rows      1.31, 4871

One pass over the files; what is kept is counts: of tokens by id, of rows by length.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.encoder import load_encoder
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenizer_tools.corpus import Corpus

_BATCH_ROWS, _BATCH_CHARACTERS = 512, 2_000_000
_LONGEST, _EXAMPLES = 5, 3
_AROUND = 30
"""Characters shown on either side of the first difference."""
_CONTINUES = "##"


@dataclass(frozen=True)
class Example:
    """A text that does not come back from its tokens: the piece around the first difference, before and after."""

    address: str
    before: str
    after: str


@dataclass
class Measured:
    """One tokenizer's counts. Lengths are those of rows, special tokens included; `num_tokens` is of the texts alone."""

    model: str
    algorithm: str
    vocab_size: int
    max_length: int
    num_tokens: int = 0
    num_unknown: int | None = None
    """None where the tokenizer has no unknown token that texts could become."""
    num_single: int = 0
    """Tokens of one character (or of a part of one)."""
    num_used: int = 0
    """Different tokens met."""
    cut_rows: int = 0
    cut_tokens: int = 0
    lossy_rows: int = 0
    """decode(encode(text)) is not the text."""
    lossy_letters: int = 0
    """Of these: it differs in more than blanks and upper case."""
    examples: list[Example] = field(default_factory=list)
    seconds: float = 0.0
    longest: list[tuple[int, str]] = field(default_factory=list)
    """(tokens, address), longest first."""
    lengths: Counter[int] = field(default_factory=Counter)

    def quantile(self, share: float) -> int:
        """The length that this share of the rows does not exceed."""
        wanted, seen = share * self.lengths.total(), 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= wanted:
                return length
        return 0


@dataclass(frozen=True)
class Comparison:
    """What was read, and each model's measures."""

    name: str
    columns: tuple[str, ...]
    num_rows: int
    num_rejected: int
    first_reject: str | None
    num_words: int
    """Runs of characters between blanks."""
    num_characters: int
    num_bytes: int
    models: list[Measured]

    def rates(self, model: Measured) -> dict[str, float | None]:
        """The shares and ratios of one model, by name."""
        tokens, rows = max(1, model.num_tokens), max(1, self.num_rows)
        unknown = model.num_unknown
        return {
            "tokens_per_word": model.num_tokens / max(1, self.num_words),
            "tokens_per_character": model.num_tokens / max(1, self.num_characters),
            "tokens_per_byte": model.num_tokens / max(1, self.num_bytes),
            "unknown_share": None if unknown is None else unknown / tokens,
            "single_character_share": model.num_single / tokens,
            "cut_rows_share": model.cut_rows / rows,
            "cut_tokens_share": model.cut_tokens / tokens,
            "lossy_share": model.lossy_rows / rows,
            "lossy_letters_share": model.lossy_letters / rows,
            "megabytes_per_second": self.num_bytes / 1e6 / max(1e-9, model.seconds),
            "tokens_per_second": model.num_tokens / max(1e-9, model.seconds),
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        values = asdict(self)
        for model, written in zip(self.models, values["models"], strict=True):
            written |= self.rates(model)
            written["lengths"] = {f"{int(share * 100)}%": model.quantile(share) for share in (0.5, 0.95, 1.0)}
            written["longest"] = [{"address": address, "tokens": tokens} for tokens, address in model.longest]
        return values


def compare(corpus: Corpus, sources: Sequence[ModelFolder], *, max_length: int | str = "auto") -> Comparison:
    """Encode every text with every tokenizer. UserError for tokenizers that cannot be loaded and files without text."""
    gauges = [_Gauge(source, max_length) for source in sources]
    words = characters = size = 0
    for addresses, texts in _batches(corpus):
        words += sum(len(text.split()) for text in texts)
        characters += sum(map(len, texts))
        size += sum(len(text.encode()) for text in texts)
        for gauge in gauges:
            gauge.add(addresses, texts)
    if not corpus.num_texts:
        raise corpus.no_text_error()
    return Comparison(
        name=corpus.name, columns=corpus.columns, num_rows=corpus.num_texts, num_rejected=corpus.num_rejected,
        first_reject=corpus.first_reject, num_words=words, num_characters=characters, num_bytes=size,
        models=[gauge.finished() for gauge in gauges],
    )  # fmt: skip


def _batches(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    addresses: list[str] = []
    texts: list[str] = []
    waiting = 0
    for address, text in rows:
        addresses.append(address)
        texts.append(text)
        waiting += len(text)
        if len(texts) == _BATCH_ROWS or waiting > _BATCH_CHARACTERS:
            yield addresses, texts
            addresses, texts, waiting = [], [], 0
    if texts:
        yield addresses, texts


class _Gauge:
    """Measures one tokenizer, batch by batch."""

    def __init__(self, source: ModelFolder, max_length: int | str) -> None:
        encoder = load_encoder(source, max_length=max_length, pads=False)
        self.tokenizer = encoder.tokenizer
        self.ids_of = TextOnly.of(self.tokenizer)
        self.num_special = len(encoder.encode([""])[0].input_ids)
        self.counts = np.zeros(max(self.tokenizer.get_vocab().values()) + 1, dtype=np.int64)
        algorithm = self.ids_of.settings["model"]["type"] if self.ids_of.settings else type(self.tokenizer).__name__
        self.measured = Measured(source.name, algorithm, len(self.tokenizer), encoder.max_length)

    def add(self, addresses: Sequence[str], texts: Sequence[str]) -> None:
        measured = self.measured
        began = time.perf_counter()
        rows = self.ids_of(texts)
        measured.seconds += time.perf_counter() - began
        flat = np.fromiter((number for row in rows for number in row), dtype=np.int64)
        self.counts += np.bincount(flat, minlength=len(self.counts))
        measured.num_tokens += len(flat)
        lengths = [len(row) + self.num_special for row in rows]
        measured.lengths.update(lengths)
        excess = [length - measured.max_length for length in lengths if length > measured.max_length]
        measured.cut_rows += len(excess)
        measured.cut_tokens += sum(excess)
        measured.longest = heapq.nlargest(
            _LONGEST, [*measured.longest, *zip(lengths, addresses, strict=True)], key=lambda row: row[0]
        )
        for address, text, back in zip(addresses, texts, self._decoded(rows), strict=True):
            if back != text:
                self._lossy(address, text, back)

    def _decoded(self, rows: list[list[int]]) -> list[str]:
        if self.ids_of.rust is not None:
            return self.tokenizer.backend_tokenizer.decode_batch(rows, skip_special_tokens=False)
        return [self.tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in rows]

    def _lossy(self, address: str, text: str, back: str) -> None:
        measured = self.measured
        measured.lossy_rows += 1
        letters = _letters(text) != _letters(back)
        measured.lossy_letters += letters
        if letters and measured.lossy_letters <= _EXAMPLES:  # these say more: they come first
            measured.examples = [_example(address, text, back, letters=True), *measured.examples][:_EXAMPLES]
        elif len(measured.examples) < _EXAMPLES:
            measured.examples.append(_example(address, text, back, letters=False))

    def finished(self) -> Measured:
        used = np.flatnonzero(self.counts)
        single = [number for number in used if self._is_single(int(number))]
        unknown = self.tokenizer.unk_token_id
        has_unknown = unknown is not None and self._can_be_unknown()
        self.measured.num_unknown = int(self.counts[unknown]) if has_unknown else None
        self.measured.num_single = int(self.counts[single].sum())
        self.measured.num_used = len(used)
        return self.measured

    def _can_be_unknown(self) -> bool:
        """Byte-level tokenizers name an unknown token and never give it."""
        return bool(self.ids_of.settings) and "ByteLevel" not in str(self.ids_of.settings.get("pre_tokenizer"))

    def _is_single(self, number: int) -> bool:
        if self.ids_of.rust is None:
            return True  # a tokenizer of bytes
        piece = self.tokenizer.backend_tokenizer.decode([number], skip_special_tokens=False)
        return len(piece.removeprefix(_CONTINUES).strip()) <= 1


def _letters(text: str) -> str:
    return "".join(text.split()).lower()


def _example(address: str, text: str, back: str, *, letters: bool) -> Example:
    here, there = _first_difference(text, back, letters=letters)
    around = (
        slice(max(0, here - _AROUND), here + _AROUND),
        slice(max(0, there - _AROUND), there + _AROUND),
    )
    return Example(address, text[around[0]], back[around[1]])


def _first_difference(text: str, back: str, *, letters: bool) -> tuple[int, int]:
    """Where two texts part, in each of them. letters: blanks and upper case do not count."""

    def places(one: str) -> Iterator[tuple[int, str]]:
        for place, character in enumerate(one):
            if not letters:
                yield place, character
            elif not character.isspace():
                yield from ((place, part) for part in character.lower())
        yield len(one), ""

    pairs = zip(places(text), places(back), strict=False)
    return next((here, there) for (here, a), (there, b) in pairs if a != b or not a)


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of paths, where these tell the models apart."""
    last = [name.rstrip("/").rpartition("/")[2] for name in names]
    return last if len(set(last)) == len(last) else list(names)


def bins(models: Sequence[Measured], number: int = 24) -> tuple[list[int], list[list[int]]]:
    """(lower edges, rows per bin of each model). Edges are shared; the last bin holds everything longer."""
    top = max(1, *(model.quantile(0.99) for model in models))
    width = max(1, _round_up(top / number))
    edges = list(range(0, top + width, width))
    counts = [[0] * len(edges) for _ in models]
    for model, row in zip(models, counts, strict=True):
        for length, rows in model.lengths.items():
            row[min(length // width, len(edges) - 1)] += rows
    return edges, counts


def _round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10
