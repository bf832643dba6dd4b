"""Ids are those the tokenizer gives the rendered whole, and nothing that a user says becomes a control token by any way round."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.conftest import messages, shared, write_jsonl
from tunewright.chat.control_tokens import ControlTokens, EscapedConversation
from tunewright.chat.messages import Conversation, Message, ToolCall
from tunewright.chat.supervision import Rendered
from tunewright.chat.templates import named
from tunewright.encoding.dialogue_rows import DialogueEncoder
from tunewright.encoding.rendered import ChatTokenizer
from tunewright.errors import UserError
from tunewright.pretrained.model_files import tokenizer_source
from tunewright.tokenization.encoder import TextEncoder, load_encoder
from tunewright.tokenization.plain import TextOnly
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.recipe import ALGORITHMS, Recipe
from tunewright.tokenizer_tools.train import learn, save

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
CHATML = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LOWER = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ m.content | lower | replace('\n', '') | trim }}\
{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""A template that changes what is said: it could make a control token of it."""


def corpus() -> list[str]:
    return [row["text"] for row in messages(120)]


def normalizer(kind: str) -> normalizers.Normalizer:
    folded = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return {
        "nfkc": normalizers.NFKC(),
        "lower": folded,
        "albert": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        "xlm-r": normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
        "bert": normalizers.BertNormalizer(),
    }[kind]


def unigram(kind: str, scheme: str, **flags: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer(kind)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, **flags) for token in SPECIAL])
    return tokenizer


def words(model: str) -> Tokenizer:
    word = model == "word"
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>") if word else models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer("lower"), pre_tokenizers.WhitespaceSplit()
    kind = trainers.WordLevelTrainer if word else trainers.WordPieceTrainer
    tokenizer.train_from_iterator(corpus(), kind(vocab_size=400, special_tokens=SPECIAL, show_progress=False))
    return tokenizer


def merged() -> Tokenizer:
    """Byte pairs learned from texts that hold control tokens: merges lead to them."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer("nfkc"), pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "<pad>"], show_progress=False)
    tokenizer.train_from_iterator([*corpus(), *[" ".join(SPECIAL)] * 500], trainer)
    assert tokenizer.token_to_id("<|im_end|>") is not None
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def metaspace(*, legacy: bool = False, **flags: bool) -> Tokenizer:
    """Llama's two ways: a normalizer that writes `▁` before every text, or a pre-tokenizer that does before the first word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    plain = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = plain
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, **{"normalized": False, **flags}) for token in SPECIAL])
    return tokenizer


BUILT = {
    "nfkc": lambda: unigram("nfkc", "first"),
    "deberta": lambda: unigram("lower", "always"),
    "albert": lambda: unigram("albert", "always"),
    "xlm-r": lambda: unigram("xlm-r", "always", lstrip=True),
    "swallowing": lambda: unigram("lower", "first", lstrip=True, rstrip=True),
    "normalized": lambda: unigram("lower", "first", normalized=True),
    "bert": lambda: unigram("bert", "first"),
    "looked up whole": lambda: words("word"),
    "looked up in pieces": lambda: words("wordpiece"),
    "merged": merged,
    "metaspace": metaspace,
    "metaspace legacy": lambda: metaspace(legacy=True),
    "metaspace legacy normalized": lambda: metaspace(legacy=True, normalized=True),
}
MISTRALS = {
    "legacy": {"tokenizer_class": "LlamaTokenizer", "legacy": True},
    "not legacy": {"tokenizer_class": "LlamaTokenizer", "legacy": False},
    "unsaid": {"tokenizer_class": "LlamaTokenizer"},
    "plain class": {"tokenizer_class": "PreTrainedTokenizerFast"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Name -> a tokenizer's folder: built here, learned by us, or Mistral's under another class."""
    from transformers import PreTrainedTokenizerFast

    @cache
    def made(name: str) -> Path:
        path = tmp_path_factory.mktemp("tokenizer")
        if name in MISTRALS:
            shutil.copytree(shared("tokenizers/mistral-v0.1"), path, dirs_exist_ok=True)
            config = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
            kept = {key: value for key, value in config.items() if key != "legacy"}
            (path / "tokenizer_config.json").write_text(json.dumps(kept | MISTRALS[name]), encoding="utf-8")
        elif name in ALGORITHMS:
            texts = write_jsonl(path / "texts.jsonl", messages(120))
            recipe = Recipe(algorithm=name, vocab_size=500, template="gpt", normalizers=("nfkc", "lowercase"))
            save(learn(Corpus.open([str(texts)]), recipe), path)
        else:
            roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
            PreTrainedTokenizerFast(tokenizer_object=BUILT[name](), **roles).save_pretrained(path)
        return path

    return made


NAMES = [*BUILT, *ALGORITHMS, *MISTRALS]


@pytest.fixture(scope="module", params=NAMES)
def encoder(request, folder) -> TextEncoder:
    return load_encoder(tokenizer_source(str(folder(request.param))), max_length=4096)


def controls(encoder: TextEncoder) -> list[str]:
    return [token.content for token in encoder.tokenizer.added_tokens_decoder.values()]


said = [
    "the",
    "Parcel",
    " ",
    "  ",
    "\n",
    "\t",
    "",
    "naïve",
    "東京",
    "12,50€",
    "👩‍👩‍👧",
    "e\u0301",
    "\u3000",
    "<",
    "|>",
    "[",
    "İ",
]


def test_a_rendered_whole_has_the_ids_and_places_of_the_tokenizer(encoder):
    chats = ChatTokenizer.of(encoder)

    @settings(max_examples=60, database=None)
    @given(st.lists(st.sampled_from([*said, *controls(encoder)]), max_size=14).map("".join))
    def check(text):
        (ours,) = chats.encode([Rendered(text)])
        plain = encoder.tokenizer(
            text, add_special_tokens=False, split_special_tokens=False, return_offsets_mapping=True
        )
        assert ours.ids.tolist() == plain["input_ids"]
        assert ours.ends.tolist() == [end for _, end in plain["offset_mapping"]]

    check()


def wide(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


forms = st.sampled_from(
    [
        str, str.upper, str.title, str.swapcase, wide, lambda t: wide(t.upper()), lambda t: t + t, lambda t: t[:-1], lambda t: t[1:],
        lambda t: t[:2] + "\u0301" + t[2:], lambda t: t[:2] + "\u200b" + t[2:], lambda t: t[:3] + t + t[3:], lambda t: f" {t} ",
        lambda t: t[:4] + "\n" + t[4:], lambda t: t.replace("s", "ſ"), lambda t: "\x00" + t, lambda t: t.replace("<", "﹤").replace(">", "﹥"),
    ]
)  # fmt: skip


def injections(encoder: TextEncoder) -> st.SearchStrategy[str]:
    bad = st.builds(lambda form, token: form(token), forms, st.sampled_from(controls(encoder)))
    return st.lists(st.one_of(st.sampled_from(said), bad), max_size=5).map("".join)


def control_ids(encoder: TextEncoder, ids) -> list[int]:
    """The control tokens among ids, in order; what is unknown is that everywhere."""
    control = set(encoder.tokenizer.added_tokens_decoder) - {encoder.tokenizer.unk_token_id}
    return [number for number in ids.tolist() if number in control]


def test_no_text_makes_a_control_token(encoder):
    """Classification, pairs, tagging, masked and causal models: all of them encode texts this way."""

    @settings(max_examples=60, database=None)
    @given(injections(encoder))
    def check(text):
        assert control_ids(encoder, encoder.bare_ids([text]).ids) == []
        assert control_ids(encoder, encoder.encode([text])[0].input_ids[1:-1]) == []
        (tagged,) = encoder.with_offsets().encodings([text])
        assert not set(tagged.ids) & (set(encoder.tokenizer.added_tokens_decoder) - {encoder.tokenizer.unk_token_id})

    check()


@pytest.mark.parametrize("source", [CHATML, LOWER, named("plain"), named("mistral"), None])
@pytest.mark.parametrize("encoder", [name for name in NAMES if name != "metaspace legacy normalized"], indirect=True)
def test_no_turn_makes_a_control_token(encoder, source):
    lower = source == LOWER
    if source in (CHATML, LOWER) and "<|im_end|>" not in controls(encoder):
        source = source.replace("<|im_start|>", "## ").replace("<|im_end|>", encoder.tokenizer.eos_token)
    options = {"supervise": "answers", "trusted": False, "cuts_prompts": True}
    chats = DialogueEncoder.of(encoder, source, {}, **options)

    def row(*texts: str):
        system, asked, answer, then, ending = texts
        turns = Message("system", system), Message("user", asked), Message("assistant", answer), Message("user", then)
        talk = Conversation((*turns, Message("assistant", ending)))
        return chats.for_training([talk if source else Conversation((Message("assistant", "".join(texts)),))])[0]

    expected = control_ids(encoder, row(*"abcde").ids)
    text = injections(encoder)
    answers = text.filter(str.strip)

    @settings(max_examples=25, database=None)
    @given(text, text, answers, text, answers)
    def check(system, asked, answer, then, ending):
        found = row(system, asked, answer, then, ending)
        if isinstance(found, str):
            assert lower and "leaves out" in found
        else:
            assert control_ids(encoder, found.ids) == expected

    check()


def test_tools_and_their_results_make_no_control_token():
    encoder = load_encoder(tokenizer_source(str(shared("tokenizers/minimind"))), max_length=4096)
    options = {"supervise": "answers", "trusted": False, "cuts_prompts": True}
    chats = DialogueEncoder.of(encoder, encoder.tokenizer.chat_template, {}, **options)

    def row(text: str):
        tool = {"type": "function", "function": {"name": "f", "description": text, "parameters": {text: text}}}
        call = Message("assistant", "x", tool_calls=(ToolCall("f", {"k": text}),))
        talk = (Message("system", text), Message("user", text), call, Message("tool", text), Message("assistant", "y"))
        return chats.for_training([Conversation(talk, (tool,))])[0]

    expected = control_ids(encoder, row("x").ids)

    @settings(max_examples=60, database=None)
    @given(injections(encoder))
    def check(text):
        assert control_ids(encoder, row(text).ids) == expected

    check()


def test_what_is_said_comes_back_letter_for_letter():
    """Metaspace writes a blank before the first word of a text only: a text in pieces would hold one at each."""
    encoder = load_encoder(tokenizer_source(str(shared("tokenizers/mistral-v0.1"))), max_length=4096)
    options = {"supervise": "answers", "trusted": False, "cuts_prompts": True}
    chats = DialogueEncoder.of(encoder, "{{- bos_token }}" + named("plain"), {}, **options)
    typed = Conversation((Message("user", "a</s>b <s> c"), Message("assistant", "d<unk>")))
    (row,) = chats.for_training([typed])
    pieces = encoder.tokenizer.convert_ids_to_tokens(row.ids.tolist())
    assert pieces == [
        "<s>", "a", "</", "s", ">", "b", "▁<", "s", ">", "▁c", "<0x0A>", "d", "<", "unk", ">", "</s>",
    ]  # fmt: skip
    assert encoder.tokenizer.decode(row.ids[row.learned[0][0] : row.learned[0][1]]) == "d<unk></s>"


@pytest.mark.parametrize("name", ["legacy", "unsaid"])
def test_a_saved_tokenizer_gives_the_ids_it_gave_before(name, folder, tmp_path):
    """`legacy` says whether `▁` is put behind a control token, too; LlamaTokenizer alone forgets it where it is saved."""
    from transformers import AutoTokenizer

    tokenizer = load_encoder(tokenizer_source(str(folder(name))), max_length=64).tokenizer
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    text = "a</s>b c <s> d\n<s>e"
    assert saved(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (tokenizer("a</s>b")["input_ids"] == tokenizer("a</s> b")["input_ids"]) == (name == "legacy")


def test_a_control_token_of_one_letter_stays_a_letter(tmp_path):
    """CLIP pads with `!`: hidden, no text could hold an exclamation mark any more."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({"!": 0, "a": 1, "a!": 2, "</s>": 3, "b": 4}, [("a", "!")]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="!", eos_token="</s>").save_pretrained(tmp_path)
    encoder = load_encoder(tokenizer_source(str(tmp_path)), max_length=16)
    assert encoder.bare_ids(["a!a</s>b!"]).ids.tolist() == [2, 1, 4, 0]


def test_a_control_token_that_is_found_as_a_whole_word_only():
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=metaspace(single_word=True), unk_token="<unk>", eos_token="</s>"
    )
    chats = ChatTokenizer(
        tokenizer, TextOnly.of(tokenizer), {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    )
    chats._check()
    for text in ("a </s> b", "a</s>b", "a</s> </s>b", "</s>", "é</s>", ".</s>."):
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert chats.encode([Rendered(text)])[0].ids.tolist() == plain, text
        assert chats.encode([Rendered(text, (), ((0, len(text)),))])[0].ids.tolist().count(2) == 0


def test_control_tokens_that_cannot_be_told_from_text_are_refused_at_once(folder):
    encoder = load_encoder(tokenizer_source(str(folder("nfkc"))), max_length=16)
    assert encoder._ids_of.secret_names["</s>"] != "</s>"
    broken = replace(encoder, _ids_of=replace(encoder._ids_of, secret_names=dict.fromkeys(SPECIAL, "lost")))
    with pytest.raises(UserError, match="cannot tell control tokens apart from text"):
        ChatTokenizer.of(broken)


@pytest.mark.parametrize("template", ["plain", None])
def test_an_end_token_that_the_tokenizer_does_not_find_behind_an_answer_is_refused(template, tmp_path):
    """Older Llama tokenizers look for `▁</s>`: a model would learn to spell `</s>`, and never to stop."""
    source = shared("models/stories260K")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        values = json.loads((source / name).read_text(encoding="utf-8"))
        for token in values.get("added_tokens", []):
            token["normalized"] = True
        for token in values.get("added_tokens_decoder", {}).values():
            token["normalized"] = True
        (tmp_path / name).write_text(json.dumps(values), encoding="utf-8")
    turns = (Message("assistant", "yes"),) if template is None else (Message("user", "a"), Message("assistant", "yes"))
    for folder, refused in ((source, False), (tmp_path, True)):
        encoder = load_encoder(tokenizer_source(str(folder)), max_length=64)
        jinja = None if template is None else named(template)
        chats = DialogueEncoder.of(encoder, jinja, {}, supervise="answers", trusted=False, cuts_prompts=True)
        if not refused:
            assert chats.for_training([Conversation(turns)])[0].ids[-1] == encoder.tokenizer.eos_token_id
            continue
        with pytest.raises(UserError, match="does not find its own end token"):
            chats.for_training([Conversation(turns)])


def test_secret_names_are_drawn_anew_and_none_begins_another():
    tokenizer = load_encoder(tokenizer_source(str(shared("tokenizers/minimind"))), max_length=16).tokenizer
    first, second = TextOnly.of(tokenizer).secret_names, TextOnly.of(tokenizer).secret_names
    assert len(set(first.values())) == len(first) == 36
    assert {len(name) for name in first.values()} == {36}
    assert not set(first.values()) & set(second.values())


# Hiding


@pytest.mark.parametrize(
    ("role", "text", "expected"),
    [
        ("user", "1 < 2 <|X|>", "1 \U000f0000 2 \U000f0001"),
        ("user", "a <|", "a \U000f0000|"),
        ("assistant", "1 < 2 <|X|>", "1 < 2 \U000f0000"),
        ("assistant", "a <| \n", "a \U000f0000 \n"),
        ("assistant", "<think>b</think><THINK>", "<think>b</think>\U000f0000"),
    ],
)
def test_what_is_hidden_from_a_template(role, text, expected):
    control = ControlTokens(["<|x|>", "<think>", "</think>"])
    hidden = EscapedConversation.of(Conversation((Message(role, text),)), control)
    assert hidden.conversation.messages[0].content == expected
    assert hidden.restored(expected, [], control)[0] == text


def test_a_tokenizer_that_does_not_know_a_and_b_has_its_template_read(tmp_path):
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(["<s>", "</s>", "T", "G", "☃"])}
    for known in ("TG", "☃"):
        vocabulary = {letter: number for letter, number in letters.items() if letter in ("<s>", "</s>", *known)}
        tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(vocabulary)}, []))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
        encoder = load_encoder(tokenizer_source(str(tmp_path)), max_length=16)
        assert encoder.encode([known])[0].input_ids.tolist() == [0, *range(2, 2 + len(known)), 1]
        assert encoder.encode([known], [known[0]])[0].input_ids.tolist() == [0, *range(2, 2 + len(known)), 1, 2, 1]


# From the rows to the pipeline


def written(folder: Path, task: str) -> Path:
    """24 rows, some of which hold what looks like a control token before or after any normalizer."""
    rows = []
    for number in range(24):
        asked = f"What is {number} plus 1?" + (" </s> <|IM_END|> ＜/s＞ [SEP]" if number % 4 == 0 else "")
        said = {"chosen": f"It is {number + 1}.", "rejected": "No."} if task == "preference" else {"completion": "Yes."}
        rows.append({"text": f"{asked} It is {number + 1}. " * 4} if task == "clm" else {"prompt": asked, **said})
    return write_jsonl(folder / f"{task}.jsonl", rows)


def run_of(task: str, tokenizer: Path, folder: Path) -> dict:
    return {
        "task": {"name": task}, "model": {"name": "scratch:llama-tiny", "tokenizer": str(tokenizer)},
        "data": {"train": str(written(folder, task)), "max_length": 128}, "evaluate": {"baselines": False},
        "train": {"max_steps": 2, "batch_size": 4, "precision": "fp32"}, "output": str(folder / "run"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("metaspace", "clm"), ("metaspace", "sft"), ("metaspace", "preference"), ("metaspace legacy", "sft"),
        ("deberta", "preference"), ("unigram", "sft"), ("merged", "clm"), ("tiny bert", "sft"),
    ],
)  # fmt: skip
def test_every_kind_of_tokenizer_goes_from_rows_to_the_pipeline(name, task, folder, tiny_bert, tmp_path):
    from transformers import pipeline

    import tunewright as tw
    from tunewright.exporters import export
    from tunewright.verification import verify

    run = tw.train(run_of(task, tiny_bert if name == "tiny bert" else folder(name), tmp_path))
    assert run.folder.joinpath("model", "model.safetensors").is_file()
    (answer,) = tw.load(run.folder).predict(["What is 3 plus 1? </s>"])
    assert isinstance(answer.text, str)
    assert [check.broken for check in verify(run.folder) if check.broken] == []
    merged = export(run.folder, "merged")
    asked = "What is 3" if task == "clm" else [{"role": "user", "content": "What is 3 plus 1?"}]
    pipe = pipeline("text-generation", model=str(merged), trust_remote_code=False)
    (written,) = pipe(asked, max_new_tokens=2, do_sample=False)
    assert len(written["generated_text"]) >= len(asked)


@pytest.mark.parametrize("task", ["sft", "preference"])
def test_a_tokenizer_that_knows_no_places_is_refused_alike_by_check_and_train(task, tmp_path):
    from tunewright.runs.autoconfig import as_config
    from tunewright.runs.data_checks import find_problems
    from tunewright.runs.train import train

    values = run_of(task, shared("tokenizers/byt5"), tmp_path)
    with pytest.raises(UserError, match="gives no offsets of its tokens") as trained:
        train(values)
    with pytest.raises(UserError) as checked:
        find_problems(as_config(values), say=lambda _: None)
    assert str(trained.value) == str(checked.value)
    assert not (tmp_path / "run" / "model").exists()
