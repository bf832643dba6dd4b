"""Rendered conversations -> token ids, and which of them the assistant writes. One text, tokenized whole.

    <|im_start|>user\\nHi<|im_end|>\\n…      [1, 872, 198, 13048, 2, 198, …]

The ids are the tokenizer's own for the whole text: what a template writes becomes control tokens. Where a user's text holds the
like of a control token, that text is cut out between the template's tokens and encoded as text. A token belongs to an answer when
any of its characters does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.text.hiding import Control
from tunewright.text.supervision import Rendered
from tunewright.tokens.extend import own_words
from tunewright.tokens.text_only import TextOnly, is_control
from tunewright.tokens.tokenizer import TextEncoder


@dataclass(frozen=True)
class ChatTokens:
    """Token t of a text is `ids[t]` and stands at characters `[starts[t], ends[t])`. int32, int64, int64 `(length,)`."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def within(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """bool `(length,)`: tokens with a character in one of the spans."""
        inside = np.zeros(len(self.ids), dtype=bool)
        for begin, end in spans:
            inside |= (self.starts < end) & (self.ends > begin)
        return inside


@dataclass(frozen=True)
class ChatTokenizer:
    """tokenizer: the reference. text_only: its copy without control tokens. control: id and flags of each control token."""

    tokenizer: Any
    text_only: TextOnly
    control: dict[str, Any]
    ids: dict[str, int]
    _checked: set[bool] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def of(cls, encoder: TextEncoder, template: str | None = None) -> ChatTokenizer:
        """template: what a chat template writes is control. UserError where the tokenizer cannot say where its tokens stand."""
        text_only, control = encoder.with_offsets(), control_tokens(encoder.tokenizer, template)
        if text_only.words.intersection(control):
            text_only = TextOnly.of(encoder.tokenizer, template=template)
        ids = {token: encoder.tokenizer.convert_tokens_to_ids(token) for token in control}
        return cls(encoder.tokenizer, text_only, control, ids)

    def finder(self) -> Control:
        return Control(list(self.control))

    @cached_property
    def adds_bos(self) -> bool:
        return begins_with_bos(self.tokenizer)

    def encode(self, texts: Sequence[Rendered]) -> list[ChatTokens]:
        """Every text whole, nothing cut."""
        plain = [number for number, one in enumerate(texts) if not one.untrusted]
        found: dict[int, ChatTokens] = {}
        if plain:
            reference = self.tokenizer.backend_tokenizer
            reference.encode_special_tokens = False
            reference.no_truncation()
            reference.no_padding()
            encodings = reference.encode_batch([texts[number].text for number in plain], add_special_tokens=False)
            found = {number: _tokens(one.ids, one.offsets) for number, one in zip(plain, encodings, strict=True)}
        return [found[number] if number in found else self._in_pieces(one) for number, one in enumerate(texts)]

    def _in_pieces(self, rendered: Rendered) -> ChatTokens:
        """The control tokens that a template wrote as they are, and all between them as text."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for begin, end, control in self._pieces(rendered):
            if control is not None:
                ids.append(self.ids[control])
                offsets.append((begin, end))
            elif begin < end:
                encoding = self.text_only.encodings([rendered.text[begin:end]])[0]
                ids += encoding.ids
                offsets += [(begin + a, begin + b) for a, b in encoding.offsets]
        return _tokens(ids, offsets)

    def _pieces(self, rendered: Rendered) -> list[tuple[int, int, str | None]]:
        """(begin, end, control token or None), in order. White space that a control token swallows is in no piece."""
        text, at = rendered.text, 0
        pieces: list[tuple[int, int, str | None]] = []
        for begin, end in self._written(rendered):
            token = self.control[text[begin:end]]
            before = at + len(text[at:begin].rstrip()) if token.lstrip else begin
            pieces += [(at, before, None), (begin, end, token.content)]
            at = end + len(text[end:]) - len(text[end:].lstrip()) if token.rstrip else end
        return [*pieces, (at, len(text), None)]

    def _written(self, rendered: Rendered) -> list[tuple[int, int]]:
        """Where the template's own control tokens stand: wherever one is found outside of what is untrusted."""
        bounds = [0, *(place for span in rendered.untrusted for place in span), len(rendered.text)]
        finder = self.finder().tokens
        return [
            match.span()
            for begin, end in zip(bounds[::2], bounds[1::2], strict=True)
            for match in finder.finditer(rendered.text, begin, end)
        ]

    def check_pieces(self) -> None:
        """UserError where a text in pieces gets other ids than the whole: its control tokens could not be kept as text."""
        if self._checked:
            return
        for token in self.control:
            probe = Rendered(f"{token} a{token}b\n{token}")
            if list(self._in_pieces(probe).ids) != list(self.encode([probe])[0].ids):
                raise UserError(
                    "control tokens in a text cannot be kept as text with this tokenizer", found=token,
                    mend="Remove them from the text, or choose another tokenizer.",
                )  # fmt: skip
        self._checked.add(True)


def control_tokens(tokenizer: Any, template: str | None = None) -> dict[str, Any]:
    """Control token -> its `AddedToken`, with the flags that say how it is found in a text; without the user's own words."""
    added, words = tokenizer.added_tokens_decoder.values(), own_words(tokenizer, template=template)
    control = (token for token in added if is_control(token.content, special=token.special))
    return {token.content: token for token in control if token.content not in words}


def begins_with_bos(tokenizer: Any) -> bool:
    """Does the tokenizer begin a text with its BOS token by itself?"""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def _tokens(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> ChatTokens:
    """Offsets leave out a token's leading space: it begins where the one before ends."""
    places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = places[:, 0].copy(), places[:, 1]
    starts[1:] = np.minimum(starts[1:], ends[:-1])
    if len(starts):
        starts[0] = 0
    return ChatTokens(np.array(ids, dtype=np.int32), starts, ends)
