"""`~` and variables in paths: one rule for every key of a config, every flag and every door of the Python API."""

from __future__ import annotations

import shutil
import typing
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.cli import main as door
from tunewright.cli import tokenizer as tokenizer_verbs
from tunewright.cli.options import PATHS, with_expanded_paths
from tunewright.config.load import load_config, parse_config
from tunewright.errors import UserError
from tunewright.exporters import export
from tunewright.files.paths import expanded
from tunewright.runs.train import train
from tunewright.verification import verify

NO_PATHS = {
    "task", "text", "pair", "label", "split", "precision", "device", "texts", "format", "stop", "system", "to", "dtype", "padding",
    "padding_side", "truncation_side", "algorithm", "template", "special", "normalizer", "pre_tokenizer", "plugin", "plugins", "execution",
}  # fmt: skip
"""Text-valued parameters of verbs that name no file: texts, columns, choices."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    place = tmp_path / "home of ann"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("SCRATCH", str(place / "scratch"))
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.chdir(tmp_path)
    return place


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("~", "{home}"), ("~/a.csv", "{home}/a.csv"), ("$HOME/a.csv", "{home}/a.csv"), ("${HOME}/a.csv", "{home}/a.csv"),
        ("$SCRATCH/x/$HOME", "{home}/scratch/x/{home}"), ("~/$SCRATCH", "{home}/{home}/scratch"), ("a~b.csv", "a~b.csv"),
        ("runs/~/x", "runs/~/x"), ("price$5.csv", "price$5.csv"), ("a$.csv", "a$.csv"), ("hub:ann/$x", "hub:ann/$x"),
        ("package:$x", "package:$x"), ("scratch:bert-tiny", "scratch:bert-tiny"), ("data.csv", "data.csv"), ("", ""), ("-", "-"),
    ],
)  # fmt: skip
def test_what_is_written_out(home, path, found):
    assert expanded(path) == found.replace("{home}", str(home))


@pytest.mark.parametrize("path", ["$NOWHERE/a.csv", "x/${NOWHERE}", "~nobody-of-that-name/x"])
def test_what_cannot_be_written_out_is_refused(home, path):
    with pytest.raises(UserError, match=r"is not set|home folder of this user is unknown"):
        expanded(path)


@pytest.mark.parametrize("name", ["cash$flow.csv", "~draft.csv", "${x}.csv"])
def test_a_file_that_is_called_so_is_itself(home, name):
    Path(name).write_text("text,label\n")
    assert expanded(name) == name


def path_keys() -> list[tuple[str, ...]]:
    return [
        ("data", "train"),
        ("data", "validation"),
        ("data", "test"),
        ("data", "label_file"),
        ("model", "name"),
        ("model", "tokenizer"),
        ("output",),
    ]


@pytest.mark.parametrize("key", path_keys(), ids=".".join)
@pytest.mark.parametrize("path", ["~/x.csv", "$HOME/x.csv"])
def test_every_key_that_is_a_path(home, key, path):
    values: dict = {"data": {"train": "a.csv"}}
    place = values
    for section in key[:-1]:
        place = place.setdefault(section, {})
    place[key[-1]] = path
    config = parse_config(values)
    for part in key:
        config = getattr(config, part)
    assert config == str(home / "x.csv")
    place[key[-1]] = "$NOWHERE/x.csv"
    with pytest.raises(UserError, match=f"{'.'.join(key)}.*NOWHERE is not set"):
        parse_config(values)


def test_lists_and_words_and_the_config_itself(home):
    (home / "c.yaml").write_text("data: [~/a.csv, $HOME/b.csv]\n")
    config = load_config("~/c.yaml", ["output=$SCRATCH/run", "data.test=~/t.csv"])
    assert config.data.train == [str(home / "a.csv"), str(home / "b.csv")] and config.data.test == str(home / "t.csv")
    assert config.run_folder == home / "scratch" / "run" and config.store_folder == home / "scratch" / ".store"


def test_every_parameter_of_every_verb_is_a_path_or_none():
    """A new one has to be put into one of the two lists."""
    for registered in (*door.app.registered_commands, *tokenizer_verbs.app.registered_commands):
        for name, kind in typing.get_type_hints(registered.callback).items():
            if name != "return" and any(word in str(kind) for word in ("str", "Path")):
                assert name in PATHS or name in NO_PATHS, f"{registered.callback.__module__}: {name}"


def test_a_verb_is_given_paths_written_out(home):
    given: dict = {}

    def verb(run_folder: str, output: Path, words: list[str], texts: list[str]) -> None:
        given.update(run_folder=run_folder, output=output, words=words, texts=texts)

    with_expanded_paths(verb)(
        run_folder="~/run", output=Path("$SCRATCH/o"), words=["~/d.csv", "output=~/x"], texts=["I paid $5 and ~3 $HOME"]
    )
    assert given == {
        "run_folder": str(home / "run"), "output": home / "scratch" / "o", "words": [str(home / "d.csv"), "output=~/x"],
        "texts": ["I paid $5 and ~3 $HOME"],
    }  # fmt: skip


def test_a_run_from_home_to_home(home, run_values):
    """Trained, started again, loaded, evaluated, exported, verified: each by the path as it was typed."""
    shutil.copyfile(run_values["data"]["train"], home / "data.jsonl")
    shutil.copytree(run_values["model"], home / "model")
    values = {
        **run_values,
        "model": "~/model",
        "output": "~/runs/x",
        "data": {"train": "$HOME/data.jsonl", "max_length": 48},
    }
    values["train"] = {**values["train"], "epochs": 1}
    done = train(values)
    assert done.folder == home / "runs" / "x" and not Path("~").exists()
    assert train(values).already_finished
    assert tw.load("~/runs/x").predict(["Where is my parcel?"])[0].label
    assert tw.evaluate("$HOME/runs/x", "~/data.jsonl")["rows"] == 80
    assert Path(export("~/runs/x", "merged", output="$SCRATCH/out")) == home / "scratch" / "out"
    assert all(check.broken is None for check in verify("$SCRATCH/out", golden_from="~/runs/x"))
    assert len(list(tw.read("~/data.jsonl").rows())) == 80
