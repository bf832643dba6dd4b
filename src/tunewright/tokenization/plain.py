"""Text -> bare token ids, every control token in the text split like any other text: the plain path that all others equal.

    text_only = TextOnly.of(AutoTokenizer.from_pretrained("bert-base-uncased"))
    text_only(["[SEP] only text"])     # [[1031, 19802, 1033, 2069, 3793]]     [ sep ] only text

Registered specials stay text, and so do added tokens that look like control (`<tool_call>`). Words that were added to the
vocabulary on purpose are found as the reference finds them; those that the user added (`extend.own_words`) whatever they look like.

The copy that does it knows each control token by a secret name only, drawn anew in each process: no text spells it, before or
after any normalizer, so nothing that looks a piece up (added tokens, Unigram, whole words, merges) can find one. Whoever may write
control tokens (a chat template) writes their secret names: see `encoding/rendered.py`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from tunewright.tokenization.added_tokens import looks_like_control, own_words

Ids = list[list[int]]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 28  # 131 bits


@dataclass(frozen=True)
class TextOnly:
    """tokenizer: as transformers loaded it. rust: its copy that knows no control tokens, None for one written in Python.

    settings: the copy as JSON values, without its vocabulary and merges. words: tokens that the user added.
    secret_names: control token -> what the copy calls it.
    """

    tokenizer: Any
    rust: Any | None
    settings: dict[str, Any]
    words: frozenset[str] = frozenset()
    secret_names: Mapping[str, str] = field(default_factory=dict, repr=False)

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
            control_like = is_control(token["content"], special=token["special"])
            token["special"] = control_like and token["content"] not in words.union(control)
        names = _rename_control_tokens(values)
        rust = Tokenizer.from_str(json.dumps(values))
        rust.no_truncation()
        rust.no_padding()
        model = {name: value for name, value in values["model"].items() if name not in ("vocab", "merges")}
        return cls(tokenizer, rust, {**values, "model": model}, words, names)

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

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """Encodings with offsets."""
        assert self.rust is not None, "a tokenizer written in Python gives no offsets"
        return self.rust.encode_batch(list(texts), add_special_tokens=False)


def is_control(content: str, *, special: bool) -> bool:
    """Is an added token a control token: registered as special, or spelled like one?"""
    return special or looks_like_control(content)


def _rename_control_tokens(values: dict[str, Any]) -> dict[str, str]:
    """Give control tokens secret names, in place; ids stay. Gives token -> secret name.

    T5's `</s>` is also a piece that Unigram finds in a text, `ignore_merges` looks whole words up, and merges learned from texts
    that hold a control token lead to it: those go. A control token of a single character is a letter that texts need (`!` pads for
    CLIP): as such it stays. Names are letters only, which every normalizer leaves alone, of one length, so that none begins another.
    """
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))
    tokens, model = values.get("added_tokens", []), values["model"]
    names = {token["content"]: secret + _in_letters(token["id"]) for token in tokens if token["special"]}
    if isinstance(model["vocab"], dict):
        letters = {piece: number for piece, number in model["vocab"].items() if piece in names and len(piece) == 1}
        pieces = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
        model["vocab"] = pieces | letters
    else:
        letters = {
            piece: number for number, (piece, _) in enumerate(model["vocab"]) if piece in names and len(piece) == 1
        }
        tokens[:] = [token for token in tokens if token["content"] not in letters]
        names = {piece: name for piece, name in names.items() if piece not in letters}
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    for token in tokens:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "single_word": False}
    if model.get("unk_token") in names and model["unk_token"] not in letters:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        gone, prefix = names.keys() - letters.keys(), len(model.get("continuing_subword_prefix") or "")
        model["merges"] = [merge for merge in model["merges"] if not _leads_to(gone, merge, prefix)]
    return names


def _leads_to(pieces: Set[str], merge: Any, prefix: int) -> bool:
    """Does a merge make one of these pieces, or take one?"""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left + right[prefix:] in pieces or left in pieces or right in pieces


def _in_letters(number: int) -> str:
    """26 -> "aaaaaaba": the number in eight letters."""
    return "".join(_LETTERS[number // 26**place % 26] for place in reversed(range(8)))
