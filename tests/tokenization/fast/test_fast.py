"""The fast path gives the ids of the plain one: on real rows, on anything hypothesis thinks of, and for every way of splitting."""

import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import messages, shared
from tests.tokenization.test_encoder import CONTROL_TEXTS, NAMES, control_ids, folder_of, loaded
from tunewright.tokenization.fast import FastIds, dialects
from tunewright.tokenization.fast import split as splitting
from tunewright.tokenization.fast.classes import END, CharClasses
from tunewright.tokenization.fast.memo import PADDING, PieceMemo
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenization.ragged import RaggedIds

PLAIN = ("byt5", "mistral-v0.1")  # bytes without pieces, and texts that are one piece: nothing to remember
FAST = [name for name in NAMES if name not in PLAIN]


def texts_of(path, column="text", limit=None):
    lines = shared(path).read_text(encoding="utf-8").split("\n")[:-1][:limit]
    return [json.loads(line)[column] for line in lines]


def rows(flat):
    return [row.tolist() for row in np.split(flat.ids, flat.offsets[1:-1])] if len(flat.lengths) else []


def assert_same(fast, text_only, texts):
    got, wanted = rows(fast.flat(texts)), text_only(texts)
    wrong = [(text, one, two) for text, one, two in zip(texts, got, wanted, strict=True) if one != two]
    assert not wrong, wrong[0]
    assert fast.difference is None


@pytest.fixture(params=FAST)
def fast(request):
    """(a fast path of its own, the plain one it must equal)"""
    text_only = loaded(folder_of(request.param, request))[0]._ids_of
    return FastIds.of(text_only), text_only


def test_every_row_of_real_texts_has_the_plain_ids(fast):
    path, text_only = fast
    shakespeare = shared("text/tinyshakespeare.txt").read_text(encoding="utf-8")
    texts = [
        *texts_of("classification/imdb/test.jsonl", limit=250), *texts_of("text/wikitext2_test.jsonl", limit=12),
        *texts_of("classification/sms_spam/all.jsonl"), *texts_of("instruction/gsm8k_test.jsonl", "answer", limit=250), shakespeare[:100_000],
    ]  # fmt: skip
    assert_same(path, text_only, texts)
    assert path.num_plain < 0.03 * len(texts) or "pythia" in str(
        text_only.tokenizer.name_or_path
    )  # its vocabulary has runs of blanks


ALPHABET = [
    *"aIzé" "ßŁжאش東한の", *"019", "٣", "½", "Ⅷ", *"'!.(_-<>[]|$^`~", "“", "…", "。", "！", "€", "≠", "´", "👩", "\U0001f3fd",
    " ", " ", " ", "  ", "\n", "\n", "\r", "\t", "\x0b", "\x00", "\x01", "\x7f", "\x85", "\x96", "\xa0", "\xad", "\u200b", "\u200d", "\u2028",
    "\u3000", "\ufeff", "\u0301", "\u0338", "\ufe0f", "ſ", "\u212a", "İ", "ﬁ", "Ａ", "\ufffd", "▁", "Å", "가", "\u11a8", "ก็", "'s", "'T", "'ll",
    "'Re", "'VE", "'d", "'ſ", "12345", "the", "Word", "naïve", "e\u0301", "word " * 30, "x" * 20, "=" * 18, *CONTROL_TEXTS,
]  # fmt: skip
texts = st.lists(
    st.one_of(st.lists(st.sampled_from(ALPHABET), max_size=24).map("".join), st.text(st.characters(exclude_categories=["Cs"]))), max_size=30,
)  # fmt: skip


@settings(max_examples=60)
@given(texts)
def check_anything(path, text_only, some):
    assert_same(path, text_only, some)


def test_any_text_has_the_plain_ids(fast):
    check_anything(*fast)


def test_every_character_has_the_plain_ids_among_neighbours(fast):
    """All of the first 0x3200 code points and a sample of the others, beside a letter, a digit, a mark, a blank and itself."""
    path, text_only = fast
    points = [*range(1, 0x3200), *range(0x3200, 0xD800, 211), *range(0xE000, 0x20000, 97)]
    assert_same(path, text_only, [f"a{c}a {c} 1{c}1!{c}! {c}{c}b\n{c}'{c}{c}" for c in map(chr, points)])


SAYING = "I'm at  home.\n\n (Don't \t'tis 'Twas12345!?\n) x\r\n  y  "


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", ["I", "'m", " at", " ", " home", ".", "\n\n", " (", "Don", "'t", " ", "\t", "'t", "is", " '", "Twas", "12345", "!?", "\n", ")", " x",
                  "\r\n ", " y", "  "]),
        ("llama3", ["I", "'m", " at", " ", " home", ".\n\n", " (", "Don", "'t", " ", "\t", "'t", "is", " '", "Twas", "123", "45", "!?\n", ")", " x",
                    "\r\n", " ", " y", "  "]),
        ("qwen3", ["I", "'m", " at", " ", " home", ".\n\n", " (", "Don", "'t", " ", "\t", "'t", "is", " '", "Twas", *"12345", "!?\n", ")", " x",
                   "\r\n", " ", " y", "  "]),
        ("bert-base-cased", ["I", "'", "m", "at", "home", ".", "(", "Don", "'", "t", "'", "tis", "'", "Twas12345", "!", "?", ")", "x", "y"]),
        ("t5", ["I'm", "at", "home.", "(Don't", "'tis", "'Twas12345!?", ")", "x", "y"]),
    ],
)  # fmt: skip
def test_pieces_worked_out_by_hand(name, expected, request):
    text_only = loaded(folder_of(name, request))[0]._ids_of
    dialect = dialects.dialect_of(text_only.rust, text_only.settings)
    assert pieces_of(dialect, SAYING) == expected


def pieces_of(dialect, text):
    data = text.encode() + b"\0"
    raw, classes = np.frombuffer(data, np.uint8), CharClasses(dialect.probe).of(data)
    begins = [*dialect.split(raw, classes).tolist(), len(data)]
    pieces = [data[a:b] for a, b in pairwise(begins) if classes[a] != END]
    return [piece.decode() for piece in pieces if not dialect.drops_blanks or piece.strip()]


def test_rules_are_not_vacuous(request):
    """A rule that is broken is seen: GPT-2's text split by the other family's rules gives other ids."""
    text_only = loaded(folder_of("gpt2", request))[0]._ids_of
    dialect = dialects.dialect_of(text_only.rust, text_only.settings)
    wrong = FastIds(text_only, dialects.Dialect(splitting.words, dialect.probe, dialect.model_texts))
    with pytest.warns(UserWarning, match="gives other ids on 'two words'"):
        flat = wrong.flat(["two words", "and more"])
    assert wrong.difference == "two words"
    assert rows(flat) == text_only(["two words", "and more"])  # this call and all that follow go the plain way
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows(wrong.flat(["a b"])) == text_only(["a b"])


pieces = st.lists(st.binary(min_size=1, max_size=40).map(lambda one: one.replace(b"\0", b"0")), max_size=60)


@settings(max_examples=150)
@given(batches=st.lists(pieces, max_size=5), limit=st.sampled_from([3, 20, 10_000]), tiny=st.booleans())
def test_the_memo_equals_asking_every_time(batches, limit, tiny):
    def ids_of(piece):
        return [*piece[: len(piece) % 4], len(piece)] if len(piece) != 7 else []

    def flat_ids_of(some):
        flat = RaggedIds.of([ids_of(piece) for piece in some])
        return flat.ids, flat.lengths

    memo = PieceMemo(flat_ids_of, most_entries=limit, most_bytes=50 if tiny else 10_000)
    for batch in batches:
        batch = [*batch, *batch[::2]]
        sizes = np.array([len(piece) for piece in batch], dtype=np.int64)
        ids, counts = memo.ids(b"".join(batch) + bytes(PADDING), np.cumsum(sizes) - sizes, sizes)
        assert ids.tolist() == [number for piece in batch for number in ids_of(piece)]
        assert counts.tolist() == [len(ids_of(piece)) for piece in batch]


def test_the_memo_asks_once_for_a_piece_and_forgets_when_it_is_full():
    asked = []

    def ids_of(pieces):
        asked.extend(pieces)
        return np.array([int(piece) for piece in pieces], np.int32), np.ones(len(pieces), np.int64)

    def look_up(*numbers, memo):
        batch = [b"%08d" % number for number in numbers]
        starts = np.arange(0, 8 * len(batch), 8)
        return memo.ids(b"".join(batch) + bytes(PADDING), starts, np.full(len(batch), 8))[0]

    memo = PieceMemo(ids_of, most_entries=50_000)
    first = look_up(*range(40_000), memo=memo)
    assert (look_up(*range(40_000), memo=memo) == first).all() and len(asked) == 40_000
    for begin in range(0, 400_000, 20_000):
        look_up(*range(begin, begin + 20_000), memo=memo)
        assert memo.num_entries <= 50_000 + 20_000 + 1
    assert len(memo._low) <= 1 << 17 and len(memo._slots) <= 1 << 19


# Tokenizers that are not in shared/


def trained(pre_tokenizer, *, normalizer=None, model="bpe", **options):
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    kinds = {
        "bpe": (models.BPE(unk_token="<unk>"), trainers.BpeTrainer),
        "byte-bpe": (models.BPE(), trainers.BpeTrainer),
        "wordpiece": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer),
        "unigram": (models.Unigram(), trainers.UnigramTrainer),
        "word": (models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer),
    }
    tokenizer = Tokenizer(kinds[model][0])
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    more = {"unk_token": "<unk>"} if model == "unigram" else {}
    if model == "byte-bpe":
        more["initial_alphabet"] = ByteLevel.alphabet()
    trainer = kinds[model][1](vocab_size=700, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, **more)
    tokenizer.train_from_iterator([row["text"] for row in messages()], trainer)
    return TextOnly.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **options))


def made():
    from tokenizers import Regex, normalizers
    from tokenizers import pre_tokenizers as pre

    def byte_level(expression):
        return pre.Sequence(
            [pre.Split(Regex(expression), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    expressions = list(dialects._EXPRESSIONS)
    return {
        "prefix": lambda: trained(pre.ByteLevel(add_prefix_space=True), model="byte-bpe"),
        "prefix-nfc": lambda: trained(pre.ByteLevel(add_prefix_space=True), model="byte-bpe", normalizer=normalizers.NFC()),
        **{f"expression-{n}": (lambda one=one: trained(byte_level(one), model="byte-bpe")) for n, one in enumerate(expressions)},
        "metaspace-always": lambda: trained(pre.Metaspace(prepend_scheme="always"), model="unigram", normalizer=normalizers.NFKC()),
        "metaspace-first": lambda: trained(pre.Metaspace(prepend_scheme="first"), model="bpe"),
        "whitespace": lambda: trained(pre.Whitespace(), model="word", normalizer=normalizers.Lowercase()),
        "whitespace-split": lambda: trained(pre.WhitespaceSplit(), model="wordpiece"),
        "bert-stripped": lambda: trained(
            pre.BertPreTokenizer(), model="wordpiece",
            normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", made())
def test_other_tokenizers_of_known_kinds_have_the_plain_ids(kind):
    text_only = made()[kind]()
    path = FastIds.of(text_only)
    assert path is not None
    assert_same(path, text_only, [row["text"] for row in messages()] + [SAYING, "", " ", "\n", "a", " a"])
    points = [*range(1, 0x800), *range(0x2000, 0x3100), *range(0x3200, 0x20000, 401)]
    assert_same(
        path,
        text_only,
        [f"a{c}a {c} 1{c}1!{c}! {c}{c}b\n{c}'{c}{c}" for c in map(chr, points) if not "\ud800" <= c <= "\udfff"],
    )
    check_anything(path, text_only)


def test_what_is_not_known_has_no_fast_path(request):
    from tokenizers import Regex, normalizers
    from tokenizers import pre_tokenizers as pre

    digits = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    assert FastIds.of(trained(digits, model="byte-bpe")) is None
    assert FastIds.of(trained(pre.Split(Regex(r"\w+|\W+"), "isolated"))) is None
    assert FastIds.of(trained(pre.WhitespaceSplit(), normalizer=normalizers.Replace("a", "b c"))) is None
    assert FastIds.of(trained(pre.Metaspace(prepend_scheme="never"), normalizer=normalizers.Prepend("▁"))) is None
    assert FastIds.of(loaded(folder_of("byt5", request))[0]._ids_of) is None
    text_only = trained(pre.WhitespaceSplit())
    text_only.rust.model.dropout = 0.1
    shaky = TextOnly(
        text_only.tokenizer, text_only.rust, {**text_only.settings, "model": {"type": "BPE", "dropout": 0.1}}
    )
    assert FastIds.of(shaky) is None


def test_words_added_on_purpose_are_found_as_the_reference_finds_them(request):
    from transformers import AutoTokenizer

    for name in ("gpt2", "bert-base-cased", "qwen3"):
        plain = AutoTokenizer.from_pretrained(folder_of(name, request))
        plain.add_tokens(["covfefe", "New York", "ßtraße"])
        text_only = TextOnly.of(plain)
        some = [
            "a covfefe b",
            "xcovfefey",
            "in New York, covfefe",
            "in New  York",
            "COVFEFE new york",
            "ßtraße",
            "nothing",
        ] * 3
        assert text_only(some) == plain(some, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        path = FastIds.of(text_only)
        if path is not None:  # a normalizer may change where an added word is found: then there is no fast path
            assert_same(path, text_only, some)
        assert (path is None) == (name == "bert-base-cased")


# No control token out of a text, whatever it is made of


def disguised(token):
    """Strings that become `token` when widths are folded, accents stripped or invisible characters removed."""
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in token)
    inner = st.sampled_from(["", "\u200b", "\u200d", "\xad", "\u0301", "\x01", "\x85", "\ufe0f", "\ufeff"])
    accented = token.translate({ord(a): b for a, b in zip("aeiouSEP", "áéíóúŞÉṔ", strict=True)})
    return st.one_of(
        st.sampled_from(
            [token, wide, accented, token.upper(), token.lower(), token + token, token[: len(token) // 2] + token]
        ),
        st.lists(inner, min_size=len(token), max_size=len(token)).map(
            lambda marks: "".join(char + mark for char, mark in zip(token, marks, strict=True))
        ),
        st.lists(st.booleans(), min_size=len(token), max_size=len(token)).map(
            lambda folded: "".join(b if fold else a for a, b, fold in zip(token, wide, folded, strict=True))
        ),
    )


def extended(folder, to):
    """A copy of a tokenizer that has more control tokens, as a user adds them for tools: found in normalized text, too."""
    from transformers import AddedToken, AutoTokenizer

    plain = AutoTokenizer.from_pretrained(folder)
    plain.add_tokens(["<tool_call>", AddedToken("[TOOL]", normalized=True), "</think>"])
    plain.add_special_tokens({"additional_special_tokens": [AddedToken("<|user|>", normalized=True)]})
    if plain.pad_token is None:
        plain.pad_token = plain.eos_token or "</s>"
    plain.save_pretrained(to)
    return to


@pytest.mark.parametrize(
    "name", [*NAMES, *(f"{one} extended" for one in ("bert-base-uncased", "gpt2", "t5", "tiny_bert"))]
)
def test_no_payload_makes_a_control_token(name, request, tmp_path):
    """120 payloads and more a tokenizer, 15 tokenizers: encoded singly, in pairs and by both ways."""
    folder = folder_of(name.split()[0], request)
    encoder, plain = loaded(extended(folder, tmp_path / "extended") if name.endswith("extended") else folder)
    forbidden = control_ids(plain) | {
        number for number, token in plain.added_tokens_decoder.items() if "[TOOL]" in token.content
    }
    assert (encoder._fast is None) == (name in PLAIN)
    tokens = [one for one in (token.content for token in plain.added_tokens_decoder.values()) if one.strip()][:60]
    around = st.sampled_from(["", " ", "a", "\n", "x <", "] ", "é"])
    payloads = st.sampled_from([*tokens, *CONTROL_TEXTS]).flatmap(disguised)

    @settings(max_examples=30)
    @given(st.lists(st.tuples(around, payloads, around).map("".join), min_size=4, max_size=8))
    def check(some):
        for flat in (encoder.bare_ids(some), RaggedIds.of(encoder._ids_of(some))):
            assert not forbidden & set(flat.ids.tolist()), (some, plain.convert_ids_to_tokens(flat.ids.tolist()))
        for one, two in zip(encoder.encode_rows(some, some[::-1]), encoder.encode(some, some[::-1]), strict=True):
            assert one.input_ids.tolist() == two.input_ids.tolist()

    check()


def test_one_difference_switches_the_whole_store_to_the_plain_way(run_values, monkeypatch):
    """A fault in the fast path is found by the sample, said, and the store holds the plain ids all over."""
    from tunewright import RunConfig
    from tunewright.preparation import prepare
    from tunewright.tokenization.encoder import load_encoder

    right = splitting.words
    monkeypatch.setattr(
        splitting, "words", lambda raw, classes: np.setdiff1d(right(raw, classes), np.flatnonzero(raw == ord(".")))
    )
    config = RunConfig.model_validate(run_values)
    said = []
    with pytest.warns(UserWarning, match="gives other ids"):
        prepared = prepare(config, say=said.append)
    assert [line for line in said if "Fast tokenization gives other ids" in line]
    monkeypatch.undo()
    encoder = load_encoder(prepared.model, max_length=config.data.max_length)
    by_line = {number: row["text"] for number, row in enumerate(read_lines(config.data.train), start=1)}
    for split in prepared.store.splits:
        stored = prepared.store[split]
        for position in range(len(stored)):
            line = int(stored.address(position).rsplit(":", 1)[1])
            assert stored.input_ids(position).tolist() == encoder.encode([by_line[line]])[0].input_ids.tolist()


def read_lines(path):
    files = [path] if isinstance(path, str) else path
    with open(files[0], encoding="utf-8") as file:
        return [json.loads(line) for line in file]
