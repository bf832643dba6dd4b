"""The JSON Schema accepts what the config accepts, and the reference's words for values say what it says."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from tests.conftest import SAMPLES
from tunewright.config.keys import all_keys
from tunewright.config.run_config import RunConfig
from tunewright.config.schema import json_schema, key_schema, values_in_words
from tunewright.plugins import names

SCHEMA = json_schema()


def problems(values):
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(values)]


@pytest.mark.parametrize("task", ["auto", *names("tasks")])
@pytest.mark.parametrize("adapter", ["none", *names("adapters")])
def test_a_config_with_every_value_filled_in_is_valid(task, adapter):
    values = RunConfig.model_validate({"data": "rows.csv", "task": task, "adapter": adapter, "output": "runs/one"})
    assert problems(json.loads(json.dumps(values.as_dict()))) == []


@pytest.mark.parametrize(
    "values",
    [
        {"data": "rows.csv"},
        {"data": ["a.csv", "b.csv"], "task": "ner", "model": "folder", "adapter": "lora"},
        {"data": {"train": "a.csv", "limit": {"train": 5}}, "plugins": "mine", "evaluate": {"every": 500}},
        {"data": "a.csv", "train": {"save_every": "10m", "class_weights": {"late": 2.0}}, "evaluate": {"every": "2 H"}},
        {"data": "a.csv", "train": None},
    ],
)
def test_short_forms_are_valid(values):
    RunConfig.model_validate({key: value for key, value in values.items() if value is not None})
    assert problems(values) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"data": "a.csv", "trian": {}},
        {"data": "a.csv", "train": {"epoch": 3}},
        {"data": "a.csv", "train": {"epochs": 0}},
        {"data": "a.csv", "train": {"optimizer": 5}},
        {"data": "a.csv", "evaluate": {"every": "often"}},
    ],
)
def test_what_the_config_refuses_is_not_valid(values):
    assert problems(values)


def test_the_config_that_init_writes_is_valid_and_names_the_schema(tmp_path, monkeypatch, capsys):
    from tunewright.cli import init

    monkeypatch.chdir(tmp_path)
    init.run([str(SAMPLES / "stars.csv")], output="stars.yaml")
    text = (tmp_path / "stars.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=tunewright.schema.json\n")
    assert problems(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data.padding_side", "auto, right, left"),
        ("train.epochs", "a number > 0 and ≤ 1,000,000"),
        ("train.learning_rate", "auto, or a number > 0"),
        ("train.save_every", "epoch, never, or a whole number > 0, or text such as 10m"),
        ("train.gradient_checkpointing", "true, false"),
    ],
)
def test_the_values_of_a_key_in_words(key, words):
    assert values_in_words(key_schema(all_keys()[key][0])) == words
