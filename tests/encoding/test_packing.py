"""Packing by hand: documents joined and cut, every token once, boundaries known, blocks that go on from batch to batch, strides."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.encoding.packing import Document, Packer, positions_within, predicted_tokens
from tunewright.tokenization.ragged import RaggedIds


@dataclass
class Letters:
    """An encoder that makes a token of every letter: a = 1, b = 2, …; 0 ends a document, 9 begins one where `begin` is set."""

    max_length: int
    begin: bool = False

    @property
    def tokenizer(self):
        return SimpleNamespace(eos_token_id=0, bos_token_id=None, sep_token_id=None)

    @property
    def template(self):
        return ((9,) if self.begin else ()), ()

    def bare_ids(self, texts):
        return RaggedIds.of([[ord(letter) - 96 for letter in text] for text in texts])


def packed(encoder: Letters, batches: list[list[Document]], **options) -> list[dict]:
    packer, rows = Packer(encoder, **options), []
    for batch in [*batches, None]:
        blocks = packer.finish() if batch is None else packer.add(batch)
        for number in range(len(blocks)):
            values = {name: column[number] for name, column in blocks.values.items()}
            rows.append({
                "ids": blocks[number].input_ids.tolist(), "example": int(blocks.example[number]), "part": int(blocks.part[number]),
                "supervised": int(blocks.num_supervised[number]),
                **{name: value if isinstance(value, int) else value.tolist() for name, value in values.items()},
            })  # fmt: skip
    return rows


def test_documents_are_joined_by_the_end_token_and_the_last_block_is_short():
    rows = packed(Letters(4), [[Document("ab"), Document("ce")]])
    assert [row["ids"] for row in rows] == [[0, 1, 2, 0], [3, 5, 0]]
    assert [row["segments"] for row in rows] == [[3, 1], [2, 1]]
    assert [row["joined"] for row in rows] == [[0, 1], [0, 1]]
    assert [row["supervised"] for row in rows] == [3, 2]  # all but each block's first token
    assert [row["num_targets"] for row in rows] == [3, 3]  # the stream's first token alone is nobody's target
    assert [row["num_bytes"] for row in rows] == [2, 2]


def test_a_start_token_of_its_own_is_not_shared_and_never_predicted():
    rows = packed(Letters(5, begin=True), [[Document("ab"), Document("c")]])
    assert [row["ids"] for row in rows] == [[9, 1, 2, 0, 9], [3, 0]]
    assert [row["segments"] for row in rows] == [[4, 1], [2]]
    assert [row["joined"] for row in rows] == [[0, 0], [0]]
    assert [row["supervised"] for row in rows] == [3, 1]
    assert [row["num_targets"] for row in rows] == [3, 2]


def test_pieces_of_one_document_get_no_end_between_them_but_do_not_see_each_other():
    pieces = [Document("ab", ends=False), Document("c", begins=False, ends=False), Document("d", begins=False)]
    (row,) = packed(Letters(9), [pieces])
    assert (row["ids"], row["segments"], row["joined"]) == ([0, 1, 2, 3, 4, 0], [3, 1, 1, 1], [0, 0, 0, 1])
    (row,) = packed(Letters(9), [[Document("a"), Document("b", begins=False)]])  # a whole document before a later piece
    assert (row["ids"], row["segments"], row["joined"]) == ([0, 1, 0, 2, 0], [2, 1, 1, 1], [0, 1, 0, 1])


def test_a_stride_repeats_tokens_as_context_and_predicts_each_once():
    rows = packed(Letters(4), [[Document("abcde")]], stride=2)  # the stream is 0 1 2 3 4 5 0
    assert [row["ids"] for row in rows] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0]]
    assert [row["num_context"] for row in rows] == [0, 2, 2]
    assert [row["supervised"] for row in rows] == [3, 2, 1]
    assert sum(row["num_bytes"] for row in rows) == 5


def test_positions_and_predicted_tokens():
    assert positions_within(np.array([3, 1, 2])).tolist() == [0, 1, 2, 0, 0, 1]
    found = predicted_tokens(np.array([3, 1, 2]), np.array([0, 1, 0]), 0)
    assert found.tolist() == [False, True, True, True, False, True]
    assert predicted_tokens(np.array([4]), np.array([0]), 3).tolist() == [False, False, False, True]


documents = st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=12)


@given(texts=documents, length=st.integers(2, 7), cut=st.integers(0, 12), begin=st.booleans())
def test_every_token_stands_in_one_block_and_batches_do_not_matter(texts, length, cut, begin):
    given_documents = [Document(text) for text in texts]
    encoder = Letters(length, begin)
    whole = packed(encoder, [given_documents])
    parts = packed(
        encoder, [given_documents[:cut], given_documents[cut:]] if 0 < cut < len(texts) else [given_documents]
    )
    plain = [9, *encoder.bare_ids([texts[0]]).ids, 0] if begin else [0]
    for text in texts[1:] if begin else texts:
        plain += [*([9] if begin else []), *encoder.bare_ids([text]).ids, 0]
    for rows in (whole, parts):
        assert [token for row in rows for token in row["ids"]] == plain
        assert all(len(row["ids"]) == length for row in rows[:-1])
        assert all(sum(row["segments"]) == len(row["ids"]) for row in rows)
        assert sum(row["num_bytes"] for row in rows) == sum(map(len, texts))
    same = ("ids", "segments", "joined", "supervised", "num_targets", "num_bytes")
    assert [[row[name] for name in same] for row in whole] == [[row[name] for name in same] for row in parts]


@given(texts=documents, length=st.integers(2, 7))
def test_an_example_and_a_part_name_one_block(texts, length):
    packer, seen, owner = Packer(Letters(length)), set(), None
    for number, text in enumerate(texts):
        blocks = packer.add([Document(text)])
        for example, part in zip(blocks.example, blocks.part, strict=True):
            key = (number if example == 0 else owner, int(part))
            assert key not in seen and key[0] is not None
            seen.add(key)
        owner = number if packer.carried == 0 else owner
    for _, part in zip(*(lambda last: (last.example, last.part))(packer.finish()), strict=True):
        assert (owner, int(part)) not in seen


@given(texts=documents, length=st.integers(2, 7), stride=st.integers(1, 7))
def test_a_stride_predicts_every_token_but_the_first_exactly_once(texts, length, stride):
    rows = packed(Letters(length), [[Document(text) for text in texts]], stride=stride)
    assert sum(row["num_targets"] for row in rows) == sum(map(len, texts)) + len(texts)
    if stride < length:
        assert sum(row["supervised"] for row in rows) == sum(map(len, texts)) + len(texts)


@pytest.mark.parametrize("shards", [1, 3, 1000])
def test_shards_end_with_a_short_block_and_lose_no_token(tmp_path, monkeypatch, shards, tiny_bert):
    from tunewright.batching import store
    from tunewright.preparation import encode

    monkeypatch.setattr(encode, "_ENCODE_ROWS", 2)
    monkeypatch.setattr(store, "_TOKENS_PER_SHARD", shards)
    found = stored(tmp_path, tiny_bert)
    counted = sum(len(row) for row in found)
    assert counted == sum(len(row) for row in stored(tmp_path / "other", tiny_bert, shard_tokens=10**9))
    assert max(map(len, found)) <= 8


def stored(folder, model, *, shard_tokens: int | None = None) -> list[np.ndarray]:
    from tunewright.batching import store as stores
    from tunewright.batching.store import SplitWriter, finish_store
    from tunewright.preparation.encode import SplitEncoder
    from tunewright.pretrained.model_files import locate_model
    from tunewright.reading.columns import TextColumns
    from tunewright.reading.ledger import Ledger, RejectFile
    from tunewright.records import Example, Row
    from tunewright.tasks.clm import Task
    from tunewright.tokenization.encoder import load_encoder

    folder.mkdir(exist_ok=True)
    task, encoder = Task(TextColumns(("text",))), load_encoder(locate_model(str(model)), max_length=8)
    writer = SplitWriter(folder, "train", task.label_schema(), type_ids=False)
    if shard_tokens is not None:
        stores._TOKENS_PER_SHARD = shard_tokens
    with RejectFile(folder / "rejected.jsonl") as rejects:
        waiting = SplitEncoder(writer, task, encoder, Ledger(), rejects, ["a.txt"])
        for number, text in enumerate(["where is my parcel", "no", "it was charged twice", "hello there", "a b c"]):
            waiting.add(number, 0, Row("a.txt", number + 1, {"text": text}), lambda text=text: Example(text))
        shards = waiting.finish()
    assert sum(shard["examples"] for shard in shards) == 5
    split = finish_store(folder, "", {"train": shards}, {"sources": ["a.txt"]})["train"]
    assert len(set(split.keys.tolist())) == len(split)
    assert sum(shard["tokens"] for shard in shards) == int(split.lengths.sum())
    return [split.input_ids(row) for row in range(len(split))]
