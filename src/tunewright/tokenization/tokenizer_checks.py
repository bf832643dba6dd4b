"""Does a tokenizer fit its model and the texts? Said before training: `prepare` asks, `check` and `train` show.

check_vocabulary(tokenizer, source)         UserError: the tokenizer knows 30,523 tokens; expected at most 30,522
match(tokenizer, source, texts).findings    ["4.1 % of the tokens are [UNK], which says nothing. …"]
match(tokenizer, source, texts).hints       ["The tokenizer does not see upper case (3.9 % of the letters). …"]
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright import hints
from tunewright.errors import UserError, quoted
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.plain import TextOnly

SAMPLE_ROWS = 512
_UNKNOWN_SHARE, _CASE_SHARE, _ACCENT_SHARE = 0.01, 0.005, 0.002
_ROLES = {"pad": "padding", "bos": "start", "eos": "end"}
_SAMPLE_CHARACTERS = 20_000


@dataclass(frozen=True)
class Match:
    """findings: what will hurt. hints: what the model cannot see in these texts, and may be meant so. A sentence or two each."""

    findings: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def check_vocabulary(tokenizer: Any, source: ModelFolder) -> None:
    """UserError when text can become an id that the model has no embedding for."""
    rows = source.json_file("config.json").get("vocab_size")
    if not isinstance(rows, int):
        return
    rows += len(source.added_tokens)
    control = set(tokenizer.all_special_ids)
    vocabulary = tokenizer.get_vocab()
    beyond = sorted((number, piece) for piece, number in vocabulary.items() if number >= rows and number not in control)
    if beyond:
        raise UserError(
            "the tokenizer has more tokens than the model has embeddings",
            where=f"model {source.name}",
            found=f"{max(vocabulary.values()) + 1:,} tokens ({quoted([piece for _, piece in beyond], limit=4)})",
            expected=f"at most {rows:,}",
            hint="Set model.tokenizer to one that fits, or to the model's own by leaving it out; if it is the model's own, the folder mixes two models.",
        )


def match(tokenizer: Any, source: ModelFolder, texts: Sequence[str]) -> Match:
    """Compare special ids with the model's config, and look at what happens to a sample of the texts."""
    texts = [text[:_SAMPLE_CHARACTERS] for text in texts]
    ids_of = TextOnly.of(tokenizer)
    return Match(
        findings=[*_other_specials(tokenizer, source), *_unknowns(tokenizer, ids_of, texts)],
        hints=[*_lost_case(ids_of, texts), *_lost_accents(ids_of, texts)],
    )


def _other_specials(tokenizer: Any, source: ModelFolder) -> Iterator[str]:
    config = source.json_file("config.json")
    for role, name in _ROLES.items():
        ours, theirs = getattr(tokenizer, f"{role}_token_id"), config.get(f"{role}_token_id")
        known = theirs if isinstance(theirs, list) else [theirs]
        if ours is not None and theirs is not None and ours not in known:
            token = getattr(tokenizer, f"{role}_token")
            yield (
                f"The tokenizer's {name} token is {ours} ({token!r}), the model was made with {theirs}. "
                "Take the tokenizer that belongs to the model."
            )


def _unknowns(tokenizer: Any, ids_of: TextOnly, texts: Sequence[str]) -> Iterator[str]:
    unknown = tokenizer.unk_token_id
    rows = ids_of(texts) if unknown is not None else []
    num_unknown, num_tokens = sum(row.count(unknown) for row in rows), sum(map(len, rows))
    if num_unknown > _UNKNOWN_SHARE * num_tokens:
        yield (
            f"{num_unknown / num_tokens:.1%} of the tokens are {tokenizer.unk_token}, which says nothing. Choose a model whose "
            f"tokenizer knows these texts: `{hints.tokenizer_compare()}`."
        )


def _lost_case(ids_of: TextOnly, texts: Sequence[str]) -> Iterator[str]:
    upper, lower = ids_of(["Word WORD", "word word"])
    letters = sum(character.isalpha() for text in texts for character in text)
    capitals = sum(character.isupper() for text in texts for character in text)
    if upper == lower and capitals > _CASE_SHARE * letters:
        yield (
            f"The tokenizer does not see upper case ({capitals / letters:.1%} of the letters here). "
            "Where case tells something (names, shouting), take a cased model."
        )


def _lost_accents(ids_of: TextOnly, texts: Sequence[str]) -> Iterator[str]:
    with_accents, without = ids_of(["é ö ñ", "e o n"])
    letters = [character for text in texts for character in text if character.isalpha()]
    accented = sum(character > "\x7f" and len(unicodedata.normalize("NFD", character)) > 1 for character in letters)
    if with_accents == without and accented > _ACCENT_SHARE * len(letters):
        yield (
            f"The tokenizer does not see accents ({accented / len(letters):.1%} of the letters here). "
            "Where they tell words apart, take another model."
        )
