"""Rendered conversations -> token ids, and which of them the assistant writes. Each text is tokenized as a whole.

    <|im_start|>user\\nHi<|im_end|>\\n…      [1, 872, 198, 13048, 2, 198, …]

The ids are the tokenizer's own for the whole text: only control tokens written by the template become control tokens. The tokenizer
that reads the text knows control tokens only by secret names (`tokenization/plain.py`), which replace those that the template wrote.
So the text is tokenized as a whole (Metaspace puts a blank only before the first word), and no normalizer can turn a user's text into
a control token. A token belongs to an answer when any of its characters does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tunewright.chat.control_tokens import ControlTokens
from tunewright.chat.supervision import Rendered, Span
from tunewright.errors import UserError
from tunewright.tokenization.added_tokens import missing_role, own_words
from tunewright.tokenization.encoder import TextEncoder
from tunewright.tokenization.plain import TextOnly, is_control

_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class ChatTokens:
    """Token t of a text is `ids[t]`, at characters `[starts[t], ends[t])`. int32, int64, int64 `(length,)`."""

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
    """tokenizer: the reference. text_only: its copy with secret names for control tokens. control: those tokens, by content."""

    tokenizer: Any
    text_only: TextOnly
    control: dict[str, Any]

    @classmethod
    def of(cls, encoder: TextEncoder, template: str | None = None) -> ChatTokenizer:
        """template: the chat template, whose tokens are control. UserError where the tokenizer gives no offsets, or its control
        tokens cannot be told apart from text.
        """
        text_only, control = encoder.with_offsets(), control_tokens(encoder.tokenizer, template)
        if text_only.words.intersection(control):
            text_only = TextOnly.of(encoder.tokenizer, template=template)
        made = cls(encoder.tokenizer, text_only, control)
        made._check()
        return made

    @cached_property
    def finder(self) -> ControlTokens:
        """Finds the control tokens in texts."""
        return ControlTokens(list(self.control))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: self.tokenizer.convert_tokens_to_ids(token) for token in self.control}

    @cached_property
    def control_ids(self) -> frozenset[int]:
        return frozenset(self.ids.values())

    @cached_property
    def adds_bos(self) -> bool:
        return begins_with_bos(self.tokenizer)

    def encode(self, texts: Sequence[Rendered]) -> list[ChatTokens]:
        """Each text as a whole, nothing cut."""
        named = [_Named.of(one.text, self._written(one)) for one in texts]
        encodings = self.text_only.encodings([one.text for one in named])
        return [self._tokens(one, encoding) for one, encoding in zip(named, encodings, strict=True)]

    def _tokens(self, named: _Named, encoding: Any) -> ChatTokens:
        """Where the tokenizer does not find its own token (some look for `▁</s>`), it is encoded as text."""
        found = named.found(encoding)
        while not found.all():
            written = [one for one, yes in zip(named.written, found, strict=True) if yes]
            named = _Named.of(named.original, written)
            encoding = self.text_only.encodings([named.text])[0]
            found = named.found(encoding)
        return _tokens(encoding.ids, named.in_original(encoding.offsets))

    def _written(self, rendered: Rendered) -> Iterator[_Written]:
        """The template's own control tokens: all that are found outside of untrusted text."""
        text, finder = rendered.text, self.finder.tokens
        bounds = [0, *(place for span in rendered.untrusted for place in span), len(text)]
        for begin, end in zip(bounds[::2], bounds[1::2], strict=True):
            for match in finder.finditer(text, begin, end):
                if not self.control[match[0]].single_word or _stands_alone(text, *match.span()):
                    name = self.text_only.secret_names.get(match[0], match[0])
                    yield _Written(*match.span(), name, self.ids[match[0]])

    def _check(self) -> None:
        """UserError where a text with a control token gets other ids than the tokenizer gives it."""
        reference = self.tokenizer.backend_tokenizer
        reference.encode_special_tokens = False
        reference.no_truncation()
        reference.no_padding()
        probes = [
            Rendered(f"{token} a {token} b\n{token}" if one.single_word else f"{token} a{token}b\n{token}")
            for token, one in self.control.items()
        ]
        expected = reference.encode_batch([probe.text for probe in probes], add_special_tokens=False)
        for token, found, wanted in zip(self.control, self.encode(probes), expected, strict=True):
            if found.ids.tolist() != wanted.ids:
                raise UserError(
                    "this tokenizer cannot tell control tokens apart from text, so a user's text could steer the model",
                    found=token, expected=f"{wanted.tokens} for {token!r} between words", hint="Choose another tokenizer.",
                )  # fmt: skip


class _Written(NamedTuple):
    """A control token that a template wrote: its place in the text, its secret name and its id."""

    begin: int
    end: int
    name: str
    id: int


@dataclass(frozen=True)
class _Named:
    """A text with secret names in it. ends: where each name ends. growth: added length after n names."""

    original: str
    written: list[_Written]
    text: str
    ends: np.ndarray
    growth: np.ndarray

    @classmethod
    def of(cls, text: str, written: Iterable[_Written]) -> _Named:
        written = list(written)
        bounds = [0, *(place for one in written for place in one[:2]), len(text)]
        between = [text[begin:end] for begin, end in zip(bounds[::2], bounds[1::2], strict=True)]
        named = "".join(
            part for pair in zip(between, [one.name for one in written] + [""], strict=True) for part in pair
        )
        growth = np.cumsum([0, *(len(one.name) - (one.end - one.begin) for one in written)], dtype=np.int64)
        ends = np.array([one.end for one in written], dtype=np.int64) + growth[1:]
        return cls(text, written, named, ends, growth)

    def found(self, encoding: Any) -> np.ndarray:
        """bool per name: did the tokenizer find it?"""
        ids, ends = np.array(encoding.ids), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 1]
        places = np.searchsorted(ends, self.ends)
        inside = places < len(ids)
        wanted = np.array([one.id for one in self.written], dtype=np.int64)
        inside[inside] = ids[places[inside]] == wanted[inside]
        return inside

    def in_original(self, offsets: Sequence[Span]) -> np.ndarray:
        """Offsets of tokens in this text -> in the text without secret names. int64 `(length, 2)`."""
        places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        return places - self.growth[np.searchsorted(self.ends, places, side="right")]


def control_tokens(tokenizer: Any, template: str | None = None) -> dict[str, Any]:
    """Control token -> its `AddedToken`, with the flags of how it is found in a text; without the user's own words."""
    added, words = tokenizer.added_tokens_decoder.values(), own_words(tokenizer, template=template)
    control = (token for token in added if is_control(token.content, special=token.special))
    return {token.content: token for token in control if token.content not in words}


def begins_with_bos(tokenizer: Any) -> bool:
    """Does the tokenizer begin a text with its BOS token by itself?"""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def end_token(tokenizer: Any) -> str:
    """The token that ends a text: the tokenizer's end token, BERT's separator where it has none. UserError without either."""
    token = tokenizer.eos_token or tokenizer.sep_token
    if token is None:
        problem = "the tokenizer has no end token, so the model could not learn where to stop"
        raise missing_role(tokenizer, "eos", problem, where="model.tokenizer")
    return str(token)


def _stands_alone(text: str, begin: int, end: int) -> bool:
    """Is no letter next to it? So tokens that are whole words are found."""
    return not (_WORD.match(text[max(0, begin - 1) : begin]) or _WORD.match(text[end : end + 1]))


def _tokens(ids: Sequence[int], places: np.ndarray) -> ChatTokens:
    """Offsets leave out a token's leading space: here it begins where the token before it ends."""
    starts, ends = places[:, 0].copy(), places[:, 1]
    starts[1:] = np.minimum(starts[1:], ends[:-1])
    if len(starts):
        starts[0] = 0
    return ChatTokens(np.array(ids, dtype=np.int32), starts, ends)
