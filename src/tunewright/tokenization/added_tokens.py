"""Fits a tokenizer to its model: adds the user's words, drops token types where the model has none.

    new_tokens(tokenizer, ["metformin"])        [NewToken("metformin", 30522, (2777, 14192, 2378))]   met ##form ##in
    fit_tokenizer(tokenizer, source)            "metformin" is now one token, 30522
    own_words(tokenizer)                        frozenset({"metformin"}), also after saving and loading

A new embedding starts at the mean of the rows of its pieces (Hewitt 2021), see `models/resize_embeddings.py`. Added words are found in
every text, also inside other words, and also if they look like control tokens (`[E1]`), since the user added them. The tokenizer's
configuration lists them, so that this holds after saving and loading. A control token of the tokenizer cannot be added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright import hints
from tunewright.errors import UserError, did_you_mean, quoted
from tunewright.pretrained.model_files import ModelFolder

OWN_WORDS = "tunewright_added_tokens"
"""The key of tokenizer_config.json that lists the user's words. transformers keeps keys that it does not know."""
_LOOKS_LIKE_CONTROL = re.compile(r"<.*>|\[.*\]|\{.*\}|.*<\|.*\|>.*", re.DOTALL)
_ROLE_LIKE = re.compile(r"</?s>|<pad>|<unk>|<mask>|\[(PAD|UNK|CLS|SEP|MASK)\]|<\|[\w-]+\|>")
_WHERE = "model.add_tokens"


@dataclass(frozen=True)
class NewToken:
    """A token that is new in the vocabulary: its id, and the ids that its text was split into before."""

    token: str
    id: int
    pieces: tuple[int, ...]


def new_tokens(tokenizer: Any, tokens: Sequence[str]) -> list[NewToken]:
    """The tokens that a tokenizer, before it is extended, does not have, in order."""
    known = tokenizer.get_vocab()
    fresh = [token for token in dict.fromkeys(tokens) if token not in known]
    pieces = (tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"] for token in fresh)
    return [
        NewToken(token, len(tokenizer) + number, tuple(ids))
        for number, (token, ids) in enumerate(zip(fresh, pieces, strict=True))
    ]


def looks_like_control(token: str) -> bool:
    """Is a token spelled like a control token: `<s>`, `[SEP]`, `<|im_end|>`?"""
    return bool(_LOOKS_LIKE_CONTROL.fullmatch(token))


def own_words(tokenizer: Any, *, template: str | None = None) -> frozenset[str]:
    """The tokens that the user added to a tokenizer, whatever they look like. A registered special token is never one.

    template: text that the chat template itself writes (`<|im_end|>`), which is control in its chats.
    """
    named = tokenizer.init_kwargs.get(OWN_WORDS)
    if not isinstance(named, list):
        return frozenset()
    known = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    control = {*tokenizer.all_special_tokens, *(token for token, special in known.items() if special)}
    words = {word for word in named if isinstance(word, str) and word in known and word not in control}
    return frozenset(word for word in words if not (template and looks_like_control(word) and word in template))


def keep_control_as_text(tokenizer: Any) -> None:
    """Make other programs that open the saved tokenizer read control tokens in a text as text.

    A tokenizer written in Python would then split the user's words, too; there they are read as control.
    """
    _set_split(tokenizer, tokenizer.is_fast or not own_words(tokenizer))


def read_control_in_texts(tokenizer: Any) -> None:
    """Make other programs that open the saved tokenizer read control tokens in a text as control: for texts rendered by a template."""
    _set_split(tokenizer, False)


def _set_split(tokenizer: Any, split: bool) -> None:
    tokenizer.split_special_tokens = split
    tokenizer.init_kwargs |= {"split_special_tokens": split}


def fit_tokenizer(tokenizer: Any, source: ModelFolder) -> None:
    """Add the user's tokens; drop token types where the tokenizer comes from elsewhere and the model has none.

    UserError for a token that is, or holds, a control token of the tokenizer.
    """
    name_roles(tokenizer, dict(source.special_tokens))
    if source.added_tokens:
        _add(tokenizer, list(dict.fromkeys(source.added_tokens)))
    if isinstance(legacy := getattr(tokenizer, "legacy", None), bool):
        tokenizer.init_kwargs["legacy"] = legacy  # LlamaTokenizer depends on it, but does not save it
    names = tokenizer.model_input_names
    if source.tokenizer and source.json_file("config.json").get("type_vocab_size", 0) < 2 and "token_type_ids" in names:
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names


def name_roles(tokenizer: Any, roles: Mapping[str, str]) -> None:
    """Give tokens of the vocabulary the roles that the user names. UserError for an unknown token."""
    known = tokenizer.get_vocab()
    for role, token in roles.items():
        if token not in known:
            near = did_you_mean(token, control_candidates(tokenizer))
            raise UserError(
                f"{token!r} is not a token of this tokenizer",
                where=f"model.special_tokens.{role}",
                expected=f"one of {quoted(control_candidates(tokenizer), limit=6)}",
                hint=f"Did you mean {near!r}?" if near else None,
            )
        tokenizer.add_special_tokens({f"{role}_token": token})


def control_candidates(tokenizer: Any) -> list[str]:
    """Tokens that look like control tokens, in the order of ids: for messages."""
    vocabulary = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    found = [token for token in vocabulary if token in special or _ROLE_LIKE.fullmatch(token)]
    return sorted(found, key=vocabulary.__getitem__)


def _add(tokenizer: Any, words: list[str]) -> None:
    from tokenizers import AddedToken

    before = own_words(tokenizer)
    _refuse_control(tokenizer, [word for word in words if word not in before])
    normalized = _as_normalized(tokenizer, words)
    tokenizer.add_tokens([AddedToken(word, normalized=normalized[word]) for word in words if word not in before])
    tokenizer.init_kwargs[OWN_WORDS] = sorted({*before, *words})


def _refuse_control(tokenizer: Any, words: Sequence[str]) -> None:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    control = {*special, *tokenizer.all_special_tokens}
    templates = str(tokenizer.chat_template or "")
    written = {token for token in tokenizer.get_added_vocab() if looks_like_control(token) and token in templates}
    for word in words:
        if word in control | written:
            raise UserError(
                f"{word!r} is already a control token of this tokenizer, so it cannot be an added word",
                where=_WHERE,
                hint="Leave it out, or add a token with another name.",
            )
        if held := next((token for token in sorted(control) if len(token) > 1 and token in word), None):
            raise UserError(
                f"{word!r} contains {held!r}, a control token of this tokenizer",
                where=_WHERE,
                hint="Choose another name for it.",
            )


def _as_normalized(tokenizer: Any, words: Sequence[str]) -> dict[str, bool]:
    """Word -> is it searched in the normalized text (in any case, for an uncased tokenizer), or exactly as written?

    Exactly for words that look like control tokens or differ only by case, and where a normalizer changes a word depending on
    its context (one that puts a blank before a text): such a word would be missed.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = None if backend is None else backend.normalizer
    if normalizer is None:
        return dict.fromkeys(words, False)
    found = {word: normalizer.normalize_str(word) for word in words}
    forms = list(found.values())

    def holds_anywhere(word: str) -> bool:
        around = (normalizer.normalize_str(f"{one}{word}{one}") for one in ("", "a", "a ", "\n"))
        return bool(found[word]) and all(found[word] in text for text in around)

    return {
        word: not looks_like_control(word) and forms.count(found[word]) == 1 and holds_anywhere(word) for word in words
    }


def missing_role(tokenizer: Any, role: str, problem: str, *, where: str) -> UserError:
    """The error for a token that is needed but not named: with candidates of the tokenizer, and how to name one."""
    found = control_candidates(tokenizer)
    signs = "mask|fill" if role == "mask" else "eos|end|stop|eot|</s>|sep"
    fitting = next((token for token in found if re.search(signs, token, re.IGNORECASE)), None)
    example = fitting or (found[0] if found else None)
    shown = quoted(found, limit=6) if found else "no token that looks like one"
    name_it = "Name it" if fitting else f"Name the right one, for example {example}"
    hint = (
        f"{name_it}: 'model.special_tokens={{{role}: \"{example}\"}}', or {role}_token in tokenizer_config.json."
        if example
        else f"Choose a tokenizer that has one; `{hints.tokenizer_train()}` learns one with an end token."
    )
    return UserError(problem, where=where, found=shown, hint=hint)
