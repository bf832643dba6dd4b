"""Text -> bare token ids, every control token in the text split like any other text: the plain path that all others equal.

    text_only = TextOnly.of(AutoTokenizer.from_pretrained("bert-base-uncased"))
    text_only(["[SEP] only text"])     # [[1031, 19802, 1033, 2069, 3793]]     [ sep ] only text

Registered specials stay text, and so do added tokens that look like control (`<tool_call>`). Words that were added to the
vocabulary on purpose are found as the reference finds them; those that the user added (`extend.own_words`) whatever they look like.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.tokens.extend import looks_like_control, own_words

Ids = list[list[int]]


@dataclass(frozen=True)
class TextOnly:
    """tokenizer: as transformers loaded it. rust: its copy that knows no control tokens, None for one written in Python.

    settings: the copy as JSON values, without its vocabulary and merges. words: tokens that the user added.
    """

    tokenizer: Any
    rust: Any | None
    settings: dict[str, Any]
    words: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tokenizer: Any, *, control: Sequence[str] = (), template: str | None = None) -> TextOnly:
        """control: tokens that stay what they are where a text spells them. template: see `own_words`."""
        words = own_words(tokenizer, template=template)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return cls(tokenizer, None, {}, words)
        from tokenizers import Tokenizer

        values = json.loads(backend.to_str())
        for token in values.get("added_tokens", []):
            token["special"] = is_control(token["content"], special=token["special"]) and token[
                "content"
            ] not in words.union(control)
        _hide_control_pieces(values, unknown=tokenizer.unk_token)
        rust = Tokenizer.from_str(json.dumps(values))
        rust.no_truncation()
        rust.no_padding()
        rust.encode_special_tokens = True
        model = {name: value for name, value in values["model"].items() if name not in ("vocab", "merges")}
        return cls(tokenizer, rust, {**values, "model": model}, words)

    def __call__(self, texts: Sequence[str]) -> Ids:
        if self.rust is None:
            return [self._written_in_python(text) for text in texts]
        return [encoding.ids for encoding in self.rust.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _written_in_python(self, text: str) -> list[int]:
        """Such a tokenizer splits all that was added, or nothing: the user's words are cut out before."""
        longest_first = sorted(self.words, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if longest_first else [text]
        ids: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                ids.append(self.tokenizer.convert_tokens_to_ids(part))
            else:
                ids += self.tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def encodings(self, texts: Sequence[str] | Sequence[Sequence[str]], *, words: bool = False) -> list[Any]:
        """Encodings with offsets. words: each text comes as a list of words, and offsets are those within a word."""
        assert self.rust is not None, "a tokenizer written in Python gives no offsets"
        return self.rust.encode_batch(list(texts), is_pretokenized=words, add_special_tokens=False)


def is_control(content: str, *, special: bool) -> bool:
    """Is an added token a control token: registered as special, or spelled like one?"""
    return special or looks_like_control(content)


def _hide_control_pieces(values: dict[str, Any], *, unknown: str | None) -> None:
    """Rename control tokens so that no text can spell them: T5's `</s>` is also a piece that Unigram finds in a text.

    Ids stay. Byte pair merges never reach a control token, unless `ignore_merges` looks whole words up.
    """
    model = values["model"]
    if model["type"] == "BPE" and not model.get("ignore_merges"):
        return
    secret = secrets.token_hex(16)
    control = {
        token["content"]: f"{secret}{token['id']}"
        for token in values.get("added_tokens", [])
        if token["special"] and token["content"] != unknown
    }
    for token in values.get("added_tokens", []):
        token["content"] = control.get(token["content"], token["content"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {control.get(piece, piece): number for piece, number in vocabulary.items()}
    else:
        model["vocab"] = [[control.get(piece, piece), score] for piece, score in vocabulary]
