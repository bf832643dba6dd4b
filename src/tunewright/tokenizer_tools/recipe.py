"""What a tokenizer is to be: algorithm, size, special tokens, normalization, where words are split. Checked before any file is read.

Recipe(algorithm="wordpiece", vocab_size=8000)
  template bert     [CLS] text [SEP], pairs [CLS] a [SEP] b [SEP] with token types; [PAD] [UNK] [MASK] besides
  normalizers bert  control characters dropped, every kind of blank a blank, blanks around Chinese characters
  splits bert       at blanks and around punctuation
Recipe(algorithm="byte-bpe")
  template gpt      the text alone; <|endoftext|> starts and ends documents, <|pad|> pads
  splits gpt2       letters, digits, punctuation and blanks apart, one blank staying with the word after it
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tunewright.errors import UserError, check_choice, did_you_mean

Algorithm = Literal["bpe", "byte-bpe", "wordpiece", "unigram", "word", "char"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
TEMPLATES = ("bert", "gpt")
DEFAULT_SIZE = 8_000
_NUM_BYTES = 256
_DEFAULTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], int]] = {
    "bpe": ("gpt", (), ("metaspace",), 2),
    "byte-bpe": ("gpt", (), ("gpt2",), 2),
    "wordpiece": ("bert", ("bert",), ("bert",), 2),
    "unigram": ("bert", (), ("metaspace",), 1),
    "word": ("bert", ("bert",), ("bert",), 1),
    "char": ("bert", (), (), 1),
}
"""Algorithm -> template, normalizers, splits, least count."""
ROLES: dict[str, dict[str, str]] = {
    "bert": {
        "pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": "[CLS]", "eos": "[SEP]",
    },
    "gpt": {"pad": "<|pad|>", "unk": "<|unk|>", "bos": "<|endoftext|>", "eos": "<|endoftext|>"},
}  # fmt: skip
"""Template -> role -> token. Every tokenizer has an end token: causal models join documents with it."""
ROLE_NAMES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
"""What `--special role=token` can name, in any template: a gpt template with a mask serves masked models."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The wishes; empty ones are filled in by `resolved`. UserError for those that do not go together.

    special: `role=token` names the token of a role, anything else is one more special token. min_count: pieces (words, characters) seen less
    often are not learned.
    """

    algorithm: str
    vocab_size: int = DEFAULT_SIZE
    template: str | None = None
    special: tuple[str, ...] = ()
    normalizers: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    min_count: int | None = None

    def resolved(self) -> Recipe:
        """This recipe with every default in place."""
        check_choice("--algorithm", self.algorithm, ALGORITHMS)
        template, normalizers, splits, min_count = _DEFAULTS[self.algorithm]
        full = Recipe(
            algorithm=self.algorithm, vocab_size=self.vocab_size, template=self.template or template, special=self.special,
            normalizers=_without_none(self.normalizers, normalizers), splits=_without_none(self.splits, splits),
            min_count=min_count if self.min_count is None else self.min_count,
        )  # fmt: skip
        check_choice("--template", full.template or "", TEMPLATES)
        for name in full.normalizers:
            check_choice("--normalizer", name, tuple(_NORMALIZERS))
        for name in full.splits:
            check_choice("--pre-tokenizer", name, tuple(_SPLITS))
        full._refuse_shared_tokens()
        full._refuse_contradictions(self)
        return full

    def _refuse_contradictions(self, wished: Recipe) -> None:
        if self.algorithm == "unigram" and wished.min_count is not None:
            raise UserError(
                "unigram has no minimum frequency",
                where="--min-frequency",
                hint="Leave it out.",
            )
        if self.algorithm == "char" and wished.splits:
            raise UserError(
                "the char algorithm does not split into words", where="--pre-tokenizer", hint="Leave it out."
            )
        if self.algorithm != "byte-bpe" and "gpt2" in self.splits:
            raise UserError(
                "the gpt2 pre-tokenizer needs byte-bpe",
                where="--pre-tokenizer",
                found=self.algorithm,
                hint="Set --algorithm byte-bpe.",
            )
        least = len(self.specials()) + (_NUM_BYTES if self.algorithm == "byte-bpe" else 1)
        if self.vocab_size < least:
            raise UserError(
                "the vocabulary is too small for the special tokens and the alphabet",
                where="--vocab-size",
                found=str(self.vocab_size),
                expected=f"at least {least}",
                hint=f"Set --vocab-size {least} or more.",
            )

    def roles(self) -> dict[str, str]:
        """Role -> token, the user's names in place. Bytes know no unknown.

        A role that shares a template's token (gpt: `<|endoftext|>` begins and ends documents) follows the other's name, unless it
        has one of its own.
        """
        assert self.template is not None
        usual, named = dict(ROLES[self.template]), self._named()
        if self.algorithm == "byte-bpe":
            del usual["unk"]
        roles = dict(usual)
        for role, token in named.items():
            followers = [other for other in usual if usual[other] == usual.get(role) and other not in named]
            roles |= dict.fromkeys([role, *followers], token)
        return roles

    def specials(self) -> list[str]:
        """Every special token, in the order of its id."""
        more = [wish for wish in self.special if _role_of(wish) is None]
        return list(dict.fromkeys([*self.roles().values(), *more]))

    def _named(self) -> dict[str, str]:
        """Role -> token, as the user names them. UserError for a role that is none, or that has two tokens."""
        named: dict[str, str] = {}
        for wish in self.special:
            role = _role_of(wish)
            if role is None:
                continue
            token = wish.partition("=")[2]
            self._refuse_role(role, token, wish)
            if named.setdefault(role, token) != token:
                raise UserError(
                    f"the role {role} has two tokens",
                    where="--special",
                    found=f"{named[role]!r} and {token!r}",
                    hint="Name one.",
                )
        return named

    def _refuse_role(self, role: str, token: str, wish: str) -> None:
        if role not in ROLE_NAMES:
            near = did_you_mean(role.removesuffix("_token"), ROLE_NAMES)
            raise UserError(
                f"there is no role {role!r}",
                where=f"--special {wish}",
                expected=", ".join(ROLE_NAMES),
                hint=f"Did you mean {near}={token}?" if near else "Name a role, or give the token alone, without `=`.",
            )
        if not token.strip():
            raise UserError(
                f"the role {role} has no token",
                where=f"--special {wish}",
                hint=f"Write the token after the equals sign: {role}=TOKEN.",
            )
        if role == "unk" and self.algorithm == "byte-bpe":
            raise UserError(
                "byte-bpe knows every byte and has no unknown token", where=f"--special {wish}", hint="Leave it out."
            )

    def _refuse_shared_tokens(self) -> None:
        """UserError where the unknown token, or the mask, would be another role's token too: their rows mean something of their own."""
        roles = self.roles()
        for role in ("unk", "mask"):
            others = [other for other, token in roles.items() if other != role and token == roles.get(role)]
            if others:
                raise UserError(
                    f"the roles {role} and {others[0]} have the same token",
                    where="--special",
                    found=repr(roles[role]),
                    hint=f"Give {role} a token of its own: --special {role}=TOKEN.",
                )

    def normalizer(self) -> Any | None:
        from tokenizers import normalizers

        made = [_NORMALIZERS[name](normalizers) for name in self.normalizers]
        return None if not made else made[0] if len(made) == 1 else normalizers.Sequence(made)

    def pre_tokenizer(self) -> Any | None:
        """Where words are split. byte-bpe ends with the step that turns bytes into characters."""
        from tokenizers import pre_tokenizers

        if self.algorithm == "char":
            return split_characters()
        made = [_SPLITS[name](pre_tokenizers) for name in self.splits if name != "gpt2"]
        if self.algorithm == "byte-bpe":
            made.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex="gpt2" in self.splits))
        return None if not made else made[0] if len(made) == 1 else pre_tokenizers.Sequence(made)


def _role_of(wish: str) -> str | None:
    """`bos=<s>` names a role; `<a=b>`, `==` and `<s>` are tokens."""
    found = re.match(r"([A-Za-z][A-Za-z_]*)=", wish)
    return found[1] if found else None


def split_characters() -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")


_NORMALIZERS: dict[str, Callable[[Any], Any]] = {
    "nfc": lambda room: room.NFC(),
    "nfd": lambda room: room.NFD(),
    "nfkc": lambda room: room.NFKC(),
    "nfkd": lambda room: room.NFKD(),
    "lowercase": lambda room: room.Lowercase(),
    "strip-accents": lambda room: room.Sequence([room.NFD(), room.StripAccents(), room.NFC()]),
    "bert": lambda room: room.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
    ),
}
_SPLITS: dict[str, Callable[[Any], Any]] = {
    "bert": lambda room: room.BertPreTokenizer(),
    "whitespace": lambda room: room.WhitespaceSplit(),
    "punctuation": lambda room: room.Punctuation(),
    "digits": lambda room: room.Digits(individual_digits=True),
    "metaspace": lambda room: room.Metaspace(),
    "gpt2": lambda room: None,  # a part of ByteLevel: see pre_tokenizer
}
NORMALIZERS, SPLITS = (*_NORMALIZERS, "none"), (*_SPLITS, "none")


def _without_none(wished: tuple[str, ...], usual: tuple[str, ...]) -> tuple[str, ...]:
    """`none` clears the defaults; `lowercase` alone adds to them, since nobody means it to replace the cleaning."""
    if set(wished) == {"lowercase"}:
        return (*usual, "lowercase")
    return tuple(name for name in wished if name != "none") if wished else usual
