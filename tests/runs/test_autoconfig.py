"""What `init` and `train DATA` find out alone: the splits beside a file, the columns, and a config that says the same."""

import re
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SAMPLES, messages, shared, write_jsonl
from tunewright.chat.transcripts import control_marks, headings
from tunewright.config.load import load_config, parse_config
from tunewright.errors import RowError, RowSkipped, UserError
from tunewright.preparation import Inputs
from tunewright.runs.autoconfig import Guess, config_for_data, config_text, guess_config
from tunewright.runs.data_checks import find_problems
from tunewright.runs.decision import Decision

CSV = "review,sentiment\nA fine film,good\nA poor film,bad\nQuite fine,good\nQuite poor,bad\n"


def files(folder, *names, content=CSV):
    for name in names:
        (folder / name).write_text(content)
    return folder


def splits(guess):
    return {
        key: Path(value).name for key, value in guess.values["data"].items() if key in ("train", "validation", "test")
    }


@pytest.mark.parametrize(
    ("names", "data", "found"),
    [
        (["train.csv", "dev.csv", "test.csv"], "", {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}),
        (["train.csv", "dev.csv", "test.csv"], "train.csv", {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}),
        (["train.csv", "dev.csv", "test.csv"], "dev.csv", {"train": "dev.csv"}),
        (["Training.csv", "valid.csv", "val.csv"], "", {"train": "Training.csv", "validation": "valid.csv"}),
        (["train.csv", "test.py", "dev.sh"], "train.csv", {"train": "train.csv"}),
        (["train.csv", "test.aaa", "test.csv", "train_notes.csv"], "", {"train": "train.csv", "test": "test.csv"}),
        (["reviews.csv", "test.csv"], "reviews.csv", {"train": "reviews.csv"}),
        (["reviews.csv"], "", {"train": "reviews.csv"}),
        (["train.csv", ".test.csv"], "", {"train": "train.csv"}),
        (["train.csv", "dev.jsonl", "devel.csv"], "train.csv", {"train": "train.csv", "validation": "devel.csv"}),
        (["faq_train.csv", "faq_valid.csv", "other_valid.csv", "test.csv"], "", {"train": "faq_train.csv", "validation": "faq_valid.csv"}),
        (["faq-train-v2.csv", "faq-test.csv", "faq-test-v2.csv"], "faq-train-v2.csv", {"train": "faq-train-v2.csv", "test": "faq-test-v2.csv"}),
    ],
)  # fmt: skip
def test_the_splits_beside_a_file_are_found(tmp_path, names, data, found):
    guess = guess_config(str(files(tmp_path, *names) / data))
    assert splits(guess) == found
    assert (guess.values["data"]["text"], guess.values["data"]["label"]) == ("review", "sentiment")


def test_a_folder_that_does_not_say_which_is_the_training_file(tmp_path):
    with pytest.raises(
        UserError, match=r"which of these files is the training data\?; found 'a.csv', 'b.csv'. Name it"
    ):
        guess_config(str(files(tmp_path, "a.csv", "b.csv")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no file"):
        guess_config(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no such file"):
        guess_config(str(tmp_path / "nowhere.csv"))


def test_a_folder_of_parquet_shards_is_one_data_set(tmp_path):
    table = pa.table({"text": ["a fine film", "a poor film"] * 3, "label": [1, 0] * 3})
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    guess = guess_config(str(tmp_path))
    assert guess.values["data"]["train"] == str(tmp_path)
    assert [name for name, _ in guess.inputs.of()] == ["train", "test"]


def test_what_is_said_stands(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [{"a": f"one {i}", "b": f"two {i}", "c": "xy"[i % 2], "d": "uv"[i % 2]} for i in range(6)])
    guess = guess_config(str(path), text="a", pair="b", label="d", model="m", extra={"limit": 4})
    assert guess.values == {
        "task": "classification", "model": "m", "data": {"train": str(path), "text": "a", "pair": "b", "label": "d", "limit": 4},
    }  # fmt: skip
    assert guess_config(str(path), text=["a", "b"], label="c").values["data"]["text"] == ["a", "b"]
    with pytest.raises(UserError, match=r"no column 'e'; found 'a', 'b', 'c', 'd'"):
        guess_config(str(path), text="e")


def test_several_labels_a_row_are_noticed(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {i}", "labels": ["x"] * (i % 2)} for i in range(6)])
    assert guess_config(str(path)).values["data"]["multi_label"] is True


@pytest.mark.parametrize("name", ["banking77", "goemotions", "imdb", "sms_spam"])
def test_real_data_needs_no_words(name):
    folder = shared(f"classification/{name}")
    data = folder / "SMSSpamCollection" if name == "sms_spam" else folder
    guess = guess_config(str(data))
    expected = {
        "banking77": ("text", "label"),
        "goemotions": ("text", "labels"),
        "imdb": ("review", "sentiment"),
        "sms_spam": ("column2", "column1"),
    }
    assert (guess.values["data"]["text"], guess.values["data"]["label"]) == expected[name]
    assert parse_config(yaml.safe_load(config_text(guess))).data.train == guess.values["data"]["train"]


# The file that is written


def test_the_written_config_says_what_was_guessed(tmp_path):
    files(tmp_path, "train.csv", "test.csv")
    guess = guess_config(str(tmp_path))
    (tmp_path / "config.yaml").write_text(config_text(guess), encoding="utf-8")
    config = load_config(tmp_path / "config.yaml")
    assert config == parse_config({**guess.values, "data": {**guess.values["data"], "validation_ratio": 0.1}})
    assert "\n# task      classification (text 'review' by its name, label 'sentiment' by its name)\n" in config_text(
        guess
    )


def test_ratios_are_written_where_there_is_no_file():
    guess = guess_config(str(SAMPLES / "customer_messages.jsonl"))
    values = yaml.safe_load(config_text(guess))
    assert (values["data"]["validation_ratio"], values["data"]["test_ratio"]) == (0.1, 0.1)
    assert all("#" in line for line in config_text(guess).split("\n") if line.startswith("  "))


names = st.text(min_size=1, max_size=30) | st.sampled_from(
    ["\x85", "a\nb", "a\n\n b", "\u2028", " a", "# a", "a: b", "'", "no", "5", "é", "\ufeff"]
)


@given(
    train=names,
    test=names | st.none(),
    text=names | st.lists(names, min_size=2, max_size=3),
    pair=names | st.none(),
    label=names,
    model=names,
)
def test_any_names_survive_the_written_config(train, test, text, pair, label, model):
    inputs = Inputs({}, SimpleNamespace(has_classes=True, best_metric=lambda: "f1_macro"), "by its name")
    columns = {"text": str(text), "label": label}
    decision = Decision(
        "classification", "by its name", columns, (label,), (model,), {"train": [train]}, {"test": 0.1}, model
    )
    data = {"train": train, "test": test, "text": text, "pair": pair, "label": label, "label_names": [label, model]}
    data = {key: value for key, value in data.items() if value is not None}
    written = yaml.safe_load(
        config_text(Guess({"task": "classification", "model": model, "data": data}, inputs, decision, []))
    )
    assert written["model"] == model
    assert {key: written["data"].get(key) for key in data} == data


# What `check` finds


def found(tmp_path, tiny_bert, rows, **data):
    values = {
        "model": str(tiny_bert),
        "data": {"train": str(write_jsonl(tmp_path / "a.jsonl", rows)), **data},
        "output": str(tmp_path / "run"),
    }
    return find_problems(parse_config(values), say=lambda _: None)


def test_good_data_has_no_findings(tmp_path, tiny_bert):
    rows = [{"text": row["text"], "label": "ab"[i % 2]} for i, row in enumerate(messages(60))]
    findings, summary = found(tmp_path, tiny_bert, rows)
    assert (
        findings == []
        and summary["rows"] == {"train": 48, "validation": 6, "test": 6}
        and summary["labels"] == {"a": 24, "b": 24}
    )


def test_each_finding_is_said_with_its_number(tmp_path, tiny_bert):
    rows = [{"text": f"word {i} " * 30, "label": "a"} for i in range(100)]  # long
    rows += [
        {"text": "the same", "label": label} for label in ["a"] * 9 + ["A ", "b"]
    ]  # repeated, contradicting, alike, rare
    rows += [{"text": "", "label": "a"}, {"label": "a"}]  # rejected
    findings, summary = found(tmp_path, tiny_bert, rows, max_length=16, validation_ratio=0)
    text = "\n".join(findings)
    assert text.startswith("2 rows that cannot be used: blank text (1); no field 'text'; found 'label' (1). See ")
    assert "of the training tokens are truncated at 16 tokens (" in text and "Raise data.max_length" in text
    assert re.search(r"test rows? with a text that is also in train", text)
    assert "10 rows of 111 with an earlier row's text." in text
    assert "2 texts with different labels." in text
    assert "labels with fewer than 5 rows will hardly be learned: A  (1), b (1)." in text
    assert "the labels are very imbalanced." in text
    assert "labels that differ only in case or spaces: 'A ', 'a'." in text
    assert "no row is left for validation" in text
    assert len(findings) == 9 and summary["labels"] == {"A ": 1, "a": 98, "b": 1}


def test_a_task_that_writes_gets_a_decoder(tmp_path, tiny_gpt):
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": f"Say {n}", "completion": f"It is {n}."} for n in range(20)])
    assert guess_config(str(tmp_path / "a.jsonl")).values["model"].startswith("HuggingFaceTB/SmolLM2")
    assert guess_config(str(tmp_path / "a.jsonl"), model=str(tiny_gpt)).values["model"] == str(tiny_gpt)


def test_a_data_file_alone_is_trained_as_init_says(tmp_path):
    write_jsonl(tmp_path / "qa.jsonl", [{"question": f"Q{i}?", "answer": f"A{i}."} for i in range(20)])
    alone = config_for_data(str(tmp_path / "qa.jsonl"))
    assert (alone.task.name, alone.data.text, alone.data.label) == ("sft", "question", "answer")
    assert config_for_data(str(tmp_path / "qa.jsonl"), ["task.supervise=last_answer"]).task.supervise == "last_answer"
    assert config_for_data(str(tmp_path / "qa.jsonl"), ["task=clm"]).task.name == "clm"


def test_a_test_file_without_labels_is_left_out(tmp_path):
    files(tmp_path, "train.csv")
    (tmp_path / "test.csv").write_text("review\nA film\nNo film\n")
    guess = guess_config(str(tmp_path))
    assert splits(guess) == {"train": "train.csv"}
    assert any("test.csv has no labels: left out" in reason for reason in guess.reasons)


def test_a_folder_of_texts_is_read_whole(tmp_path):
    files(tmp_path, "a.txt", "b.txt", content="One line of text that goes on.\nAnother line of it here.\n")
    found = guess_config(str(tmp_path), task="clm").values["data"]["train"]
    assert [Path(one).name for one in found] == ["a.txt", "b.txt"]


def test_answers_of_true_and_false_are_labels(tmp_path):
    rows = [
        {"question": f"Is it {i}?", "passage": f"It is {i} now, they say.", "answer": i % 2 == 0} for i in range(20)
    ]
    write_jsonl(tmp_path / "boolq.jsonl", rows)
    assert guess_config(str(tmp_path / "boolq.jsonl")).values["task"] == "classification"


COMMON = {  # the name of a public shape: (one of its rows, the task, data.text, data.label)
    "rendered": ({"text": "<|im_start|>user\nHi {i}<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>"}, "sft", "text", None),
    "guanaco": ({"text": "### Human: Hi {i}\n### Assistant: Hello"}, "sft", "text", None),
    "samsum": ({"id": "{i}", "dialogue": "Ann: {i} cakes!\r\nBo: Nice", "summary": "Ann has {i} cakes."}, "sft", "dialogue", "summary"),
    "firefly": ({"kind": "QA", "input": "Why is {i} odd?", "target": "Since {i} is not even."}, "sft", "input", "target"),
    "squad": (
        {"context": "Ulm has {i} towers.", "question": "How many in {i}?", "answers": {"text": ["{i}", "{i} towers"], "answer_start": [8, 8]}},
        "sft", "question", "answers",
    ),
    "thumbs": ({"prompt": "Hi {i}", "response": "Hello {i}", "rating": "up"}, "preference", "prompt", "rating"),
    "movies": ({"title": "The {i}", "plot": "A long story of {i} people in the woods.", "genre": "a"}, "classification", "plot", "genre"),
    "targets": ({"input": "Why is {i} odd?", "target": "a"}, "classification", "input", "target"),
    "summaries": ({"text": "A long story of {i} people.", "summary": "There are {i} of them."}, "sft", "text", "summary"),
    "foods": ({"Summary": "Good number {i}", "Text": "I ate {i} of them at once.", "Score": "a"}, "classification", "Text", "Score"),
    "translations": ({"source": "He has {i} cats and dogs.", "target": "Er hat {i} Katzen und Hunde."}, "sft", "source", "target"),
    "chinese": ({"input": "为什么{i}是奇数呢？请告诉我。", "target": "因为{i}不能被二整除，所以它是一个奇数。"}, "sft", "input", "target"),
    "headings": ({"text": "### Human: Hi {i}### Assistant: Hello"}, "sft", "text", None),
    "turns": ({"conversations": ["Why {i}?", "Because of {i}."]}, "sft", "conversations", None),
    "calls": (
        {"query": "Weather in {i}?", "answers": '[{"name": "weather", "arguments": {"city": "Ulm {i}"}}]', "tools": '[{"name": "weather"}]'},
        "sft", "query", "answers",
    ),
    "definitions": ({"definition": "Say it twice.", "inputs": "Word {i}", "targets": "Word {i} word {i}"}, "sft", None, None),
    "safety": ({"prompt": "Hi", "response": "Hello {i}", "is_safe": "up"}, "preference", "prompt", "is_safe"),
    "slots": ({"words": ["Ann", "{i}", "sleeps"], "slots": ["B-PER", "I-PER", "O"]}, "ner", "words", "slots"),
    "bare": ({"tokens": ["Ann", "{i}", "sleeps"], "tags": ["person", "person", "O"]}, "ner", "tokens", "tags"),
    "doccano": ({"text": "Ann {i}", "entities": [{"start": 0, "end": 3, "label": "P"}], "relations": [], "Comments": []}, "ner", "text", "entities"),
    "positions": ({"text": "Ann {i}", "entities": [{"char_start": 0, "char_end": 3, "ner_label": "P"}]}, "ner", "text", "entities"),
    "topics": ({"text": "Wheat fell by {i} today.", "places": ["usa", "{i}"], "topics": ["a", "wheat"]}, "classification", "text", "topics"),
    "nli": ({"context": "He has {i} cats.", "hypothesis": "He has cats.", "label": "a"}, "classification", "context", "label"),
    "few": ({"text": "It broke after {i} days.", "label": None, "lang": "a"}, "classification", "text", "label"),
    "verdicts": ({"utterance": "I want {i} of them now.", "response": "a"}, "classification", "utterance", "response"),
    "votes": ({"text": "A long story of {i} people.", "summary": "There are {i} of them.", "mood": "a"}, "classification", "text", "mood"),
    "cities": ({"text": "Многие люди живут в {i} домах у реки.", "autor": "Иванов{i}"}, "mlm", "text", None),
    "chats": ({"text": "hi {i} __eou__ hello", "label": "a"}, "classification", "text", "label"),
    "options": ({"text": "It broke after {i} days.", "label": "a", "options": "x"}, "classification", "text", "label"),
    "annotated": ({"chosen": "Why {i}? Good", "rejected": "Why {i}? Bad", "note": "written by annotator seven of us"}, "preference", None, None),
    "empty": ({"text": "It broke after {i} days.", "Tags": None, "Product": "a"}, "classification", "text", "Product"),
}  # fmt: skip


def filled(value, number):
    if isinstance(value, dict):
        return {key: filled(one, number) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, number) for one in value]
    if not isinstance(value, str):
        return value
    flipped = {"up": "down", "a": "b"}
    return flipped[value] if number % 2 and value in flipped else value.replace("{i}", str(number))


@pytest.mark.parametrize("shape", COMMON)
def test_common_shapes_are_known(tmp_path, shape):
    row, task, text, label = COMMON[shape]
    path = write_jsonl(tmp_path / "a.jsonl", [filled(row, number) for number in range(40)])
    values = guess_config(str(path)).values
    assert (values["task"], values["data"].get("text"), values["data"].get("label")) == (task, text, label)
    assert "rendered" not in values["data"]


def test_the_first_answer_and_the_passage_of_a_question_are_read(tmp_path):
    rows = [filled(COMMON["squad"][0], number) for number in range(20)]
    inputs = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows))).inputs
    shown = inputs.task.display_target(inputs.task.to_example(next(inputs.rows())))
    assert shown == ["user: How many in 0?\n\nUlm has 0 towers.", "assistant: 0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"title": "T", "paragraphs": [{"context": "c", "qas": []}]}] * 3, "nested SQuAD articles"),
        (
            [{"data": {"text": f"nice {i}"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["A"]}}]}]} for i in range(4)],
            "Label Studio export of choices.*CSV or JSON-MIN",
        ),
        ([{"question": f"Which {i}?", "choices": ["a", "b"], "answer": i % 2} for i in range(40)], "answers to choose from"),
        ([{"system": f"You are the bot of {i}.", "chat": f"USER: Who are {i}? ASSISTANT: We."} for i in range(9)], "could be the text"),
        ([{"title": f"Who are the {i} of them?", "answer": f"Nobody ever knew the {i}."} for i in range(9)], "task=sft"),
        ([{"task": f"Why are {i} of them odd?", "chosen": f"Since {i}.", "rejected": f"No {i}."} for i in range(9)], "known to hold the prompts"),
    ],
)  # fmt: skip
def test_shapes_that_are_not_read_say_how_to_write_them(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows)))


def test_labels_that_are_others_joined_are_several(tmp_path):
    rows = [{"text": f"row {i}", "tags": ["joy", "anger", "joy|anger"][i % 3]} for i in range(30)]
    guess = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows)))
    assert guess.values["data"]["label_delimiter"] == "|" and guess.values["data"]["multi_label"]
    assert "'joy|anger' and its like are several labels" in guess.reasons[0]
    guess = guess_config(str(tmp_path / "a.jsonl"), extra={"multi_label": False})
    assert "label_delimiter" not in guess.values["data"] and not guess.inputs.task.multi_label


@pytest.mark.parametrize(
    ("line", "task"),
    [
        ("I feel {i} today;joy", "classification"), ("joy\tI feel {i} today", "classification"), ("{i}\tI feel fine", "mlm"),
        ("Well, I feel {i} today", "mlm"), ("I feel {i}; truly", "mlm"),
    ],
)  # fmt: skip
def test_tables_in_files_of_texts(tmp_path, line, task):
    lines = [line.replace("{i}", str(i)).replace("joy", ["joy", "woe"][i % 2]) for i in range(40)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    assert guess_config(str(tmp_path / "train.txt")).values["task"] == task
    (source,) = guess_config(str(tmp_path / "train.txt"), task="mlm", extra={"format": "text"}).inputs.sources["train"]
    assert next(source.rows()).fields == {"text": lines[0]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("__label__{a} I feel fine", "fastText"), ("(3 (2 It) (2 works))", "parse trees"), ("DESC:manner How did it {i} ?", "as in TREC"),
        ("Profit rose by {i} .@{a}", "@ and a label"), ("Hi {i} . __eou__ Hello . __eou__", "__eou__"),
    ],
)  # fmt: skip
def test_labels_within_lines_are_asked_about(tmp_path, line, message):
    lines = [line.replace("{i}", str(i)).replace("{a}", ["positive", "negative"][i % 2]) for i in range(40)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        guess_config(str(tmp_path / "train.txt"))
    assert guess_config(str(tmp_path / "train.txt"), task="mlm").values["task"] == "mlm"
    assert guess_config(str(tmp_path / "train.txt"), extra={"format": "text"}).values["task"] == "mlm"


def test_one_row_of_two_labels_does_not_make_all_rows_so(tmp_path):
    rows = [{"text": f"row {i}", "label": ["joy", "anger"][i % 2]} for i in range(99)] + [
        {"text": "both", "label": "joy,anger"}
    ]
    guess = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows)))
    assert not guess.inputs.task.multi_label and "data.label_delimiter=','" in guess.reasons[0]


@pytest.mark.parametrize(("tokens", "answers"), [(["He", "go"], ["He", "goes"]), (["Answer it."], ["a", "b"])])
def test_lists_of_texts_are_no_turns_where_prompts_and_answers_have_columns(tmp_path, tokens, answers):
    rows = [{"definition": tokens, "inputs": f"What is {i}?", "targets": answers} for i in range(20)]
    inputs = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows)), task="sft").inputs
    with pytest.raises(RowError, match=r"turn|holds"):
        inputs.task.to_example(next(inputs.rows()))


def test_what_only_later_rows_have_is_read_too(tmp_path):
    rows = [{"instruction": f"Say {i}", "output": "Yes."} for i in range(250)]
    rows += [{"instruction": "Say it", "input": "Ulm", "system": "Be short.", "output": "Ulm."}]
    inputs = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows))).inputs
    *_, last = inputs.rows()
    assert inputs.task.display_target(inputs.task.to_example(last)) == [
        "system: Be short.",
        "user: Say it\n\nUlm",
        "assistant: Ulm.",
    ]
    pairs = [{"prompt": f"Say {i}", "chosen": "Yes.", "rejected": "No."} for i in range(250)]
    pairs += [{"prompt": "Say it", "system": "Be short.", "chosen": "It.", "rejected": "No."}]
    inputs = guess_config(str(write_jsonl(tmp_path / "b.jsonl", pairs))).inputs
    *_, last = inputs.rows()
    assert inputs.task.to_example(last).target[0].chosen.messages[0].content == "Be short."


def test_a_winner_among_turns_has_no_prompt_of_its_own(tmp_path):
    ties = {
        "prompt": "Hi",
        "response_a": "a",
        "response_b": "b",
        "winner_model_a": 0,
        "winner_model_b": 0,
        "winner_tie": 1,
    }
    inputs = guess_config(
        str(write_jsonl(tmp_path / "a.jsonl", [ties | {"winner_model_a": 1, "winner_tie": 0}, ties]))
    ).inputs
    won, tied = inputs.rows()
    assert inputs.task.to_example(won).target[0].chosen.messages[-1].content == "a"
    with pytest.raises(RowSkipped, match="a tie"):
        inputs.task.to_example(tied)


def test_rows_without_a_gold_label_are_left_out(tmp_path):
    rows = [{"gold_label": "-a"[i % 2], "sentence1": f"a man {i}", "sentence2": "a woman"} for i in range(4)]
    inputs = guess_config(str(write_jsonl(tmp_path / "a.jsonl", rows))).inputs
    with pytest.raises(RowSkipped, match="no gold label"):
        inputs.task.to_example(next(inputs.rows()))


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"input": "Why is {i} odd?", "target": "0.{i}"}, "regression"),
        ({"title": "The {i}", "link": "https://example.org/a/long/path/{i}", "category": "a"}, "classification"),
        ({"text": "User: hi {i}\nAgent: hello\n"}, "mlm"),
        ({"text": "He wrote [INST] and <|im_start|> in note {i}."}, "mlm"),
    ],
)
def test_shapes_that_only_look_like_others(tmp_path, row, task):
    path = write_jsonl(tmp_path / "a.jsonl", [filled(row, number) for number in range(40)])
    guess = guess_config(str(path))
    assert guess.values["task"] == task
    assert guess.values["data"]["text"] != "link"


def test_several_answers_are_no_answer(tmp_path):
    row = {"question": "Why {i}?", "answers": ["a {i}", "b"], "correct": "a"}
    path = write_jsonl(tmp_path / "a.jsonl", [filled(row, number) for number in range(40)])
    assert guess_config(str(path)).values["task"] != "sft"


def test_only_the_beginning_of_long_texts_is_looked_at():
    assert headings(["User: hi\n" * 50_000, "\n" * 10**6]) is None
    assert control_marks(["[INST]" * 200_000]) is None
    assert headings(["\nUser: hi\n  Assistant: ho"]) == "User: … Assistant:"
    assert headings(["Assistant: ho\nUser: hi"]) is None
