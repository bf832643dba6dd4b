"""Vocabulary entries as the text they stand for, for people to look at.

    Ġcafé of a byte-level BPE stands in its vocabulary as "ĠcafÃ©"      ->  "▁café"
    a byte alone, part of a character: "<0xE6>", "æ"                     ->  "\\xe6"

A blank is shown as `▁`, a line break as `\\n`. Control tokens, and words that were added, stand there as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SHOWN = {" ": "▁", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def readable(tokenizer: Any, tokens: Sequence[str], *, decoder: Any) -> list[str]:
    """Entry -> text. decoder: of the tokenizer, as JSON values (None for one written in Python)."""
    added = tokenizer.get_added_vocab()
    kinds = set(_types(decoder))
    return [token if token in added else _shown(tokenizer, token, kinds) for token in tokens]


def _shown(tokenizer: Any, token: str, kinds: set[str]) -> str:
    if "ByteLevel" in kinds:
        known = byte_of_character()
        if all(character in known for character in token):
            return _text(bytes(known[character] for character in token))
    elif "ByteFallback" in kinds and (found := _BYTE.fullmatch(token)):
        return _text(bytes([int(found[1], 16)]))
    elif not kinds and type(tokenizer).__name__.startswith("ByT5") and len(token) == 1 and ord(token) < 256:
        return _text(bytes([ord(token)]))
    return token


def _text(data: bytes) -> str:
    """UTF-8; bytes that are part of a character only by their numbers, and what would not be seen by a sign."""
    text = data.decode("utf-8", errors="backslashreplace")
    return "".join(_SHOWN.get(character, character) for character in text)


def _types(step: Any) -> list[str]:
    if isinstance(step, list):
        return [kind for one in step for kind in _types(one)]
    if not isinstance(step, dict):
        return []
    return [str(step.get("type")), *_types(step.get("decoders"))]


@cache
def byte_of_character() -> dict[str, int]:
    """The characters by which GPT-2's vocabulary writes bytes: printable ones are themselves, others follow at 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
