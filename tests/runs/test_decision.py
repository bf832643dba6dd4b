"""The first lines: what was decided about the data, the same for `init`, `check` and `train`."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tests.conftest import messages, shared, write_jsonl
from tunewright.cli.train import configs_from, split_words
from tunewright.config.load import load_config
from tunewright.errors import UserError, with_article
from tunewright.preparation import open_inputs
from tunewright.runs.autoconfig import config_for_data, config_text, guess_config, guess_for_data
from tunewright.runs.data_checks import find_problems
from tunewright.runs.decision import decision_of

DECODER = "scratch:llama-tiny"
REAL = [
    ("classification/banking77/train.jsonl", None), ("classification/imdb/train.csv", None), ("classification/imdb/test.jsonl", None),
    ("classification/goemotions/train.jsonl", None), ("classification/sms_spam/all.jsonl", None), ("classification/sms_spam/SMSSpamCollection", None),
    ("ner/wnut17", None), ("ner/ncbi_disease", None), ("instruction/lamini_docs.jsonl", DECODER), ("instruction/alpaca_en_demo.json", DECODER),
    ("instruction/glaive_toolcall_en_demo.json", DECODER), ("instruction/mlx_wwdc25_train.jsonl", DECODER), ("instruction/gsm8k_train_3000.jsonl", DECODER),
    ("preference/politeness_1100.json", DECODER), ("preference/dpo_en_demo.json", DECODER), ("preference/kto_en_demo.json", DECODER),
    ("text/tinyshakespeare.txt", None), ("text/tinyshakespeare.txt", DECODER), ("text/wikitext2_valid.jsonl", None), ("text/wikitext2_valid.jsonl", DECODER),
]  # fmt: skip


def of_config(config):
    return decision_of(config, open_inputs(config))


def bare(decision):
    """A decision without how it was found out, which a config that names everything no longer shows."""
    return {**decision.as_dict(), "reason": None}


@pytest.mark.parametrize(("data", "model"), REAL)
def test_init_check_and_train_decide_alike(tmp_path, data, model):
    words = [f"model.name={model}", f"model.tokenizer={shared('tokenizers/qwen3')}"] if model else []
    path = shared(data)
    if path.is_dir():
        path = next(one for one in sorted(path.iterdir()) if "train" in one.name)
    guess, of_train = guess_for_data(str(path), words)
    (tmp_path / "config.yaml").write_text(config_text(guess))
    of_init = load_config(tmp_path / "config.yaml")
    assert bare(guess.decision) == bare(of_config(of_train)) == bare(of_config(of_init))
    assert of_init.model == of_train.model and of_init.data.text == of_train.data.text
    plain_text = data.startswith("text/")
    assert guess.decision.task == ("clm" if model else "mlm") or not plain_text


def test_check_prints_what_train_prints(tmp_path, tiny_bert):
    from tunewright.cli.progress import ConsoleReporter
    from tunewright.runs.train import train

    path = write_jsonl(tmp_path / "a.jsonl", [{**row, "id": n, "note": "x"} for n, row in enumerate(messages(60))])
    words = [f"model={tiny_bert}", f"output={tmp_path / 'run'}", "train.max_steps=1"]
    config = config_for_data(str(path), words)
    _, summary = find_problems(config, say=print)
    err = io.StringIO()
    with redirect_stderr(err), redirect_stdout(io.StringIO()):
        train(config, reporter=ConsoleReporter(config=config))
    lines = err.getvalue().splitlines()
    assert lines[: len(summary["decision"])] == summary["decision"]
    assert lines[0] == "task      classification (text 'text' by its name, label 'label' by its name)"
    assert "not used  id, note" in lines and "          validation  10 % of the training rows" in lines
    rows = next(line for line in lines if line.startswith("rows "))
    labels = next(line for line in lines if line.startswith("labels"))
    assert sum(summary["labels"].values()) == summary["kept"]["train"] == 48
    assert (
        rows == "rows      train 48  validation 6  test 6  (of 60 read)"
        and f"{len(summary['labels'])} in train" in labels
    )


def test_the_model_that_is_named_decides_the_task(tmp_path, tiny_gpt):
    (tmp_path / "t.txt").write_text("One small sentence about the day.\n" * 30)
    for words in ([f"model={tiny_gpt}"], [f"model.name={tiny_gpt}"]):
        assert config_for_data(str(tmp_path / "t.txt"), words).task.name == "clm"
    assert config_for_data(str(tmp_path / "t.txt")).task.name == "mlm"


def test_several_files_are_one_training_set_and_configs_run_in_turn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a 1.txt", "a2.txt"):
        (tmp_path / name).write_text("One small sentence about the day.\n" * 30)
    for words in (["a 1.txt", "a2.txt"], ["a*.txt"], ["a2.txt", "data.train=a*.txt"]):
        (config,) = configs_from([*words, "train.epochs=1"])
        names = [source.name for _, source in open_inputs(config).of("train")]
        assert (names, config.train.epochs) == (["a 1.txt", "a2.txt"], 1)
    (tmp_path / "one.yaml").write_text("data: a2.txt\n")
    (tmp_path / "two.yaml").write_text("data: ['a*.txt']\n")
    assert len(configs_from(["one.yaml", "two.yaml"])) == 2
    for words in (["one.yaml", "a2.txt"], ["a*.txt", "two.yaml", "seed=1"]):
        with pytest.raises(UserError, match=r"Name data files \(one training set\) or configs \(run in turn\)"):
            configs_from(words)
    with pytest.raises(UserError, match="no file matches this pattern"):
        configs_from(["b*.txt"])
    (tmp_path / "k=v.csv").write_text("text,label\na b,x\n")
    assert split_words(["k=v.csv", "k=v"]) == (["k=v.csv"], ["k=v"])


def test_splits_given_as_one_training_set_are_asked_about(tmp_path):
    for name in ("train.jsonl", "dev.jsonl", "test.jsonl"):
        write_jsonl(tmp_path / name, messages(30))
    files = [str(tmp_path / name) for name in ("dev.jsonl", "test.jsonl", "train.jsonl")]
    with pytest.raises(UserError, match="named like splits"):
        guess_for_data(files)
    assert len(config_for_data(files[2], [f"data.train=[{','.join(files)}]"]).data.train) == 3


def test_a_second_text_that_nobody_reads_is_named(tmp_path):
    rows = [
        {"text": f"Where is the parcel number {n} now?", "body": f"It was sent on day {n} of it.", "label": "ab"[n % 2], "n": n}
        for n in range(20)
    ]  # fmt: skip
    decision = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows))).decision
    assert (decision.not_used, decision.texts_not_used) == (("body", "n"), ("body",))
    assert any("'body' holds text too and is not read" in line for line in decision.lines())


@pytest.mark.parametrize(("noun", "said"), [("mlm model", "an mlm model"), ("clm model", "a clm model"), ("sft run", "an sft run"),
    ("ner model", "an ner model"), ("reward model", "a reward model"), ("answer", "an answer"), ("preference run", "a preference run")])  # fmt: skip
def test_articles(noun, said):
    assert with_article(noun) == said


def test_columns_of_every_file_that_nothing_reads_are_named(tmp_path):
    def rows(first, **more):
        return [{"text": f"it was day {n}", "label": "ab"[n % 2], "who": "x", **more} for n in range(first, first + 20)]

    write_jsonl(tmp_path / "a_train.jsonl", rows(0))
    write_jsonl(tmp_path / "a_test.jsonl", rows(40, when="now"))
    decision = guess_config(str(tmp_path / "a_train.jsonl")).decision
    assert [line for line in decision.lines() if line.startswith("not used")] == [
        "not used  who", f"not used  when (of {tmp_path / 'a_test.jsonl'})"
    ]  # fmt: skip
