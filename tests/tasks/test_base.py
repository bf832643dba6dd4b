"""What callers may use of a task is declared by `tasks.base.Task`, and what a task keeps comes from its fields."""

import ast
import json
from pathlib import Path

import pytest

import tunewright
from tunewright.config.renamed import upgraded_state
from tunewright.files.record_json import from_json, to_json
from tunewright.plugins import find, names
from tunewright.records import Prediction
from tunewright.tasks.base import Task

ROOT = Path(tunewright.__file__).parent
ABSTRACT = {
    "name", "from_columns", "to_example", "to_input", "encode", "label_schema", "collate", "build_model", "loss", "weights", "decode",
    "metrics",
}  # fmt: skip
COLUMNS = {"text": ["text"], "pair": None, "label": "label", "weight": None, "label_delimiter": None, "labels": []}
CHAT = {
    "format": "pair",
    "prompt": "prompt",
    "answer": "completion",
    "input": None,
    "system": None,
    "history": None,
    "tools": None,
}
SFT = {
    "dialogues": {**CHAT, "compared": None}, "template": "x", "template_kwargs": {}, "supervise": "answers", "rendered": False,
    "too_long": "cut_prompt", "num_compared": 4, "weight": None, "recognized": None, "end_ids": [1, 2], "reasoning": "refuse",
    "strip_end_tokens": False, "answers_after": None, "answers_until": None, "transcript": None,
}  # fmt: skip
PREFERENCES = {
    "format": "pairs", "prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "answers": None, "scores": ["a", "b"], "winner": None,
    "completion": None, "label": None, "input": None, "system": None, "history": None, "tools": None,
}  # fmt: skip
COMPARED = {"preferences": PREFERENCES, "chat": SFT, "weight": None}
OBJECTIVE = {
    "loss": "dpo", "beta": 0.1, "label_smoothing": 0.0, "margin": 1.0, "desirable_weight": 1.0, "undesirable_weight": 1.0,
    "length_normalized": False,
}  # fmt: skip
STATES = [
    ("classification", {"columns": COLUMNS, "labels": ["a", "b"], "multi_label": False, "label_names": None, "threshold": 0.5, "multi_hot": False}),
    ("ner", {
        "columns": COLUMNS, "types": ["LOC"], "label_names": None, "tag_pairs": [[0, 1, 5]], "named_by_config": False, "overlaps": "refuse",
        "annotator": None, "align": "expand", "long_texts": "windows", "window": "auto", "stride": 16, "label_pieces": "first", "legal": True,
        "transitions": 0.2,
    }),
    ("mlm", {"columns": COLUMNS, "mask_probability": 0.15, "whole_word": False, "next_sentence": True, "seed": 3}),
    ("clm", {"columns": COLUMNS, "stride": None, "transcript": None, "strip_end_tokens": False, "spelled_end": None}),
    ("sft", SFT),
    ("reward", COMPARED),
    ("preference", COMPARED),
    ("preference", {**COMPARED, "objective": OBJECTIVE, "origin": {"model": {"name": "m"}, "seed": 1}}),
]  # fmt: skip
"""States as version 0.1 wrote them."""


def is_task(node: ast.expr) -> bool:
    """`task`, `self.task`, `run.task`, `prepared.task()`; not the `task` section of a config."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Name):
        return node.id in ("task", "_task", "model_task")
    sections = ("config", "asked", "resolved", "options", "wished")
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("task", "_task")
        and ast.unparse(node.value).split(".")[-1] not in sections
    )


def test_no_caller_uses_a_member_that_task_does_not_declare():
    used: dict[str, str] = {}
    for path in sorted(ROOT.rglob("*.py")):
        if path.parent.name == "tasks":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_task(node.value):
                used.setdefault(node.attr, f"{path.relative_to(ROOT)}:{node.lineno}")
            named = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
            )
            assert not (named and is_task(node.args[0]) and isinstance(node.args[1], ast.Constant)), (
                f"{path}:{node.lineno} asks whether a task has a member"
            )
    assert len(used) > 40
    assert {name: where for name, where in used.items() if not hasattr(Task, name)} == {}


def test_twelve_members_are_abstract():
    assert Task.__abstractmethods__ == ABSTRACT


@pytest.mark.parametrize("name", [name for name in names("tasks") if "." not in name])
def test_a_task_adds_no_public_method_that_another_module_must_know(name):
    task = find("tasks", name).Task
    assert issubclass(task, Task) and not task.__abstractmethods__
    assert isinstance(task.name, str) and task.name == name


@pytest.mark.parametrize(("name", "state"), STATES)
def test_states_of_earlier_versions_are_read_and_written_the_same(name, state):
    state = upgraded_state(name, json.loads(json.dumps(state)))
    task = find("tasks", name).Task.from_state(state)
    assert json.loads(json.dumps(task.state())) == state
    assert find("tasks", name).Task.from_state(task.state()) == task


def test_what_an_earlier_version_did_not_write_has_its_default():
    task = find("tasks", "classification").Task.from_state(
        {"columns": {"text": ["text"]}, "labels": ["a"], "multi_label": False}
    )
    assert (task.threshold, task.multi_hot, task.columns.labels) == (0.5, False, ())
    with pytest.raises(TypeError, match="colums"):
        find("tasks", "mlm").Task.from_state({"colums": {"text": ["text"]}})


def test_a_record_is_read_back_as_its_hints_say():
    preferences = find("tasks", "reward").Task.from_state(upgraded_state("reward", COMPARED)).preferences
    assert preferences.scores == ("a", "b") and preferences.chosen == "chosen"
    assert from_json(type(preferences), to_json(preferences)) == preferences


def test_old_names_of_public_methods_are_understood_with_a_warning():
    found = Prediction("a", 0.4, {"a": 0.4})
    with pytest.deprecated_call(match="above is now called with_min_score"):
        assert found.above(0.5).label is None
    assert found.with_min_score(0.3) is found
