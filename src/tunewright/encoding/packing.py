"""Documents -> one stream of tokens -> blocks of equal length: what causal models are trained on.

    "Hello there", "Bye" with <|endoftext|> = 0, blocks of 4 tokens
    stream      0 31 32 0 35 0        every document begins after an end token, the last one ends with one
    blocks     [0 31 32 0] [35 0]     the last one holds the rest
    segments   [3 1]       [1 1]      tokens that attend to each other: documents are isolated
    joined     [0 1]       [0 1]      is a segment's first token predicted by the one before it?

Where a tokenizer starts texts with a token of its own (`<s>`), a document is `<s> text </s>` and nothing is shared: joined is 0.
A block's first token is only context. With a stride, blocks overlap: tokens that the block before has predicted are context, not targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.tokenization.added_tokens import missing_role
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder
from tunewright.tokenization.ragged import RaggedIds

BLOCK_COLUMNS = ("segments", "joined", "num_context", "num_targets", "num_bytes")
"""Columns of a block: two int32 lists, and three numbers: tokens repeated from the block before, tokens that a reader of the
whole stream predicts, bytes of the texts that begin in the block."""


@dataclass(frozen=True)
class Document:
    """A text, or a piece of one: `begins` and `ends` say whether it holds the beginning and end of the document."""

    text: str
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Frame:
    """The tokens before and after a document. shared: the end token of one document is the beginning of the next."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    shared: bool

    @classmethod
    def of(cls, encoder: TextEncoder) -> Frame:
        """The tokenizer's template, completed: a document ends with the end token, and begins after one unless the template has a beginning."""
        return cls.around(encoder.tokenizer, *encoder.template)

    @classmethod
    def around(cls, tokenizer: Any, before: Sequence[int], after: Sequence[int]) -> Frame:
        """The same of a tokenizer whose template puts these tokens around a text."""
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            raise missing_role(tokenizer, "eos", "the tokenizer has no token that ends a text", where="model.tokenizer")
        before, after = tuple(before), tuple(after)
        if not before:
            before = (end,) if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
        after = after if after[-1:] == (end,) else (*after, end)
        return cls(before, after, shared=before == after)


@dataclass
class _Stream:
    """Tokens that are not yet in a block, T of them. owner: position in the batch of the example a token is of, -1 for an earlier one."""

    ids: np.ndarray
    opens: np.ndarray
    """Does a token begin a segment?"""
    predicted: np.ndarray
    """Is it predicted by the token before it?"""
    target: np.ndarray
    """Would a reader of the whole stream predict it? All but a document's own start token."""
    num_bytes: np.ndarray
    """Of the text that begins here."""
    owner: np.ndarray

    @classmethod
    def empty(cls) -> _Stream:
        return cls(*(np.zeros(0, dtype) for dtype in (np.int32, bool, bool, bool, np.int64, np.int64)))

    def __add__(self, other: _Stream) -> _Stream:
        return _Stream(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __getitem__(self, span: slice) -> _Stream:
        return _Stream(*(column[span] for column in vars(self).values()))

    def __len__(self) -> int:
        return len(self.ids)


class Packer:
    """Packs the documents of one split, batch by batch; tokens that do not fill a block wait for the next batch.

    stride: None, or the number of new tokens per block: the rest of it repeats the block before, as context.
    """

    def __init__(self, encoder: TextEncoder, *, stride: int | None = None) -> None:
        self.encoder, self.frame, self.length = encoder, Frame.of(encoder), encoder.max_length
        self.stride = min(stride or self.length, self.length)
        self._waiting = _Stream.empty()
        self._open_end = False  # an end token that may become the next document's start
        self._num_context = 0
        self._part = 0
        self._last_owner: int | None = None
        self.carried = -1
        """Position in the last batch of the document that the next block begins in; -1: one before that batch."""

    def add(self, documents: Sequence[Document]) -> EncodedRows:
        """The blocks that are full now. `example` counts from the batch's first document; -1: the block began before."""
        texts = self.encoder.bare_ids([document.text for document in documents])
        self._waiting += self._stream(documents, texts)
        blocks = self._blocks(whole=False)
        self._forget_owners(len(documents))
        return blocks

    def finish(self) -> EncodedRows:
        """The last block, with the rest; no row where there is none."""
        self._close()
        blocks = self._blocks(whole=True)
        self._waiting, self._num_context, self._part, self._last_owner = _Stream.empty(), 0, 0, None
        return blocks

    def _forget_owners(self, num_documents: int) -> None:
        """End of the batch: tokens that wait belong to an earlier document from now on."""
        owners = self._waiting.owner[self._num_context :]
        self.carried = int(owners[0]) if len(owners) else num_documents - 1
        self._last_owner = -1 if self._last_owner == self.carried else None
        self._waiting.owner[:] = -1

    def _stream(self, documents: Sequence[Document], texts: RaggedIds) -> _Stream:
        columns: list[list[np.ndarray]] = [[] for _ in vars(self._waiting)]

        def put(ids: np.ndarray, *, opens: bool, predicted: bool, target: bool, num_bytes: int = 0, owner: int) -> None:
            count = len(ids)
            first = np.zeros(count, bool)
            first[:1] = True
            follows = np.where(first, predicted, True)
            values = (
                ids, first & opens, follows, np.where(first, target, True), np.where(first, num_bytes, 0), np.full(count, owner),
            )  # fmt: skip
            for column, value in zip(columns, values, strict=True):
                column.append(value)

        before, after = (np.array(side, np.int32) for side in (self.frame.before, self.frame.after))
        for number, document in enumerate(documents):
            ids = texts.ids[texts.offsets[number] : texts.offsets[number + 1]]
            size = len(document.text.encode("utf-8", "surrogatepass"))
            if self._open_end and not document.begins:
                put(after, opens=True, predicted=True, target=True, owner=number - 1)
                self._open_end = False
            if document.begins:
                put(before, opens=True, predicted=self._open_end, target=self._open_end, owner=number)
            put(ids, opens=not document.begins, predicted=document.begins, target=True, num_bytes=size, owner=number)
            self._open_end = document.ends and self.frame.shared
            if document.ends and not self.frame.shared:
                put(after, opens=False, predicted=True, target=True, owner=number)
        return _Stream(
            *(
                np.concatenate(column).astype(old.dtype)
                for column, old in zip(columns, vars(self._waiting).values(), strict=True)
            )
        )

    def _close(self) -> None:
        """Add the last document's end token, unless the next document's start has served as one."""
        if self._open_end:
            true = np.array([True])
            ids, owner = np.array(self.frame.after, np.int32), np.array([-1])
            self._waiting += _Stream(ids, true, true, true, np.zeros(1, np.int64), owner)
            self._open_end = False

    def _blocks(self, *, whole: bool) -> EncodedRows:
        """Cut full blocks off the front; with `whole` also the rest."""
        cuts: list[tuple[int, int, int]] = []  # start, stop, tokens of context
        start, context, count = 0, self._num_context, len(self._waiting)
        while start + self.length <= count or (whole and start + context < count):
            stop = min(start + self.length, count)
            cuts.append((start, stop, context))
            start, context = (
                (start + self.stride, self.length - self.stride) if stop - start == self.length else (count, 0)
            )
        stream, self._waiting = self._waiting, self._waiting[slice(start, None)]
        self._num_context = context
        return self._rows(stream, cuts)

    def _rows(self, stream: _Stream, cuts: Sequence[tuple[int, int, int]]) -> EncodedRows:
        values: dict[str, list] = {name: [] for name in BLOCK_COLUMNS}
        pieces, owners, parts, supervised = [], [], [], []
        for start, stop, context in cuts:
            block = stream[slice(start, stop)]
            begins = np.flatnonzero(block.opens[1:]) + 1
            begins = np.concatenate([[0], begins])
            new = slice(max(1, context), None)
            values["segments"].append(np.diff([*begins, len(block)]).astype(np.int32))
            values["joined"].append(np.where(begins == 0, False, block.predicted[begins]).astype(np.int32))
            values["num_context"].append(context)
            values["num_targets"].append(int(block.target[context:].sum()))
            values["num_bytes"].append(int(block.num_bytes[context:].sum()))
            supervised.append(int(block.predicted[new].sum()))
            owner = int(block.owner[context])
            self._part = self._part + 1 if owner == self._last_owner else 0
            self._last_owner = owner
            pieces.append(block.ids)
            owners.append(owner)
            parts.append(self._part)
        num_rows = len(pieces)
        return EncodedRows(
            input_ids=np.concatenate(pieces) if pieces else np.zeros(0, np.int32),
            offsets=np.cumsum([0, *map(len, pieces)]).astype(np.int64),
            token_type_ids=None,
            num_cut=np.zeros(num_rows, np.int32),
            num_supervised=np.array(supervised, np.int32),
            example=np.array(owners, np.int64),
            part=np.array(parts, np.int32),
            values=values,
        )


def predicted_tokens(segments: np.ndarray, joined: np.ndarray, num_context: int) -> np.ndarray:
    """bool `(length,)`: is a token predicted by the one before it? Never the first of a block."""
    predicted = np.ones(int(segments.sum()), bool)
    predicted[np.cumsum([0, *segments[:-1]])] = joined.astype(bool)
    predicted[: max(1, num_context)] = False
    return predicted


def positions_within(segments: np.ndarray) -> np.ndarray:
    """int64 `(length,)`: 0, 1, 2 … in each segment. [3 1] -> [0 1 2 0]"""
    ends = np.cumsum(segments)
    return np.arange(ends[-1]) - np.repeat(ends - segments, segments)
