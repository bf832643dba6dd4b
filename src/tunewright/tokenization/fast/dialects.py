"""Which tokenizers split a text into pieces that know nothing of each other, and how: read off the tokenizer's own settings.

    BertNormalizer + BertPreTokenizer          bert      words and single punctuation marks
    ByteLevel, or Split by a known expression  gpt2, roberta, pythia; llama3, qwen3 (the cl100k family)
    WhitespaceSplit + Metaspace, Metaspace     t5, other SentencePiece models
    Whitespace, WhitespaceSplit                tokenizers trained on words

A model (WordPiece, BPE, Unigram) sees one piece at a time, so a piece has the same ids wherever it stands; only BPE dropout would
differ. Normalization is done piece by piece, which is the same because only characters pass that neither combine nor reorder.
Whatever is not known here has no dialect and is encoded the plain way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tunewright.tokenization.fast import split
from tunewright.tokenization.fast.classes import BLANK, LETTER, NEWLINE, NUMBER, OTHER, UNSAFE
from tunewright.tokenization.readable import byte_of_character

Split = Callable[[np.ndarray, np.ndarray], np.ndarray]
_META = "▁"

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_EXPRESSIONS: dict[str, int] = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": 0,
    **{form % "": 1 for form in _CL100K},
    **{form % "{1,3}": 3 for form in _CL100K},
    **{form % "{1,2}": 2 for form in _CL100K},
}
"""Known expressions -> digits to a piece; 0 for GPT-2's, which keeps a number whole."""

_LOCAL = {"BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Lowercase", "Precompiled"}


@dataclass(frozen=True)
class Dialect:
    """probe: what a character is to `split`. model_texts: pieces as the model gets them. drops_blanks: blanks are no pieces.

    prefix: a blank is put before a text that does not begin with one.
    """

    split: Split
    probe: Callable[[str], int]
    model_texts: Callable[[list[bytes]], list[str]]
    drops_blanks: bool = False
    prefix: bool = False


def dialect_of(rust: Any, settings: dict[str, Any]) -> Dialect | None:
    """The dialect of a tokenizer, None where its pieces are not known to be independent."""
    model, before = settings["model"], settings.get("pre_tokenizer") or {}
    if model["type"] not in ("BPE", "WordPiece", "Unigram", "WordLevel") or model.get("dropout"):
        return None
    normalizers = _flat(settings.get("normalizer"), "normalizers")
    kinds = [one["type"] for one in normalizers]
    parts = _flat(before, "pretokenizers")
    names = [part["type"] for part in parts]
    pieces = _reference_pieces(rust)
    if names and names[-1] == "ByteLevel":
        digits = _byte_level_digits(parts)
        if digits is None or kinds not in ([], ["NFC"]):
            return None
        rule: Split = partial(split.cl100k, digits=digits) if digits else split.gpt2
        probe = partial(_byte_level_class, pieces=pieces, normal=_normal(rust), digits=digits)
        return Dialect(rule, probe, _byte_level_texts, prefix=parts[0].get("add_prefix_space", False))
    if not set(kinds) <= _LOCAL:
        return None
    words = partial(_word_class, pieces=pieces, normal=_normal(rust), runs=names == ["Whitespace"])
    plain_text, meta_text = (partial(_word_texts, normal=_CharByChar(_normal(rust)), meta=meta) for meta in ("", _META))
    if names in (["BertPreTokenizer"], ["WhitespaceSplit"]):
        return Dialect(split.words, words, plain_text, drops_blanks=True)
    if names == ["Whitespace"]:
        return Dialect(split.runs, words, plain_text, drops_blanks=True)
    if names == ["WhitespaceSplit", "Metaspace"] and _marks_every_word(parts[1], ("always",)):
        return Dialect(split.words, words, meta_text, drops_blanks=True)
    if names == ["Metaspace"] and _marks_every_word(parts[0], ("always", "first")):
        return Dialect(split.after_blanks, partial(_meta_class, pieces=pieces, normal=_normal(rust)), meta_text)
    return None


def _flat(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if not part:
        return []
    return [one for each in part[inner] for one in _flat(each, inner)] if part["type"] == "Sequence" else [part]


def _reference_pieces(rust: Any) -> Callable[[str], list[str]]:
    normal = _normal(rust)
    return lambda text: [piece for piece, _ in rust.pre_tokenizer.pre_tokenize_str(normal(text)) if piece]


def _normal(rust: Any) -> Callable[[str], str]:
    return (lambda text: text) if rust.normalizer is None else lambda text: rust.normalizer.normalize_str(text)


def _marks_every_word(part: dict[str, Any], schemes: Sequence[str]) -> bool:
    return part.get("replacement") == _META and part.get("split", True) and part.get("prepend_scheme") in schemes


def _byte_level_digits(parts: list[dict[str, Any]]) -> int | None:
    """Digits to a piece by the expression in use, None when it is not a known one."""
    if len(parts) == 1 and parts[0].get("use_regex", True):
        return 0
    if len(parts) != 2 or parts[1].get("use_regex", True) or parts[1].get("add_prefix_space", True):
        return None
    first = parts[0]
    if first["type"] != "Split" or first.get("behavior") != "Isolated" or first.get("invert"):
        return None
    return _EXPRESSIONS.get(first["pattern"].get("Regex", ""))


# What a character is: asked of the reference in contexts where each class gives another number of pieces


def _byte_level_class(
    char: str, *, pieces: Callable[[str], list[str]], normal: Callable[[str], str], digits: int
) -> int:
    def whole(text: str) -> bool:
        return len(pieces(text)) == 1

    if normal(char) != char:
        return UNSAFE
    if digits and char in "\r\n":
        return NEWLINE
    if whole(f"a{char}a"):
        # (?i:'s) also folds the long s
        return LETTER if char.isascii() or whole(f"'{char}{char}") or not digits else UNSAFE
    if whole(f"!{char}!"):
        return OTHER
    if whole(f"\t{char}\t"):
        return BLANK
    if digits == 0:
        return NUMBER if whole(f"1{char}1") else UNSAFE
    return NUMBER if char in "0123456789" else UNSAFE  # groups are counted in bytes


def _word_class(char: str, *, pieces: Callable[[str], list[str]], normal: Callable[[str], str], runs: bool) -> int:
    if normal(f"a{char}b") != normal("a") + normal(char) + normal("b"):
        return UNSAFE
    inner = pieces(f"a{char}a")
    if len(inner) == 1:
        return LETTER if len(pieces(f"!{char}!")) in ((2, 3) if runs else (1, 2, 3)) else UNSAFE
    if len(inner) == 2 and not pieces(char):
        return BLANK
    if runs:
        return OTHER if len(pieces(f"!{char}!")) == 1 else UNSAFE
    return _lone_class(char, pieces)


def _lone_class(char: str, pieces: Callable[[str], list[str]]) -> int:
    """OTHER for a character that is always a piece by itself."""
    alone = pieces(char)
    inner, double = pieces(f"a{char}a"), pieces(char + char)
    return OTHER if len(alone) == 1 and inner[1:-1] == alone and len(inner) == 3 and double == 2 * alone else UNSAFE


def _meta_class(char: str, *, pieces: Callable[[str], list[str]], normal: Callable[[str], str]) -> int:
    if char == " ":
        return BLANK if normal("a  b") == "a  b" else UNSAFE
    local = (
        normal(f"a{char}b") == normal("a") + normal(char) + normal("b") and normal(f" {char} ") == f" {normal(char)} "
    )
    return LETTER if local and len(pieces(f"a{char}a")) == 1 and len(pieces(f"a {char} a")) == 3 else UNSAFE


# A piece as the model gets it


_BYTE_CHARS = {byte: char for char, byte in byte_of_character().items()}


def _byte_level_texts(pieces: list[bytes]) -> list[str]:
    return b"\0".join(pieces).decode("latin-1").translate(_BYTE_CHARS).split(_BYTE_CHARS[0])


class _CharByChar(dict[int, str]):
    """Normalization for `str.translate`: what each character becomes, asked once. Only for characters that `probe` let pass."""

    def __init__(self, normal: Callable[[str], str]) -> None:
        self._normal = normal
        self[0] = "\0"  # stands between pieces

    def __missing__(self, point: int) -> str:
        normal = self._normal(chr(point))
        self[point] = normal.strip(" ") or normal  # BERT's normalizer puts blanks around a Chinese character
        return self[point]


def _word_texts(pieces: list[bytes], *, normal: _CharByChar, meta: str) -> list[str]:
    texts = b"\0".join(pieces).decode("utf-8").translate(normal).split("\0")
    return [_marked(text.replace(" ", meta), meta) if text else text for text in texts] if meta else texts


def _marked(text: str, meta: str) -> str:
    return text if text.startswith(meta) else meta + text
