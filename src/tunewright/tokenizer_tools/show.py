"""One text as a tokenizer sees it: every token with its place, its word and its role, and what truncation took away.

    shown = tokenize("bert-base-cased", "The quick brown fox")
    shown.tokens[1]       Token("The", 1109, start=0, end=3, word=0, mask=1, type=0, part="text")
    shown.input_ids       [101, 1109, 3613, 3058, 17594, 102]
    shown.decoded         "[CLS] The quick brown fox [SEP]"

Encoded by the path that training takes, so control tokens typed into the text are text here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tunewright.errors import check_choice, counted
from tunewright.pretrained.model_files import ModelFolder, tokenizer_source
from tunewright.reporting import html
from tunewright.tokenization.encoder import TextEncoder, load_encoder
from tunewright.tokenization.template import kept_lengths

_TOKENS_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Token:
    """token: the vocabulary's entry; text: what it stands for.

    start, end: characters of its own text, end exclusive; word: number of the pre-token. None where there are none.

    mask: 0 on padding. type: token type id, None for tokenizers that have none. part: text, pair, special or padding.
    """

    token: str
    id: int
    start: int | None
    end: int | None
    word: int | None
    mask: int
    type: int | None
    part: str
    text: str = ""


@dataclass(frozen=True, repr=False)
class TokenizedText:
    """A text (and its pair) through one tokenizer. cut: tokens that truncation removed, of text and pair.

    decoded: what the ids say, padding left out.
    """

    model: str
    max_length: int
    tokens: list[Token]
    cut: list[Token]
    decoded: str

    @property
    def input_ids(self) -> list[int]:
        """The number of each token in the vocabulary."""
        return [token.id for token in self.tokens]

    @property
    def token_type_ids(self) -> list[int] | None:
        """0 in the first text, 1 in its pair; None for tokenizers that have none."""
        types = [token.type for token in self.tokens if token.type is not None]
        return types or None

    @property
    def attention_mask(self) -> list[int]:
        """0 on padding, 1 elsewhere."""
        return [token.mask for token in self.tokens]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, under Hugging Face names."""
        tokens = self.tokens
        return {
            "model": self.model,
            "max_length": self.max_length,
            "tokens": [token.token for token in tokens],
            "texts": [token.text for token in tokens],
            "input_ids": self.input_ids,
            "offsets": [None if token.start is None else [token.start, token.end] for token in tokens],
            "word_ids": [token.word for token in tokens],
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
            "parts": [token.part for token in tokens],
            "decoded": self.decoded,
            "num_cut": len(self.cut),
            "cut": [{"token": token.token, "id": token.id, "part": token.part} for token in self.cut],
        }

    def __repr__(self) -> str:
        words = " ".join(token.token for token in self.tokens[:_TOKENS_SHOWN])
        more = f" and {len(self.tokens) - _TOKENS_SHOWN} more" if len(self.tokens) > _TOKENS_SHOWN else ""
        cut = f", {counted(len(self.cut), 'token')} cut" if self.cut else ""
        return f"{counted(len(self.tokens), 'token')} of {self.model}{cut}\n  {words}{more}"

    def _repr_html_(self) -> str:
        head = ("token", "id", "type", "mask", "part")
        rows = [
            (token.token, token.id, "" if token.type is None else token.type, token.mask, token.part)
            for token in self.tokens
        ]
        return html.table(head, rows, title=repr(self).partition("\n")[0])


def tokenize(
    model: str | Path, text: str, pair: str | None = None, *, max_length: int | None = None,
    padding: Literal["longest", "max_length"] = "longest", padding_side: Literal["auto", "right", "left"] = "auto",
    truncation_side: Literal["right", "left"] = "right",
) -> TokenizedText:  # fmt: skip
    """A text, or a pair, as a model sees it: tokens, ids, type ids and mask. UserError for what is no tokenizer, and for an unknown value.

    model: a folder with a model or a tokenizer, package:NAME, or a Hub id. max_length: of the row, special tokens included; None: the
    model's, at most 512. padding: `max_length` fills the row up; `longest` adds nothing to a single text. padding_side: `auto` is the
    tokenizer's own. truncation_side: where a longer row is cut.
    """
    check_choice("padding", padding, ("longest", "max_length"))
    check_choice("padding_side", padding_side, ("auto", "right", "left"))
    check_choice("truncation_side", truncation_side, ("right", "left"))
    return show(
        tokenizer_source(str(model)), text, pair, max_length=max_length or "auto", padding=padding,
        padding_side=padding_side, truncation_side=truncation_side,
    )  # fmt: skip


def show(
    source: ModelFolder,
    text: str,
    pair: str | None = None,
    *,
    max_length: int | str = "auto",
    padding: str = "longest",
    padding_side: str = "auto",
    truncation_side: str = "right",
) -> TokenizedText:
    """Encode a text, or a pair. UserError for a tokenizer or a length that cannot be used."""
    encoder = load_encoder(
        source, max_length=max_length, truncation_side=truncation_side, padding_side=padding_side,
        pads=padding == "max_length",
    )  # fmt: skip
    encoded = encoder.encode([text], None if pair is None else [pair])[0]
    ids = [int(number) for number in encoded.input_ids]
    types = None if encoded.token_type_ids is None else [int(number) for number in encoded.token_type_ids]
    if types is None and "token_type_ids" in encoder.tokenizer.model_input_names:
        types = [0] * len(ids)
    bodies = [_bodies(encoder, one, part) for one, part in ((text, "text"), (pair, "pair")) if one is not None]
    kept, cut = _cut(encoder, bodies, encoded.num_cut)
    tokens = list(_placed(encoder, ids, types, kept))
    decoded = encoder.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    padded = _with_texts(encoder, _padded(encoder, tokens, padding))
    return TokenizedText(source.name, encoder.max_length, padded, _with_texts(encoder, cut), decoded)


def _with_texts(encoder: TextEncoder, tokens: Sequence[Token]) -> list[Token]:
    texts = encoder.texts([token.id for token in tokens])
    return [replace(token, text=text) for token, text in zip(tokens, texts, strict=True)]


def _bodies(encoder: TextEncoder, text: str, part: str) -> list[Token]:
    """The tokens of one text alone, with their places where the tokenizer can tell them."""
    if not encoder.tokenizer.is_fast:
        ids = encoder.bare_ids([text]).ids.tolist()
        return [
            Token(token, number, None, None, None, 1, None, part)
            for token, number in zip(encoder.tokens(ids), ids, strict=True)
        ]
    aligned = encoder.encode_with_offsets([text])[0]
    body = ~aligned.special_mask
    ids = [int(number) for number in aligned.input_ids[body]]
    places = zip(aligned.offsets_T2[body], aligned.word_ids[body], strict=True)
    return [
        Token(token, number, int(start), int(end), int(word), 1, None, part)
        for token, number, ((start, end), word) in zip(encoder.tokens(ids), ids, places, strict=True)
    ]


def _cut(encoder: TextEncoder, bodies: list[list[Token]], num_cut: int) -> tuple[list[list[Token]], list[Token]]:
    """(what is left of each text, what truncation removed)."""
    first, second = (np.array([length]) for length in [*map(len, bodies), 0][:2])
    room = int(first[0] + second[0]) - num_cut
    numbers = kept_lengths(first, second, room, odd_to_first=not encoder.tokenizer.is_fast)
    kept, cut = [], []
    for body, (number,) in zip(bodies, numbers, strict=False):
        start = 0 if encoder.truncation_side == "right" else len(body) - number
        kept.append(body[start : start + number])
        cut += [*body[:start], *body[start + number :]]
    return kept, cut


def _placed(
    encoder: TextEncoder, ids: Sequence[int], types: Sequence[int] | None, kept: list[list[Token]]
) -> Iterator[Token]:
    """The encoded row: template tokens where the texts do not stand. Pairs have the first text's end between them."""
    before, after = _around(encoder)
    between = len(ids) - before - after - sum(map(len, kept))
    inside: list[Token | None] = [*repeat(None, before), *kept[0], *repeat(None, between)]
    inside += [*chain(*kept[1:]), *repeat(None, after)]
    for position, (number, token) in enumerate(zip(ids, inside, strict=True)):
        kind = None if types is None else types[position]
        if token is None:
            yield Token(encoder.tokens([number])[0], number, None, None, None, 1, kind, "special")
        else:
            assert token.id == number, "the row and its texts disagree"
            yield Token(token.token, number, token.start, token.end, token.word, 1, kind, token.part)


def _around(encoder: TextEncoder) -> tuple[int, int]:
    """How many template tokens stand before and after a text."""
    empty, full = (list(encoder.encode([text])[0].input_ids) for text in ("", "a"))
    before = next((place for place, (a, b) in enumerate(zip(empty, full, strict=False)) if a != b), len(empty))
    return before, len(empty) - before


def _padded(encoder: TextEncoder, tokens: list[Token], padding: str) -> list[Token]:
    """`max_length`: filled up; `longest`: a row alone is its batch's longest."""
    if padding == "longest":
        return tokens
    number = encoder.pad_token_id
    kind = None if not tokens or tokens[0].type is None else 0
    filling = Token(encoder.tokens([number])[0], number, None, None, None, 0, kind, "padding")
    fill = [filling] * (encoder.max_length - len(tokens))
    return [*fill, *tokens] if encoder.padding_side == "left" else [*tokens, *fill]
