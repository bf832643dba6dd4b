"""Tokenizers looked at: one text as a table, several compared on a file, mismatches with the model said before training."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import tunewright as tw
from tests.conftest import shared, write_jsonl
from tunewright.cli.main import app
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.pretrained.model_files import ModelFolder, locate_model, tokenizer_source
from tunewright.runs.data_checks import find_problems
from tunewright.tokenization.encoder import load_encoder, load_tokenizer
from tunewright.tokenization.tokenizer_checks import check_vocabulary, match
from tunewright.tokenizer_tools.compare import Measured, bins, compare, short_names
from tunewright.tokenizer_tools.compare_page import page
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.show import show

FOX = "The quick brown fox jumps over the lazy dog."


def source(name: str) -> ModelFolder:
    return tokenizer_source(str(shared(f"tokenizers/{name}")))


def test_the_fox_through_bert_base_cased():
    shown = show(source("bert-base-cased"), FOX).as_dict()
    assert shown["input_ids"] == [101, 1109, 3613, 3058, 17594, 15457, 1166, 1103, 16688, 3676, 119, 102]
    assert shown["token_type_ids"] == [0] * 12 and shown["attention_mask"] == [1] * 12
    assert shown["offsets"][:3] == [None, [0, 3], [4, 9]] and shown["word_ids"][10:] == [9, None]
    assert shown["decoded"] == f"[CLS] {FOX} [SEP]"


def test_pairs_truncation_and_padding():
    shown = show(source("bert-base-cased"), "one two three", "four", max_length=5)
    assert [token.token for token in shown.tokens] == ["[CLS]", "one", "[SEP]", "four", "[SEP]"]
    assert [token.type for token in shown.tokens] == [0, 0, 0, 1, 1]
    assert [token.token for token in shown.cut] == ["two", "three"]
    left = show(source("bert-base-cased"), "one two three", max_length=4, truncation_side="left")
    assert [token.token for token in left.tokens] == ["[CLS]", "two", "three", "[SEP]"]
    assert (left.tokens[1].start, left.tokens[1].word) == (4, 1)
    padded = show(source("gpt2"), "one", max_length=3, padding="max_length", padding_side="left")
    assert [(token.mask, token.part) for token in padded.tokens] == [(0, "padding"), (0, "padding"), (1, "text")]


def test_a_text_tokenized_from_python(tiny_bert):
    shown = tw.tokenize(tiny_bert, "Where?", "There", max_length=12, padding="max_length")
    assert [token.part for token in shown.tokens if token.part in ("text", "pair")]
    assert len(shown.input_ids) == len(shown.attention_mask) == 12
    assert shown.token_type_ids is not None and set(shown.token_type_ids) == {0, 1}
    assert shown.attention_mask[-1] == 0 and sum(shown.attention_mask) < 12
    assert shown == show(tokenizer_source(str(tiny_bert)), "Where?", "There", max_length=12, padding="max_length")
    assert repr(shown).startswith(f"12 tokens of {tiny_bert}\n") and len(repr(shown).splitlines()) == 2
    assert shown._repr_html_().count("<tr>") == 13
    with pytest.raises(UserError, match="padding_side"):
        tw.tokenize(tiny_bert, "Where?", padding_side="top")  # type: ignore[arg-type]


def test_typed_control_tokens_are_text_and_bytes_have_no_offsets():
    shown = show(source("bert-base-cased"), "[SEP]")
    assert [token.part for token in shown.tokens] == ["special", "text", "text", "text", "text", "special"]
    bytewise = show(source("byt5"), "ab", "c")
    assert [token.token for token in bytewise.tokens] == ["a", "b", "</s>", "c", "</s>"]
    assert bytewise.tokens[0].start is None


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("minimind", ["c", "af", "é", "▁", "\\xe6\\x9d", "\\xb1", "\\n", "▁<", "s", ">", "[E1]"]),
        ("byt5", ["c", "a", "f", "\\xc3", "\\xa9", "▁", "\\xe6", "\\x9d", "\\xb1", "\\n", "▁", "<", "s", ">", "[E1]", "</s>"]),
        ("mistral-v0.1", ["<s>", "▁café", "▁", "東", "\\n", "▁<", "s", ">", "[E1]"]),
    ],
)  # fmt: skip
def test_bytes_are_shown_as_the_text_they_stand_for(name, pieces):
    """Vocabularies write the bytes of é as `Ã©`, a blank as `Ġ`, other bytes as `<0x0A>`; JSON has both."""
    shown = show(replace(source(name), added_tokens=("[E1]",)), "café 東\n <s>[E1]")
    assert [token.text for token in shown.tokens] == pieces
    values = shown.as_dict()
    assert values["texts"] == pieces and len(values["tokens"]) == len(pieces)


def test_the_characters_of_bytes_are_those_of_the_library():
    from tokenizers.pre_tokenizers import ByteLevel

    from tunewright.tokenization.readable import byte_of_character

    assert sorted(byte_of_character()) == sorted(ByteLevel.alphabet())
    assert sorted(byte_of_character().values()) == list(range(256))
    assert byte_of_character()["Ġ"] == 32


@pytest.fixture
def texts(tmp_path) -> str:
    rows = [{"text": "Ab  cd"}, {"text": "ab cd"}, {"text": "x" * 3}, {"text": 5}]
    return str(write_jsonl(tmp_path / "texts.jsonl", rows))


def test_comparison_by_hand(texts):
    """gpt2: `Ab| | cd`, `ab| cd`, `xxx`. bert-base-uncased: `ab|cd` twice, `xxx` one or more; case and the second blank are lost."""
    corpus = Corpus.open([texts])
    comparison = compare(corpus, [source("gpt2"), source("bert-base-uncased")], max_length=5)
    gpt2, bert = comparison.models
    assert (comparison.num_rows, comparison.num_rejected, comparison.num_words) == (3, 1, 5)
    assert (comparison.num_characters, comparison.num_bytes) == (14, 14)
    expected = [len(load_tokenizer(source("gpt2"))(text)["input_ids"]) for text in ("Ab  cd", "ab cd", "xxx")]
    assert gpt2.num_tokens == sum(expected) and sorted(gpt2.lengths.elements()) == sorted(expected)
    assert gpt2.lossy_rows == 0 and gpt2.num_unknown is None
    assert bert.num_unknown == 0 and (bert.lossy_rows, bert.lossy_letters) == (1, 0)
    assert bert.examples[0].address.endswith("texts.jsonl:1") and bert.examples[0].after.startswith("ab cd")
    assert bert.longest[0][0] == max(bert.lengths)
    rates = comparison.rates(gpt2)
    assert rates["tokens_per_word"] == gpt2.num_tokens / 5
    assert rates["tokens_per_byte"] == gpt2.num_tokens / 14


def test_what_is_cut_is_counted(texts):
    bert = compare(Corpus.open([texts]), [source("bert-base-uncased")], max_length=4).models[0]
    lengths = sorted(bert.lengths.elements())
    assert bert.cut_rows == sum(length > 4 for length in lengths)
    assert bert.cut_tokens == sum(max(0, length - 4) for length in lengths)


def test_lost_letters_come_first(tmp_path):
    rows = [{"text": "a  b"}, {"text": "snow ☃ man"}]
    path = write_jsonl(tmp_path / "t.jsonl", rows)
    bert = compare(Corpus.open([str(path)]), [source("bert-base-cased")]).models[0]
    assert (bert.lossy_rows, bert.lossy_letters) == (2, 1)
    assert "☃" in bert.examples[0].before and "[UNK]" in bert.examples[0].after


def test_quantiles_and_bins_by_hand():
    model = Measured("m", "BPE", 10, 512)
    model.lengths.update({1: 50, 10: 45, 100: 5})
    assert [model.quantile(share) for share in (0.5, 0.51, 0.95, 1.0)] == [1, 10, 10, 100]
    edges, counts = bins([model], number=5)
    assert edges == [0, 20, 40, 60, 80, 100]
    assert counts == [[95, 0, 0, 0, 0, 5]]
    assert short_names(["a/x", "b/x"]) == ["a/x", "b/x"] and short_names(["a/x", "b/y/"]) == ["x", "y"]


class _Tags(HTMLParser):
    """Whether every tag is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_escapes_texts(tmp_path):
    path = write_jsonl(tmp_path / "<b>.jsonl", [{"text": "<script>alert(1)</script> ☃"}, {"text": "short"}])
    html = page(compare(Corpus.open([str(path)]), [source("bert-base-cased"), source("gpt2")], max_length=6))
    assert "<script>" not in html and "&lt;script&gt;" in html and "<b>.jsonl" not in html
    tags = _Tags()
    tags.feed(html)
    assert tags.open == []
    pictures = html.split("<svg")[1:]
    assert len(pictures) == 2
    for picture in pictures:
        ElementTree.fromstring("<svg" + picture.split("</svg>")[0] + "</svg>")


# The command line


def invoke(*words: str):
    return CliRunner().invoke(app, ["tokenizer", *words])


def test_show_prints_tables_side_by_side_and_json():
    names = [str(shared(f"tokenizers/{name}")) for name in ("bert-base-cased", "gpt2")]
    done = invoke("show", FOX, "--model", names[0], "--model", names[1])
    assert done.exit_code == 0
    line = next(line for line in done.stdout.splitlines() if "3613" in line)
    assert "quick" in line and "▁brown" in line
    values = json.loads(invoke("show", FOX, "--model", names[0], "--json").stdout)
    assert values["schema"] == 1 and values["models"][0]["input_ids"][1] == 1109


def test_compare_takes_models_one_after_another(texts, tmp_path):
    names = [str(shared(f"tokenizers/{name}")) for name in ("bert-base-cased", "gpt2")]
    output = tmp_path / "page.html"
    done = invoke("compare", texts, "--models", *names, "--output", str(output), "--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert [model["model"] for model in values["models"]] == names
    assert output.read_text().startswith("<!doctype html>")
    done = invoke("compare", texts, "--models", names[1], "-o", str(output))
    assert "tokens per word" in done.stdout and "rows by tokens" in done.stdout


def test_train_writes_and_refuses_folders_of_others(texts, tmp_path):
    done = invoke("train", texts, "--algorithm", "char", "-o", str(tmp_path / "tok"), "--json")
    assert json.loads(done.stdout)["vocab_size"] == 12  # 5 special tokens, and A a b c d x and the blank
    assert invoke("train", texts, "--algorithm", "char", "-o", str(tmp_path / "tok")).exit_code == 0
    with pytest.raises(UserError, match="holds other files"):
        app(["tokenizer", "train", texts, "--algorithm", "char", "-o", str(tmp_path)], standalone_mode=False)


def test_lengths_are_said_in_the_options_own_words():
    with pytest.raises(UserError, match="Set --max-length=1024"):
        gpt2 = str(shared("tokenizers/gpt2"))
        app(["tokenizer", "show", "x", "--model", gpt2, "--max-length", "4000"], standalone_mode=False)


# Does a tokenizer fit its model?


def with_config(tmp_path, tokenizer: str, **values) -> ModelFolder:
    (tmp_path / "config.json").write_text(json.dumps(values))
    return ModelFolder("model", tmp_path, shared(f"tokenizers/{tokenizer}"))


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    fitting = with_config(tmp_path, "bert-base-cased", vocab_size=28_996)
    check_vocabulary(load_tokenizer(fitting), fitting)
    small = with_config(tmp_path, "bert-base-cased", vocab_size=28_000)
    with pytest.raises(UserError, match=r"28,996 tokens .* expected at most 28,000"):
        check_vocabulary(load_tokenizer(small), small)


def test_other_special_ids_are_found(tmp_path):
    other = with_config(
        tmp_path, "gpt2", vocab_size=50_257, bos_token_id=1, eos_token_id=[50_256, 7], pad_token_id=None
    )
    (finding,) = match(load_tokenizer(other), other, ["some text"]).findings
    assert "start token is 50256" in finding and "made with 1" in finding


def test_unknown_case_and_accents_are_noticed(tmp_path):
    model = with_config(tmp_path, "bert-base-uncased", vocab_size=30_522)
    tokenizer = load_tokenizer(model)
    found = match(tokenizer, model, ["Das schöne ☃ Haus"])
    assert len(found.findings) == 1 and "[UNK]" in found.findings[0]
    assert "upper case" in found.hints[0] and "accents" in found.hints[1]
    quiet = match(tokenizer, model, ["plain words only"])
    assert quiet.findings == quiet.hints == []
    cased = with_config(tmp_path, "bert-base-cased", vocab_size=28_996)
    assert match(load_tokenizer(cased), cased, ["Das Haus"]).hints == []


def test_check_says_it(run_values):
    findings, summary = find_problems(parse_config(run_values), say=print)
    assert any("upper case" in hint for hint in summary["hints"])
    assert not any("upper case" in finding for finding in findings)


@pytest.fixture
def bare(tiny_bert, tmp_path):
    """A tokenizer.json alone, whose special tokens have no roles."""
    import json

    values = json.loads((tiny_bert / "tokenizer.json").read_text(encoding="utf-8"))
    values["post_processor"] = None
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    return tmp_path / "bare"


def test_a_bare_tokenizer_is_shown_and_needs_roles_to_be_trained_with(bare):
    assert [token.text for token in show(tokenizer_source(str(bare)), "a [SEP]").tokens] == [
        "a",
        "[UNK]",
        "se",
        "##p",
        "[UNK]",
    ]
    with pytest.raises(
        UserError, match=r"neither a padding nor an end token; found '\[PAD\]', .*special_tokens=\{eos: \"\[SEP\]\"\}"
    ):
        load_encoder(tokenizer_source(str(bare)))
    named = locate_model("scratch:gpt-tiny", tokenizer=str(bare), special_tokens={"eos": "[SEP]", "pad": "[PAD]"})
    encoder = load_encoder(named)
    assert (encoder.tokenizer.eos_token_id, encoder.pad_token_id) == (3, 0)
    assert 3 not in encoder.encode(["a [SEP]"])[0].input_ids
    with pytest.raises(UserError, match=r"model.special_tokens.eos: '\[SPE\]' is not a token .*Did you mean '\[SEP\]'"):
        load_encoder(locate_model("scratch:gpt-tiny", tokenizer=str(bare), special_tokens={"eos": "[SPE]"}))


@pytest.mark.parametrize("file", ["spiece.model", "tokenizer.model", "sentencepiece.bpe.model"])
def test_a_sentencepiece_file_alone_that_cannot_be_converted_is_told(file, tmp_path):
    (tmp_path / file).write_bytes(b"no model")
    with pytest.raises(UserError, match=f"the only tokenizer file is {file}.*Get the tokenizer.json"):
        show(tokenizer_source(str(tmp_path)), "a")
