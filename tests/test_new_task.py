"""docs/new-task.md: the task that it writes goes through every verb that it names, and through its own contract test."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests.conftest import messages, write_jsonl
from tunewright import plugins
from tunewright.cli.main import app
from tunewright.config.load import parse_config
from tunewright.records import Row
from tunewright.tasks.base import TaskOptions
from tunewright.tokenization.encoder import load_encoder

PAGE = (Path(__file__).parents[1] / "docs" / "new-task.md").read_text(encoding="utf-8")
TASK, CONTRACT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CONFIG = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
COMMANDS = re.findall(r"^tunewright (.*)$", PAGE, re.MULTILINE)


@pytest.fixture
def written(tmp_path, tiny_bert, monkeypatch) -> Path:
    """A folder with what the page says, its rows of words with their lengths as numbers, and a small model in its config."""
    (tmp_path / "word_numbers.py").write_text(TASK, encoding="utf-8")
    texts = [row["text"] for row in messages(60)]
    rows = [{"text": text, "numbers": [len(word) / 4 for word in text.split()]} for text in texts]
    write_jsonl(tmp_path / "words.jsonl", rows)
    values = {**yaml.safe_load(CONFIG), "model": str(tiny_bert), "train": {"epochs": 4, "learning_rate": 3e-3}}
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_TRUSTED", set())
    yield tmp_path
    sys.modules.pop("word_numbers", None)


def test_the_task_has_under_100_lines():
    assert len(TASK.splitlines()) < 100


def test_the_task_goes_through_every_verb(written):
    verbs = [command.split()[0] for command in COMMANDS]
    assert verbs == ["check", "explain", "train", "predict", "evaluate", "verify", "export"]
    shown = {}
    for verb, command in zip(verbs, COMMANDS, strict=True):
        done = CliRunner().invoke(app, shlex.split(command))
        assert done.exit_code == 0 or (verb == "check" and done.exit_code == 1), f"{command}\n{done.output}"
        shown[verb] = done.stdout
    assert json.loads(shown["predict"])["words"] == ["An", "unambiguous", "dog"]
    assert "rmse" in shown["evaluate"] and "Verified: every way" in shown["verify"]
    history = json.loads(Path("runs/words/scores.json").read_text(encoding="utf-8"))["history"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


def test_the_task_keeps_the_contract(written):
    names: dict = {}
    exec(CONTRACT, names)
    next(test for name, test in names.items() if name.startswith("test_"))()


def test_a_task_without_options_has_those_of_every_task(written):
    config = parse_config({"task": "word_numbers", "plugins": ["word_numbers"], "data": {"train": "words.jsonl"}})
    assert type(config.task) is TaskOptions


@pytest.mark.parametrize(
    ("side", "numbers"), [("right", [1, 2, 3, 4, 5, 6]), ("left", [15, 16, 17, 18, 19, 20])], ids=["right", "left"]
)
def test_each_word_keeps_its_number_where_truncation_cuts(written, tiny_bert, side, numbers):
    plugins.trust(["word_numbers"])
    kind = plugins.find("tasks", "word_numbers").Task
    config = parse_config({"data": {"train": "words.jsonl"}, "model": str(tiny_bert)})
    task, _ = kind.from_columns(config, None, ["text", "numbers"], [])
    example = task.to_example(Row("words.jsonl", 1, {"text": "a " * 20, "numbers": list(range(1, 21))}))
    encoder = load_encoder(config.model.locate(), max_length=8, truncation_side=side)
    row = task.encode([example], encoder)[0]
    values = row.values["numbers"]
    assert len(row.input_ids) == len(values) == 8 and np.isnan(values[[0, -1]]).all()
    assert values[1:-1].tolist() == numbers
