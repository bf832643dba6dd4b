"""Tokenizers learned from texts: literal vocabularies, lossless round trips, the same files every time, opened by AutoTokenizer."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import tunewright as tw
from tests.conftest import messages, write_jsonl
from tunewright.errors import UserError
from tunewright.models.loading import load_pretrained
from tunewright.pretrained.model_files import locate_model, tokenizer_source
from tunewright.tokenization.encoder import load_encoder
from tunewright.tokenizer_tools.corpus import Corpus, pieces
from tunewright.tokenizer_tools.recipe import ALGORITHMS, Recipe
from tunewright.tokenizer_tools.train import _in_order, learn, save


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("learn") / "data.jsonl"
    return str(write_jsonl(path, messages(200)))


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory) -> dict[str, Path]:
    """One tokenizer of each algorithm."""
    root = tmp_path_factory.mktemp("tokenizers")
    for algorithm in ALGORITHMS:
        save(learn(Corpus.open([data]), Recipe(algorithm=algorithm, vocab_size=500)), root / algorithm)
    return {algorithm: root / algorithm for algorithm in ALGORITHMS}


def test_a_tokenizer_from_python_is_that_of_the_command(data, folders, tmp_path):
    rows = messages(200)
    for number, texts in enumerate((data, [data], rows)):
        made = tw.train_tokenizer(texts, "wordpiece", output=tmp_path / str(number), vocab_size=500, text="text")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (made / name).read_bytes() == (folders["wordpiece"] / name).read_bytes()


def test_a_tokenizer_from_python_names_its_arguments(data, tmp_path):
    notes: list[str] = []
    tw.train_tokenizer(
        [{"text": "aaa bb bb c c c d"}], "bpe", output=tmp_path / "small", vocab_size=8, say=notes.append
    )
    assert "Raise vocab_size to learn them." in notes[-1]
    with pytest.raises(UserError, match=r"^vocab_size: .*Set vocab_size \d+ or more\.$"):
        tw.train_tokenizer(data, output=tmp_path / "x", vocab_size=3)
    with pytest.raises(UserError, match=r"^pre_tokenizers: the gpt2 pre-tokenizer needs byte-bpe"):
        tw.train_tokenizer(data, "bpe", output=tmp_path / "x", pre_tokenizers=["gpt2"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UserError, match=f"^output {tmp_path / 'full'}: the output holds other files"):
        tw.train_tokenizer(data, output=tmp_path / "full")
    assert not (tmp_path / "x").exists()


def learned_on(tmp_path: Path, lines: str, **wishes):
    path = tmp_path / "texts.txt"
    path.write_text(lines, encoding="utf-8")
    return learn(Corpus.open([str(path)]), Recipe(**wishes))


def in_order(rust) -> list[str]:
    vocabulary = rust.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_words_and_characters_by_hand(tmp_path):
    words = learned_on(tmp_path, "a b a\nb a c\n", algorithm="word", vocab_size=7)
    assert in_order(words.rust) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    assert words.rust.encode("b c").tokens == ["[CLS]", "b", "[UNK]", "[SEP]"]
    characters = learned_on(tmp_path, "ab\na\n\nb\n", algorithm="char")
    assert in_order(characters.rust)[5:] == ["\n", "a", "b"], "line ends of a plain text file are characters too"
    assert characters.notes == []


def test_pieces_by_hand(tmp_path):
    """`ab` is the only pair seen twice or more; in WordPiece its second letter is a continuation."""
    pairs = learned_on(tmp_path, "ab ab ab\n", algorithm="wordpiece", vocab_size=100)
    assert in_order(pairs.rust)[5:] == ["##b", "a", "b", "ab"]
    assert "The vocabulary has 9 entries, not 100" in pairs.notes[0]
    byte_pairs = learned_on(tmp_path, "ab ab ab\n", algorithm="byte-bpe", vocab_size=260)
    assert in_order(byte_pairs.rust)[:2] == ["<|pad|>", "<|endoftext|>"]
    assert in_order(byte_pairs.rust)[258:] == ["ab", "Ġab"]


def test_rare_characters_are_left_out_and_named(tmp_path):
    learned = learned_on(tmp_path, "aaa bb bb c c c d\n", algorithm="bpe", vocab_size=8)
    assert "rare characters did not fit" in " ".join(learned.notes)
    assert learned.vocab_size <= 8


def test_unigram_scores_are_put_in_order():
    pieces = [["[UNK]", 0.0], ["ab", -1.00001], ["aa", -1.00002], ["x", -5.0], ["c", -5.0001]]
    assert _in_order(pieces, 1) == [["[UNK]", 0.0], ["aa", -1.0], ["ab", -1.0], ["c", -5.0], ["x", -5.0001]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_texts_give_the_same_files(algorithm, data, folders, tmp_path):
    save(learn(Corpus.open([data]), Recipe(algorithm=algorithm, vocab_size=500)), tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folders[algorithm] / name).read_bytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_autotokenizer_opens_it_with_its_roles_and_template(algorithm, folders):
    tokenizer = AutoTokenizer.from_pretrained(folders[algorithm])
    assert len(tokenizer) <= 500
    assert tokenizer.pad_token_id == 0 and tokenizer.eos_token is not None
    encoded = tokenizer("my order", "is late")
    if algorithm in ("bpe", "byte-bpe"):
        assert "token_type_ids" not in encoded and tokenizer.eos_token == "<|endoftext|>"
        assert tokenizer.eos_token_id not in encoded["input_ids"]
    else:
        pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        assert (pieces[0], pieces[-1], pieces.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
        assert encoded["token_type_ids"][-1] == 1
        assert tokenizer.mask_token == "[MASK]"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_typed_special_tokens_stay_text(algorithm, folders):
    encoder = load_encoder(tokenizer_source(str(folders[algorithm])))
    special = set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    row = encoder.encode(["[SEP] [PAD] <|endoftext|> <|pad|>"])[0].input_ids
    assert not special & set(row[1:-1].tolist())


@pytest.fixture(scope="module")
def bytewise(folders):
    encoder = AutoTokenizer.from_pretrained(folders["byte-bpe"]).backend_tokenizer
    encoder.encode_special_tokens = True
    return encoder


@given(text=st.text())
def test_bytes_come_back_exactly(bytewise, text):
    assert bytewise.decode(bytewise.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "char"])
def test_known_characters_come_back(algorithm, folders):
    tokenizer = AutoTokenizer.from_pretrained(folders[algorithm])
    for row in messages(50):
        ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == row["text"].removeprefix(" ")


def test_wishes_are_heard(tmp_path):
    learned = learned_on(
        tmp_path, "Äpfel 123\n" * 3, algorithm="wordpiece", special=("mask=<mask>", "<|user|>"),
        normalizers=("bert", "lowercase", "strip-accents"), splits=("bert", "digits"),
    )  # fmt: skip
    assert in_order(learned.rust)[:6] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<mask>", "<|user|>"]
    assert learned.rust.encode("ÄPFEL 21").tokens == ["[CLS]", "apfel", "2", "1", "[SEP]"]
    save(learned, tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.mask_token == "<mask>"
    assert tokenizer.convert_tokens_to_ids("<|user|>") in tokenizer.all_special_ids


PAIRS = list(itertools.combinations(("pad", "cls", "sep", "mask", "bos", "eos"), 2))


@pytest.mark.parametrize("template", ["bert", "gpt"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_role_keeps_the_token_that_is_named_for_it(algorithm, template, tmp_path):
    for first, second in PAIRS:
        for wishes in (("<one>", "<two>"), ("<a:1>", "$b two")):
            special = tuple(f"{role}={token}" for role, token in zip((first, second), wishes, strict=True))
            roles = Recipe(algorithm=algorithm, template=template, special=special).resolved().roles()
            assert (roles[first], roles[second]) == wishes
    special = ("bos=<s>", "eos=</s>", "cls=<c:1>", "sep=$s <e>", "pad=<p>")
    learned = learned_on(
        tmp_path, "low lower lowest\n" * 3, algorithm=algorithm, template=template, special=special, vocab_size=300
    )
    save(learned, tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    named = {role: getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "cls", "sep", "pad")}
    assert named == {"bos": "<s>", "eos": "</s>", "cls": "<c:1>", "sep": "$s <e>", "pad": "<p>"}
    assert len({tokenizer.convert_tokens_to_ids(token) for token in named.values()}) == 5
    if template == "bert":
        ids = tokenizer("low", "low")["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_a_role_without_a_name_of_its_own_follows_the_one_it_shares_a_token_with():
    def roles(template, *special):
        return Recipe(algorithm="bpe", template=template, special=special).resolved().roles()

    assert roles("gpt", "eos=</s>")["bos"] == "</s>"
    assert roles("bert", "cls=<s>") == roles("bert") | {"cls": "<s>", "bos": "<s>"}
    assert roles("bert", "cls=<s>", "bos=[CLS]") == roles("bert") | {"cls": "<s>"}
    assert roles("gpt", "bos=<s>", "eos=<s>", "bos=<s>")["bos"] == "<s>", "one token for both, asked for"
    assert Recipe(algorithm="bpe", special=("bos=<s>", "<s>", "=b")).resolved().specials()[-3:] == [
        "<|unk|>",
        "<s>",
        "=b",
    ]


def test_lowercase_alone_keeps_the_cleaning():
    assert Recipe(algorithm="wordpiece", normalizers=("lowercase",)).resolved().normalizers == ("bert", "lowercase")
    assert Recipe(algorithm="wordpiece", normalizers=("none",)).resolved().normalizer() is None


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"algorithm": "wordpeice"}, "Did you mean wordpiece?"),
        ({"algorithm": "byte-bpe", "vocab_size": 200}, "at least 258"),
        ({"algorithm": "bpe", "splits": ("gpt2",)}, "--algorithm byte-bpe"),
        ({"algorithm": "unigram", "min_count": 3}, "--min-frequency"),
        ({"algorithm": "char", "splits": ("bert",)}, "does not split into words"),
        ({"algorithm": "bpe", "normalizers": ("nfkd ",)}, "Did you mean nfkd?"),
        ({"algorithm": "bpe", "template": "t5"}, "bert, gpt"),
        ({"algorithm": "bpe", "special": ("bos=<s>", "bos=<b>")}, "the role bos has two tokens; found '<s>' and '<b>'"),
        ({"algorithm": "bpe", "special": ("begin=<s>",)}, "there is no role 'begin'"),
        ({"algorithm": "bpe", "special": ("bos_token=<s>",)}, "Did you mean bos=<s>?"),
        ({"algorithm": "bpe", "special": ("eos=",)}, "the role eos has no token"),
        ({"algorithm": "byte-bpe", "special": ("unk=<u>",)}, "byte-bpe knows every byte"),
        ({"algorithm": "word", "special": ("mask=[PAD]",)}, "the roles mask and pad have the same token"),
    ],
)
def test_mistakes_are_said_before_anything_is_read(wishes, expected):
    with pytest.raises(UserError) as caught:
        Recipe(**wishes).resolved()
    assert expected in str(caught.value)


def test_a_corpus_reads_texts_words_and_chats(tmp_path):
    rows = [{"tokens": ["New", "York"]}, {"tokens": []}]
    corpus = Corpus.open([str(write_jsonl(tmp_path / "words.jsonl", rows))])
    assert list(corpus) == [(f"{tmp_path}/words.jsonl:1", "New York")]
    assert (corpus.num_texts, corpus.num_rejected) == (1, 1)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chats = Corpus.open([str(write_jsonl(tmp_path / "chats.jsonl", [{"messages": turns}]))])
    assert list(chats.texts()) == ["Hi\n\nHello"]
    two = Corpus.open([str(write_jsonl(tmp_path / "two.jsonl", [{"a": "x", "b": "y"}]))], text="a,b")
    assert list(two.texts()) == ["x\n\ny"]
    with pytest.raises(UserError, match="--text"):
        Corpus.open([str(tmp_path / "two.jsonl")], text="c")


def test_long_texts_come_in_pieces_that_learn_the_same(tmp_path):
    text = "one  two three " * 20
    cut = list(pieces(text, longest=50))
    assert "".join(cut) == text and max(map(len, cut)) <= 50
    assert all(piece[0] == " " and piece[1] != " " for piece in cut[1:])
    assert list(pieces("x" * 7, longest=3)) == ["xxx", "xxx", "x"]
    long = learned_on(tmp_path, "word and others " * 20_000, algorithm="byte-bpe", vocab_size=300)
    short = learned_on(tmp_path, "word and others " * 200, algorithm="byte-bpe", vocab_size=300)
    assert in_order(long.rust) == in_order(short.rust)


def test_places_that_stay_free_go_to_rare_characters(tmp_path):
    """Chinese characters stand alone, so nothing is merged: three quarters of 20 places first, then the rest."""
    text = "".join(chr(0x4E00 + number) * (30 - number) + "\n" for number in range(20))
    learned = learned_on(tmp_path, text, algorithm="wordpiece", vocab_size=25)
    assert sorted(in_order(learned.rust)[5:]) == [chr(0x4E00 + number) for number in range(20)]
    assert learned.notes == []


def test_lines_of_plain_text_keep_what_stands_between_them(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\nthree\n")
    assert list(Corpus.open([str(tmp_path / "a.txt")]).texts()) == ["one", "\n\ntwo", "\nthree"]


@pytest.mark.parametrize(("algorithm", "preset"), [("byte-bpe", "gpt"), ("char", "llama"), ("unigram", "bert")])
def test_it_serves_a_model_from_scratch_at_once(algorithm, preset, folders):
    source = locate_model(f"scratch:{preset}-tiny", tokenizer=str(folders[algorithm]))
    encoder = load_encoder(source)
    model, _ = load_pretrained(AutoModel, source, seed=0, dtype=torch.float32)
    assert model.config.vocab_size == len(encoder.tokenizer)
    assert model.config.pad_token_id == encoder.pad_token_id == 0
    ids = torch.from_numpy(encoder.encode(["Where is my order?"])[0].input_ids.astype("int64"))[None]
    assert model(input_ids=ids).last_hidden_state.shape == (1, ids.shape[1], 128)
