"""Several configs in turn: each starts from the model before it, mistakes are said before anything trains, and it resumes."""

from __future__ import annotations

import json
import random

import pytest
import yaml

from tests.conftest import messages, write_jsonl
from tunewright.cli.train import configs_from
from tunewright.config.run_config import ModelConfig
from tunewright.demos import animals, three_steps
from tunewright.errors import UserError
from tunewright.runs.sequence import check_in_turn, train_in_turn


@pytest.fixture
def two(tiny_bert, tmp_path):
    """A decoder read texts, then answers."""
    rows = [{"prompt": row["text"], "completion": row["label"]} for row in messages(40)]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    write_jsonl(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in messages(40)])
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}"
        "{% else %}{% generation %}{{ m.content + '[SEP]' }}{% endgeneration %}{% endif %}{% endfor %}"
    )
    common = {"train": {"epochs": 1, "precision": "fp32"}, "evaluate": {"baselines": False}}
    first = {
        "task": "clm", "model": {"name": "scratch:gpt-tiny", "tokenizer": str(tiny_bert)},
        "data": {"train": str(tmp_path / "texts.jsonl"), "max_length": 32}, "output": str(tmp_path / "first"), **common,
    }  # fmt: skip
    second = {
        "task": {"name": "sft", "template": template}, "model": "previous",
        "data": {"train": str(tmp_path / "answers.jsonl"), "max_length": 128}, "output": str(tmp_path / "second"), **common,
        "evaluate": {"baselines": False, "num_generated": 0},
    }  # fmt: skip
    paths = []
    for name, values in (("a", first), ("b", second)):
        paths.append(str(tmp_path / f"{name}.yaml"))
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return paths


def test_the_second_starts_from_the_first(two, tmp_path):
    configs = configs_from([*two, "train.seed=1"])
    assert [config.train.seed for config in configs] == [1, 1]
    check_in_turn(configs)
    results = list(train_in_turn(configs))
    assert [result.folder.name for result in results] == ["first", "second"]
    saved = yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())
    assert saved["model"]["name"] == str(tmp_path / "first")
    again = list(train_in_turn(configs))
    assert all(result.already_finished for result in again)


def test_mistakes_of_the_last_are_said_before_the_first_trains(two, tmp_path):
    values = yaml.safe_load((tmp_path / "b.yaml").read_text())
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**values, "data": {**values["data"], "text": "promt"}}))
    with pytest.raises(UserError, match="promt"):
        check_in_turn(configs_from(two))
    assert not (tmp_path / "first").exists()
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**values, "output": str(tmp_path / "first")}))
    with pytest.raises(UserError, match="configs 1 and 2 write to one folder"):
        check_in_turn(configs_from(two))


def test_previous_needs_a_run_before(two):
    with pytest.raises(UserError, match="no run comes before this one"):
        check_in_turn(configs_from(two[1:]))
    with pytest.raises(UserError, match="no run comes before this one"):
        ModelConfig(name="previous").locate()


# The demo's world


def test_held_out_facts_are_told_and_never_asked():
    every = animals.questions()
    held, known = ({one.answer for one in every if one.held_out == yes} for yes in (True, False))
    assert not held & known and len(held) == 60 and len(known) == 180
    assert animals.Question("Where does the owl live?", "An owl lives in a barn.", False).answer in held | known
    read = " ".join(animals.texts(400, random.Random(0)))
    assert all(animal["name"] in read for animal in animals.animals())
    assert animals.first_sentence("A fox eats mice. Stop asking me.") == "A fox eats mice."
    assert animals.is_kind("A fox eats mice. I hope that helps!") and not animals.is_kind(
        "A fox eats mice. Stop asking me."
    )


def test_the_demo_writes_the_same_files_again(tmp_path):
    paths = three_steps.write_files(tmp_path, num_texts=50)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert three_steps.write_files(tmp_path, num_texts=50) == paths
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    asked = {json.loads(line)["prompt"] for line in (tmp_path / "preferences.jsonl").read_text().split("\n") if line}
    assert not asked & {one.prompt for one in animals.questions() if one.held_out}
    check_in_turn(configs_from([str(path) for path in paths]))


def test_claims_say_whether_they_hold():
    def outcome(*scores):
        steps = [three_steps.StepOutcome(name, losses, match, kind, []) for name, losses, match, kind in scores]
        return [claim.holds for claim in three_steps.Outcome([], steps).claims]

    good = ("pretrain", (3.0, 1.0), 0.0, 0.0), ("sft", (2.0, 1.0), 0.9, 0.4), ("prefer", (0.7, 0.1), 0.86, 1.0)
    assert outcome(*good) == [True, True, True]
    assert outcome(*good[:2], ("prefer", (0.7, 0.1), 0.84, 1.0)) == [True, True, False]
    assert outcome(("pretrain", (3.0, 3.1), 0.9, 0.0), *good[1:]) == [False, False, True]
