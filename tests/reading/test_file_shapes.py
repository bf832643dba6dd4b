"""Several files of different shapes are one training set: each is read by its own columns."""

import json

import pytest

from tests.conftest import shared, write_jsonl
from tunewright.errors import UserError
from tunewright.preparation import prepare
from tunewright.runs.autoconfig import config_for_data, guess_config
from tunewright.runs.data_checks import find_problems
from tunewright.runs.explain import explain
from tunewright.runs.train import train

SHAPES = {
    "alpaca": lambda n: {"instruction": f"Add {n}", "input": "and 2", "output": f"It is {n + 2}."},
    "sharegpt": lambda n: {"conversations": [{"from": "human", "value": f"hi {n}"}, {"from": "gpt", "value": f"hello {n}"}]},
    "messages": lambda n: {"messages": [{"role": "user", "content": f"hey {n}"}, {"role": "assistant", "content": f"yes {n}"}]},
    "pairs": lambda n: {"question": f"What is {n}?", "answer": f"A number, {n}."},
}  # fmt: skip
SAID = {
    "alpaca": ["Add 0\n\nand 2", "It is 2."], "sharegpt": ["hi 0", "hello 0"], "messages": ["hey 0", "yes 0"],
    "pairs": ["What is 0?", "A number, 0."],
}  # fmt: skip


def files(folder, names, rows=20):
    return [str(write_jsonl(folder / f"{name}.jsonl", [SHAPES[name](n) for n in range(rows)])) for name in names]


@pytest.mark.parametrize("first", SHAPES)
def test_each_file_is_read_by_its_own_shape(tmp_path, first):
    names = [first, *(name for name in SHAPES if name != first)]
    guess = guess_config(files(tmp_path, names), task="sft")
    task, said = guess.inputs.task, {}
    for row in guess.inputs.rows():
        example = task.to_example(row)
        said.setdefault(row.source.rsplit("/", 1)[1].removesuffix(".jsonl"), example)
    assert {
        name: [one.partition(": ")[2] for one in task.display_target(example)] for name, example in said.items()
    } == SAID
    assert [line.split("/")[-1].split(":")[0] for line in guess.decision.shapes] == [
        f"{name}.jsonl" for name in names[1:]
    ]


def test_a_mixture_is_trained_and_accounted_for_file_by_file(tmp_path):
    paths = files(tmp_path, ["alpaca", "sharegpt", "pairs"])
    bad = [{"conversations": [{"from": "human", "value": "never answered"}]}]
    write_jsonl(tmp_path / "sharegpt.jsonl", [*(SHAPES["sharegpt"](n) for n in range(20)), *bad])
    words = [
        "task=sft", "model.name=scratch:llama-tiny", f"model.tokenizer={shared('tokenizers/qwen3')}", f"output={tmp_path / 'run'}",
        "train.max_steps=1", "evaluate.num_generated=0", "data.on_bad_rows=skip", "data.max_length=64",
    ]  # fmt: skip
    config = config_for_data(paths, words)
    summary = find_problems(config, say=lambda _: None)[1]
    assert summary["read"] == 61 and any(line.startswith("by itself") for line in summary["decision"])
    ledger = prepare(config).manifest["ledger"]
    assert [(one["read"], one["kept"], one["rejected"]) for one in ledger["sources"]] == [
        (20, 20, 0),
        (21, 20, 1),
        (20, 20, 0),
    ]
    (rejected,) = (prepare(config).store.folder / "rejected.jsonl").read_text().splitlines()
    assert json.loads(json.loads(rejected)["raw"]) == bad[0]
    assert explain(config, f"{paths[1]}:1")["fields"] == SHAPES["sharegpt"](0)
    assert train(config).num_steps == 1


def test_shapes_that_cannot_be_mixed_are_asked_about(tmp_path):
    texts = str(write_jsonl(tmp_path / "texts.jsonl", [{"text": f"Just a text {n}."} for n in range(9)]))
    other = str(
        write_jsonl(tmp_path / "other.jsonl", [{"foo": f"Just a text {n}.", "bar": "Another one."} for n in range(9)])
    )
    with pytest.raises(UserError, match="plain texts and conversations cannot be learned together"):
        guess_config([*files(tmp_path, ["alpaca"]), texts])
    with pytest.raises(
        UserError, match=r"other.jsonl: the roles of its columns are unclear; found 'foo', 'bar'.*instruction"
    ):
        guess_config([*files(tmp_path, ["alpaca"]), other])


def test_classification_files_with_other_names_are_read_if_certain_else_asked_about(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {n} of it", "label": "ab"[n % 2]} for n in range(20)])
    second = write_jsonl(
        tmp_path / "b.jsonl", [{"review": f"a row {n} of it", "sentiment": "ab"[n % 2], "id": n} for n in range(20)]
    )
    third = write_jsonl(
        tmp_path / "c.jsonl",
        [{"one": f"a row {n} of it", "two": f"the row {n} of it", "kind": "ab"[n % 2]} for n in range(20)],
    )
    inputs = guess_config([str(first), str(second)]).inputs
    assert [inputs.task.to_example(row).target for row in inputs.rows()] == ["a", "b"] * 20
    with pytest.raises(UserError, match=r"c.jsonl: the roles of its columns are unclear"):
        guess_config([str(first), str(third)])


def test_preferences_of_two_shapes_are_compared_together(tmp_path):
    pairs = write_jsonl(
        tmp_path / "a.jsonl", [{"prompt": f"Hi {n}", "chosen": f"Hello {n}!", "rejected": "What."} for n in range(20)]
    )
    scored = write_jsonl(
        tmp_path / "b.jsonl",
        [{"prompt": f"Hm {n}", "responses": [f"Good {n}", "Bad"], "scores": [2, 1]} for n in range(20)],
    )
    judged = write_jsonl(
        tmp_path / "c.jsonl", [{"prompt": f"Ho {n}", "completion": "Ha", "label": bool(n % 2)} for n in range(20)]
    )
    inputs = guess_config([str(pairs), str(scored)], task="preference").inputs
    shown = [inputs.task.display_target(inputs.task.to_example(row))[0] for row in inputs.rows()]
    assert shown[20] == {"chosen": "Good 0", "rejected": "Bad"} and shown[0]["rejected"] == "What."
    with pytest.raises(UserError, match="pairs of answers and single answers cannot be compared together"):
        guess_config([str(pairs), str(judged)], task="preference")
