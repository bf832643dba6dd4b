"""Help and reference name the task or adapter of a key, and a key that nothing reads is refused."""

import pytest

from tunewright.cli.config import _print_keys
from tunewright.config.keys import all_keys
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.plugins import find, names
from tunewright.tasks.base import TASK_SPECIFIC

PLUGINS = [(kind.rstrip("s"), name) for kind in ("tasks", "adapters") for name in names(kind)]
CHANGED = {
    "data.pair": "p", "data.label": "l", "data.label_names": ["a"], "data.multi_label": True, "data.label_delimiter": ",",
    "data.weight": "w", "train.class_weights": "balanced", "evaluate.threshold": 0.3, "evaluate.num_generated": 3,
}  # fmt: skip


@pytest.mark.parametrize(("section", "name"), PLUGINS)
def test_every_key_of_a_task_or_adapter_is_shown_with_its_owner_and_its_own_text(section, name, capsys):
    options = find(f"{section}s", name).Options
    _print_keys(None)
    lines = capsys.readouterr().out.splitlines()
    for key, field in options.model_fields.items():
        settings = [one for one in all_keys()[f"{section}.{key}"] if one.field.description == field.description]
        if any(not one.owners for one in all_keys()[f"{section}.{key}"]):
            continue  # a key that all of them have
        (setting,) = settings
        assert name in setting.owners
        shown = [
            line for line in lines if line.startswith(f"{section}.{key} = ") and line.endswith(f" {field.description}")
        ]
        assert len(shown) == 1 and f"[{', '.join(setting.owners)}] " in shown[0], key


def test_a_key_that_adapters_have_in_common_is_shown_once_for_each_meaning():
    targets = all_keys()["adapter.targets"]
    assert [one.owners for one in targets] == [("ia3",), ("lora",)]
    assert [one.owners for one in all_keys()["adapter.num_tokens"]] == [("prefix",), ("prompt",)]
    assert [one.owners for one in all_keys()["task.too_long"]] == [("preference", "reward", "sft")]


def test_the_keys_that_only_some_tasks_read_are_all_there_are():
    assert set(CHANGED) == TASK_SPECIFIC <= set(all_keys())
    for name in names("tasks"):
        assert find("tasks", name).Options.reads <= TASK_SPECIFIC


@pytest.mark.parametrize("key", sorted(CHANGED))
@pytest.mark.parametrize("task", names("tasks"))
def test_a_key_that_the_task_does_not_read_is_refused(task, key):
    section, _, last = key.partition(".")
    values = {"data": {"train": "a.csv"}, "task": task}
    values.setdefault(section, {})[last] = CHANGED[key]
    if key in find("tasks", task).Options.reads:
        parse_config(values)
        return
    readers = [name for name in names("tasks") if key in find("tasks", name).Options.reads]
    with pytest.raises(UserError) as error:
        parse_config(values)
    assert (
        str(error.value)
        == f"config: {key} has no effect: {task} does not read it ({', '.join(readers)} does); leave it out."
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"adapter": {"name": "lora", "num_tokens": 5}},
            "it is a setting of another adapter: set adapter.name to prefix or prompt",
        ),
        ({"task": {"name": "clm", "window": 5}}, "it is a setting of another task: set task.name to ner"),
        ({"task": {"window": 5}}, "it is a setting of another task: set task.name to ner"),
        ({"data": {"window_overlap": 5}}, "it belongs to task.window_overlap"),
    ],
)
def test_an_unknown_key_that_others_have_names_them(values, text):
    with pytest.raises(UserError, match=text):
        parse_config({**values, "data": {"train": "a.csv", **values.get("data", {})}})
