"""The config: strict, every problem at once, keys of other trainers translated, and what a resumed run may change."""

import contextlib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunewright.config.keys import all_keys
from tunewright.config.load import load_config, parse_config
from tunewright.config.problems import FOREIGN_KEYS
from tunewright.config.run_config import RunConfig
from tunewright.errors import UserError
from tunewright.plugins import find, names, trust
from tunewright.runs.resume import EXTENDABLE, HARMLESS, compare_configs, flat
from tunewright.settings import Cadence

BASE = {"data": {"train": "a.csv"}}


def said(values, *overrides):
    with pytest.raises(UserError) as error:
        load_config(None, overrides, base=values)
    return str(error.value)


# Values


def test_every_default_is_valid_and_every_key_explained():
    config = parse_config(BASE)
    assert parse_config(config.as_dict()) == config
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.as_dict()))) == config
    for key, settings in all_keys().items():
        for field, _ in settings:
            assert field.description and field.description[-1] in ".?…)", key
    assert (config.train.epochs, config.train.batch_size, config.data.validation_ratio) == (3, 16, 0.1)


def test_texts_and_lists_stand_for_data_and_model():
    assert parse_config({"data": "a.csv", "model": "my/model"}).model.name == "my/model"
    assert parse_config({"data": "a.csv"}).data.train == "a.csv"
    assert parse_config({"data": ["a.csv", "b.csv"]}).data.train == ["a.csv", "b.csv"]


def test_a_section_with_every_line_commented_out_is_the_default():
    assert parse_config({**BASE, "train": None, "evaluate": None, "model": None}) == parse_config(BASE)


def test_a_config_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        parse_config(BASE).train.epochs = 5


def test_the_run_folder_is_named_by_the_data_and_the_config():
    one, other = (
        parse_config({"data": "x/Reviews 2024.csv.gz"}),
        parse_config({"data": "x/Reviews 2024.csv.gz", "train": {"seed": 1}}),
    )
    assert one.run_folder.parent == Path("runs") and one.run_folder.name.startswith("reviews-2024-")
    assert one.run_folder != other.run_folder == parse_config(other.as_dict()).run_folder
    assert parse_config({"data": "banking/train.jsonl"}).run_folder.name.startswith("banking-")
    assert parse_config({"data": "hub:owner/name"}).run_folder.name.startswith("name-")
    assert parse_config({"data": ["b.csv", "c.csv"]}).run_folder.name.startswith("b-")
    named = parse_config({**BASE, "output": "out/here"})
    assert (named.run_folder, named.store_folder) == (Path("out/here"), Path("out/.store"))


# Problems


@pytest.mark.parametrize("foreign", sorted(FOREIGN_KEYS))
@pytest.mark.parametrize("section", [None, "train"])
def test_keys_of_other_trainers_are_translated(foreign, section):
    text = said({**BASE, section: {foreign: 1}} if section else {**BASE, foreign: 1})
    assert (
        text
        == f"config: unknown key '{section + '.' if section else ''}{foreign}'; here it is {FOREIGN_KEYS[foreign]}."
    )
    assert FOREIGN_KEYS[foreign] in all_keys() or FOREIGN_KEYS[foreign] == "model"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch'; did you mean train.epochs?"),
        ({"train": {"lerning_rate": 3}}, "unknown key 'train.lerning_rate'; did you mean train.learning_rate?"),
        ({"epochs": 3}, "unknown key 'epochs'; it belongs to train.epochs."),
        ({"train": {"max_length": 3}}, "unknown key 'train.max_length'; it belongs to data.max_length."),
        ({"evaluate": {"batch_sise": 3}}, "unknown key 'evaluate.batch_sise'; did you mean train.batch_size?"),
        ({"trian": {"epochs": 3}}, "unknown key 'trian'; did you mean train?"),
        ({"zzz": 3}, "unknown key 'zzz'; known: 'task', 'model', 'data', 'adapter', 'train', 'evaluate', 'plugins', 'output'."),
        ({7: 3}, "unknown key '7'; known: "),
    ],
)  # fmt: skip
def test_an_unknown_key_names_the_one_that_was_meant(values, text):
    assert text in said({**BASE, **values})


def test_all_problems_are_said_at_once():
    text = said(
        {
            "data": {"train": "a.csv", "lable": "y", "max_length": -1},
            "train": {"epochs": 0, "optimizer": "adamv", "bf16": True},
        }
    )
    assert text.splitlines()[0] == "config: 5 problems:"
    assert sorted(line.split(":")[0].split(";")[0].strip(" -") for line in text.splitlines()[1:]) == [
        "data.max_length", "train.epochs", "train.optimizer", "unknown key 'data.lable'", "unknown key 'train.bf16'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values", [{}, {"train": {"epochs": 3}}, {"data": None}, {"data": {"text": "t"}}, {"data": {}}]
)
def test_without_data_it_says_so(values):
    assert said(values) == "config: no data given. Set data.train to a file."


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"train": {"learning_rate": "fast"}}, "train.learning_rate: "),
        ({"train": {"learning_rate": -1}}, "train.learning_rate: input should be greater than 0 or input should be 'auto', found -1"),
        ({"train": {"save_every": "often"}}, "train.save_every: expected `epoch`, a number of steps (500), a time (90s, 10m, 1h) or `never`, found 'often'"),
        ({"train": {"save_every": True}}, "train.save_every: expected `epoch`"),
        ({"train": {"save_every": 0}}, "train.save_every: expected `epoch`"),
        ({"train": 5}, "train: input should be a valid dictionary"),
        ({"model": {"name": [5]}}, "model.name: input should be a valid string, found [5]"),
        ({"evaluate": {"threshold": 1}}, "evaluate.threshold: input should be less than 1, found 1"),
        ({"train": {"class_weights": {"a": 0}}}, "train.class_weights: "),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_key_and_what_was_found(values, text):
    assert said({**BASE, **values}).startswith(f"config: {text}")


# Files


def test_a_file_may_write_numbers_as_people_do(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: a.csv\ntrain:\n  learning_rate: 5e-5\n  epochs: 1e0\n  save_every: 10m\n  class_weights: {0: 1, 1: 5}\noutput: 2024-01-01\n"
    )
    config = load_config(tmp_path / "c.yaml")
    assert (config.train.learning_rate, config.train.epochs, config.train.save_every) == (5e-5, 1.0, "10m")
    assert (config.train.class_weights, config.output) == ({"0": 1.0, "1": 5.0}, "2024-01-01")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("data: a.csv\ntrain: [1\n", r"c.yaml:3: not valid YAML .* Mend that line."),
        ("data: a.csv\n\ttrain: 1\n", r"c.yaml:2: not valid YAML"),
        (
            "data: a.csv\ntrain:\n  seed: 1\n  epochs: 2\n  seed: 3\n",
            r"c.yaml:5: not valid YAML \('seed' is given twice here\)",
        ),
        ("data: a.csv\ndata: b.csv\n", r"c.yaml:2: not valid YAML \('data' is given twice here\)"),
        ("- a\n", r"c.yaml: not a config; found list; expected sections"),
        ("", r"c.yaml: not a config; found NoneType"),
        ("a.csv\n", r"c.yaml: not a config; found str"),
        ("data: a.csv\ntrain:\n  epoch: 1\n", r"c.yaml: unknown key 'train.epoch'"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file_and_line(tmp_path, content, text):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UserError, match=text):
        load_config(tmp_path / "c.yaml")


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "config.yaml").write_text("data: a.csv")
    with pytest.raises(UserError, match=r"confg.yaml: no such config file. Did you mean config.yaml\?"):
        load_config(tmp_path / "confg.yaml")
    with pytest.raises(UserError, match=r"`tunewright init DATA` writes one"):
        load_config(tmp_path / "nowhere" / "c.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"data: caf\xe9.csv")
    with pytest.raises(UserError, match=r"latin.yaml:1: not valid YAML \(byte 0xE9 is not UTF-8\)"):
        load_config(tmp_path / "latin.yaml")


# key=value


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("train.epochs=5", "train.epochs", 5.0), ("train.learning_rate=5e-5", "train.learning_rate", 5e-5),
        ("train.learning_rate=auto", "train.learning_rate", "auto"),
        ("train.learning_rate=1E-4", "train.learning_rate", 1e-4), ("data.text=[a, b]", "data.text", ["a", "b"]),
        ("data.train=[x.csv,y.csv]", "data.train", ["x.csv", "y.csv"]),
        ("data=b.csv", "data.train", "b.csv"), ("data=[b.csv, c.csv]", "data.train", ["b.csv", "c.csv"]),
        ("model=m/n", "model.name", "m/n"), ("model.revision=v1", "model.revision", "v1"),
        ("data.limit={train: 5}", "data.limit", {"train": 5}), ("data.limit=7", "data.limit", 7),
        ("data.test=", "data.test", None), ("data.deduplicate=true", "data.deduplicate", True),
        ("train.class_weights={spam: 2}", "train.class_weights", {"spam": 2.0}),
        ("output=runs/x=y", "output", "runs/x=y"), ("data.delimiter=;", "data.delimiter", ";"),
        ("data.delimiter=,", "data.delimiter", ","), ("data.delimiter=|", "data.delimiter", "|"),
        ("data.label='1'", "data.label", "1"), ("train.save_every=500", "train.save_every", 500),
        ("data.train=C:\\data: x.csv", "data.train", "C:\\data: x.csv"), ("data.train=a #1.csv", "data.train", "a #1.csv"),
        ("data.delimiter=#", "data.delimiter", "#"), ("output=2024-01-01", "output", "2024-01-01"), ("output=2024-99-01", "output", "2024-99-01"),
        ("data.label=0", "data.label", "0"), ("data.label_names=[0, 1]", "data.label_names", ["0", "1"]), ("data.label=null", "data.label", None),
        ("train.class_weights={0: 1, 1: 5}", "train.class_weights", {"0": 1.0, "1": 5.0}), ("data.text=a,b", "data.text", "a,b"),
        ("data.text=['a,b', c]", "data.text", ["a,b", "c"]), ("data.text=-", "data.text", "-"), ("data.text=", "data.text", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "base",
    [
        BASE,
        {"data": "a.csv", "model": "m"},
        {"data": {"train": "a.csv", "test": "t.csv"}, "model": {"name": "m"}, "train": None},
    ],
)
def test_words_are_laid_over(word, key, value, base):
    assert flat(load_config(None, [word], base=base).as_dict())[key] == value


def test_words_keep_what_they_do_not_name():
    base = {"data": {"train": "a.csv", "text": "t"}, "model": {"name": "m", "revision": "r"}}
    config = load_config(None, ["data=b.csv", "model=n", "data.label=y"], base=base)
    assert (config.data.train, config.data.text, config.data.label) == ("b.csv", "t", "y")
    assert (config.model.name, config.model.revision) == ("n", "r")
    assert base == {"data": {"train": "a.csv", "text": "t"}, "model": {"name": "m", "revision": "r"}}
    assert load_config(None, ["data.text=t"], base={"data": ["a.csv", "b.csv"]}).data.train == ["a.csv", "b.csv"]


@pytest.mark.parametrize("word", ["epochs", "=5", "train epochs=5", "5=5", "--train.epochs=5"])
def test_what_is_no_word(word):
    assert "not a key=value word" in said(BASE, word)


def test_a_value_has_no_keys():
    assert (
        said(BASE, "train.epochs=3", "train.epochs.x=1")
        == "train.epochs.x=1: 'epochs' is a value and has no keys; found 3."
    )
    assert (
        said({**BASE, "train": "x"}, "train.epochs=3")
        == "train.epochs=3: 'train' is a value and has no keys; found 'x'."
    )


# How often


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("epoch", "epoch", 1), ("Never", "never", 1), (500, "steps", 500), ("500", "steps", 500), ("90s", "seconds", 90),
        ("10m", "seconds", 600), ("2 h", "seconds", 7200),
    ],
)  # fmt: skip
def test_how_often(text, kind, amount):
    assert Cadence.parse(text) == Cadence(kind, amount)


@pytest.mark.parametrize("text", ["", "0", "-5", "0m", "1.5h", "5d", "epochs", "²", "1e3"])
def test_no_such_time(text):
    with pytest.raises(ValueError, match="a number of steps"):
        Cadence.parse(text)


# Resuming

trust(["my_package.my_metric"])
CHANGED = {
    "output": "x", "plugins": ["my_package.my_task"], "train.log_every": 7, "train.log_to": ["tensorboard"], "train.save_every": 7, "train.keep_checkpoints": 5,
    "train.micro_batch_tokens": 77, "train.device": "cpu",
    "evaluate.baselines": False, "evaluate.worst_rows": 3, "train.epochs": 5.0, "train.max_steps": 9,
    "train.early_stopping": 2, "task.name": "classification", "model.name": "other", "model.tokenizer": "other", "model.add_tokens": ["word"],
    "model.special_tokens": {"eos": "x"},
    "model.revision": "r", "model.quantize": "4bit", "train.seed": 3, "train.batch_size": 3, "train.learning_rate": 1e-3,
    "train.head_learning_rate": 1e-3, "train.schedule": "cosine",
    "train.warmup": 0.5, "train.optimizer": "sgd", "train.weight_decay": 0.5, "train.beta1": 0.5, "train.beta2": 0.5,
    "train.epsilon": 1e-6, "train.max_grad_norm": 5.0,
    "train.class_weights": "balanced", "train.freeze": 1, "train.dropout": "pytorch", "train.execution": "plain", "train.precision": "fp32",
    "train.gradient_checkpointing": True, "evaluate.every": 7,
    "evaluate.metric": "accuracy", "evaluate.metrics": ["my_package.my_metric"], "evaluate.threshold": 0.3, "evaluate.num_generated": 5,
}  # fmt: skip
OTHER_DATA = {
    "train": "b.csv", "validation": "b.csv", "test": "b.csv", "format": "csv", "encoding": "cp1252", "delimiter": ";",
    "header": True, "quoting": False, "config": "c", "revision": "r",
    "train_split": "s", "validation_split": "s", "test_split": "s", "split_column": "s", "text": "t", "pair": "p", "label": "l",
    "label_names": ["a", "b"], "multi_label": True,
    "label_delimiter": ",", "weight": "w", "validation_ratio": 0.3, "test_ratio": 0.3, "group_by": "g",
    "stratify": False, "limit": 5, "seed": 5, "on_bad_rows": "skip",
    "deduplicate": True, "max_row_bytes": 99, "max_length": 99, "padding": "max_length", "padding_side": "left",
    "truncation_side": "left", "documents": "line", "label_file": "auto",
}  # fmt: skip
CHANGED |= {f"data.{key}": value for key, value in OTHER_DATA.items()}


def other_value(field):
    """A value that a setting does not have by default."""
    if "bool" in str(field.annotation) and field.default is None:
        return True
    default = field.get_default(call_default_factory=True)
    kinds = str(field.annotation)
    if isinstance(default, bool):
        return not default
    if "Literal" in kinds and "int" not in kinds:
        return next(value for value in get_args(field.annotation) if value != default)
    if isinstance(default, float):
        return default / 2 or 0.1
    if "int" in kinds or "float" in kinds:
        return 7
    return {"x": "y"} if "dict" in kinds else ["x"] if "list" in kinds else "x"


CHANGED |= {"adapter.name": "lora"}
OF_PLUGINS = {
    f"{section}.{key}": (plugin, other_value(field))
    for section, kind in (("task", "tasks"), ("adapter", "adapters"))
    for plugin in names(kind)
    for key, field in find(kind, plugin).Options.model_fields.items()
    if key != "name"
}
"""Keys that only some tasks or adapters have: one of those, and another value."""


def with_value(key, value):
    section, _, name = key.rpartition(".")
    if key in OF_PLUGINS:
        return parse_config({**BASE, section: {"name": OF_PLUGINS[key][0], name: value}})
    return parse_config({**BASE, section: {**BASE.get(section, {}), name: value}} if section else {**BASE, key: value})


def test_every_key_is_changed_here():
    assert set(CHANGED) | set(OF_PLUGINS) == set(all_keys())


@pytest.mark.parametrize("key", sorted({**CHANGED, **OF_PLUGINS}))
def test_what_a_resumed_run_may_change(key, tmp_path):
    before = parse_config({**BASE, "train": {"max_steps": 7}} if key == "train.max_steps" else BASE)
    if key in OF_PLUGINS:
        before = parse_config({**BASE, key.split(".")[0]: {"name": OF_PLUGINS[key][0]}})
    now = with_value(key, OF_PLUGINS[key][1] if key in OF_PLUGINS else CHANGED[key])
    if key in HARMLESS:
        assert compare_configs(before, now, folder=tmp_path) == []
    elif key in EXTENDABLE:
        (line,) = compare_configs(before, now, folder=tmp_path)
        assert line.startswith(f"{key}: ") and line.endswith(f" -> {CHANGED[key]}, training goes on to the new end")
    else:
        with pytest.raises(
            UserError,
            match=rf"(?s)output .*: this folder holds a run with another config:\n  {key}: .* -> .*Set output",
        ):
            compare_configs(before, now, folder=tmp_path)
    assert compare_configs(now, now, folder=tmp_path) == []


@pytest.mark.parametrize(("key", "long", "short"), [("epochs", 5, 3), ("max_steps", 9, 7), ("max_steps", None, 7)])
def test_training_grows_longer_and_never_shorter(tmp_path, key, long, short):
    longer, shorter = parse_config({**BASE, "train": {key: long}}), parse_config({**BASE, "train": {key: short}})
    assert len(compare_configs(shorter, longer, folder=tmp_path)) == 1
    with pytest.raises(UserError, match=rf"train.{key}: "):
        compare_configs(longer, shorter, folder=tmp_path)


def test_all_refused_changes_are_shown(tmp_path):
    now = parse_config({**BASE, "train": {"seed": 5, "batch_size": 4, "log_every": 3}})
    with pytest.raises(UserError) as error:
        compare_configs(parse_config(BASE), now, folder=tmp_path)
    assert "train.seed: 0 -> 5" in str(error.value) and "train.batch_size: 16 -> 4" in str(error.value)
    assert "-> 4. Set output to a new folder" in str(error.value) or "-> 5. Set output to a new folder" in str(
        error.value
    )
    assert "log_every" not in str(error.value)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_word_is_a_config_or_a_user_error(key, value):
    words = [f"{key}={value}", f"data.{key}={value}", f"train.epochs={value}"]
    with contextlib.suppress(UserError):
        assert isinstance(load_config(None, words, base=BASE), RunConfig)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from([*all_keys(), "data", "train", "x"]), inner, max_size=4),
    )
)
def test_any_values_are_a_config_or_a_user_error(values):
    with contextlib.suppress(UserError):
        parse_config(values if isinstance(values, dict) else {"data": values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data": {"limit": {"train": 20, "foo": 3}}},
            "data.limit: foo: input should be 'train', 'validation' or 'test'",
        ),
        (
            {"train": {"class_weights": {"ham": -2}}},
            "train.class_weights: ham: input should be greater than 0, found -2",
        ),
        ({"train": {"class_weights": {"a": "x", "b": -1}}}, "b: input should be greater than 0, found -1"),
        (
            {"train": {"class_weights": {"a": "x", "b": -1}}},
            "a: input should be a valid number, unable to parse string as a number, found 'x'",
        ),
        ({"train": {"freeze": -1}}, "'none' or 'body' or input should be greater than or equal to 0, found -1"),
    ],
)
def test_of_several_kinds_of_value_the_fault_of_the_one_that_was_meant_is_told(values, message):
    assert message in said({**values, "data": {"train": "a.csv", **values.get("data", {})}})


@pytest.mark.parametrize(
    ("optimizer", "key", "value"), [("sgd", "beta2", 0.99), ("rmsprop", "beta1", 0.8), ("adafactor", "epsilon", 1e-6)]
)
def test_a_setting_that_the_optimizer_does_not_read_is_refused(optimizer, key, value):
    data = {"train": "a.csv"}
    with pytest.raises(UserError, match=rf"train.{key} has no effect: {optimizer} does not read it"):
        parse_config({"data": data, "train": {"optimizer": optimizer, key: value}})
    assert parse_config({"data": data, "train": {"optimizer": optimizer}}).train.optimizer == optimizer


@pytest.mark.parametrize("word", ["no", "yes", "007", "12:30", "1_000", "1e5", "0x10", "2020-01-01"])
def test_names_are_what_they_look_like(word):
    assert load_config(None, [f"data.label={word}", "data.train=a.csv"]).data.label == word
    assert load_config(None, [f"data.label_names=[{word},b]", "data.train=a.csv"]).data.label_names == [word, "b"]
    assert load_config(None, ["train.learning_rate=1e-5", "data.train=a.csv"]).train.learning_rate == 1e-5
