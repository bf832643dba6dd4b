"""Demos: what they train on is sound, each is found by its name, and each goes its whole way in a few steps."""

from __future__ import annotations

import ast
import inspect
import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import SAMPLES
from tunewright.cli import demo
from tunewright.cli.main import app
from tunewright.demos import base, clm, three_steps
from tunewright.demos.stories import stories
from tunewright.errors import UserError
from tunewright.plugins import find
from tunewright.runs.reporter import RunResult

DEMOS = ["classification", "clm", "mlm", "ner", "sft", "three-steps"]
FEW = ["train.max_steps=2", "train.batch_size=4", "data.limit=30", "train.precision=fp32"]


# Data


@pytest.fixture(scope="module")
def sentences() -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / "entities.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def test_entities_stand_apart_and_begin_and_end_with_a_word(sentences):
    for row in sentences:
        end_before = 0
        for one in row["entities"]:
            name = row["text"][one["start"] : one["end"]]
            assert end_before <= one["start"] < one["end"] <= len(row["text"]), row
            assert name == name.strip() and name[0].isalnum() and name[-1].isalnum(), row
            around = row["text"][max(0, one["start"] - 1) : one["start"]] + row["text"][one["end"] : one["end"] + 1]
            assert not any(character.isalnum() for character in around), f"{name!r} is cut out of a word: {row}"
            end_before = one["end"]


def test_enough_sentences_no_two_alike_and_no_type_learned_by_heart(sentences):
    assert len({row["text"] for row in sentences}) == len(sentences) >= 160
    assert sum(not row["entities"] for row in sentences) >= 5, "sentences without an entity are needed too"
    found = [(one["label"], row["text"][one["start"] : one["end"]]) for row in sentences for one in row["entities"]]
    counts = Counter(label for label, _ in found)
    assert set(counts) == {"PER", "LOC", "ORG", "PRODUCT"} and min(counts.values()) >= 40
    for label, count in counts.items():
        assert len({name for of, name in found if of == label}) > 0.7 * count


def test_stories_are_the_same_for_a_seed_and_different_from_each_other():
    told = list(stories(500, seed=0))
    assert told == list(stories(500, seed=0)) != list(stories(500, seed=1))
    assert len(set(told)) == 500
    assert told[0] == (
        "Early on Sunday, somebody took the flute that Emil the clockmaker had left in the orchard. He wrote a note, hung it up "
        'behind the stove, and waited. A sleepy mouse had watched him from afar. "I know where it is," said the mouse. Emil gave '
        "the mouse some walnuts. The mouse led him to a place behind the stove, and there lay the flute. Since that day Emil and "
        "the mouse share his walnuts."
    )


def test_a_story_keeps_to_its_pronoun():
    for story in stories(300, seed=2):
        words = {word.strip('.,?!"').lower() for word in story.split()}
        assert not (words & {"he", "his", "him"} and words & {"she", "her"}), story
        assert "{" not in story and "\n" not in story


# Names


def test_every_demo_is_found_and_says_what_it_is():
    assert set(demo.demo_names()) >= set(DEMOS)
    for name in demo.demo_names():
        assert list(inspect.signature(find("demos", name.replace("-", "_")).run).parameters) == ["output", "overrides"]
        assert demo.about(name).endswith(".")
    listed = CliRunner().invoke(app, ["demo", "--list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == demo.demo_names()


def test_a_demo_is_a_word_or_a_task():
    assert demo.chosen([], None) == ("classification", [])
    assert demo.chosen(["ner"], None) == demo.chosen([], "ner") == demo.chosen(["ner"], "ner") == ("ner", [])
    assert demo.chosen(["train.epochs=1"], "three_steps") == ("three-steps", ["train.epochs=1"])
    with pytest.raises(UserError, match=r"one demo at a time; found ner, mlm\."):
        demo.chosen(["ner"], "mlm")
    with pytest.raises(UserError, match="Did you mean three-steps"):
        demo.chosen(["three-step"], None)


def test_no_demo_is_listed_that_is_none():
    """A module here holds `run`, or is named as one that is no demo."""
    folder = Path(base.__file__).parent
    with_run = {
        path.stem.replace("_", "-")
        for path in folder.glob("*.py")
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in ast.parse(path.read_text()).body)
    }
    assert with_run == set(demo.demo_names())


# Runs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classification", ["Three new messages", "tunewright train your.csv"]),
        ("ner", ["span_f1", "PRODUCT", "Three new sentences", "Marta Lindgren", "tunewright train your.conll"]),
        ("mlm", ["unigram baseline", "You charged my [MASK] twice", "before  ", "after   ", "train your.txt task=mlm"]),
    ],
)
def test_a_demo_of_an_encoder_goes_its_whole_way(name, expected, tiny_bert, tmp_path, capsys):
    overrides = [*FEW, f"model={tiny_bert}", "data.max_length=48"]
    assert find("demos", name).run(str(tmp_path / "run"), overrides) in (True, False)
    shown = capsys.readouterr().out
    for text in (*expected, str(tmp_path / "run" / "model")):
        assert text in shown


def test_the_demo_that_starts_from_nothing_goes_its_whole_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clm, "_NUM_STORIES", 60)
    found = find("demos", "clm")
    found.run(str(tmp_path / "demo"), FEW)
    shown = capsys.readouterr().out
    for text in (
        "before training",
        "unigram baseline",
        "after training",
        "One windy morning, Greta",
        "model.tokenizer",
    ):
        assert text in shown
    assert (tmp_path / "demo" / "stories.txt").read_text(encoding="utf-8").count("\n") == 60
    found.run(str(tmp_path / "demo"), FEW)
    assert "This run has already finished" in capsys.readouterr().out, "the same text and tokenizer are written again"


def test_the_demo_of_answers_goes_its_whole_way(tmp_path, capsys):
    assert not find("demos", "sft").run(str(tmp_path), ["train.max_steps=2"]), "two steps teach no answer"
    shown = capsys.readouterr().out
    for text in ("  context     ### Question:", "0% of the 20 answers match exactly", "tunewright chat"):
        assert text in shown


def test_three_steps_go_their_whole_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(three_steps, "_NUM_ASKED", 3)
    held = three_steps.run(str(tmp_path), FEW)
    shown = capsys.readouterr().out
    assert held == ("FAILS" not in shown)
    assert shown.count("\n    prefer") == 3 and "The same by hand: tunewright train" in shown


def test_what_is_claimed_of_a_loss_is_compared(tmp_path, capsys):
    def result(loss: float) -> RunResult:
        scores = {"metrics": {"loss": loss}, "baseline": {"unigram": {"loss": 2.0}}}
        return RunResult(tmp_path, {"test": scores}, {}, [], 1)

    untrained = base.Untrained(None, 3.0)  # type: ignore[arg-type]
    assert base.print_losses(untrained, result(1.5), per="token")
    assert "before training   3.000" in capsys.readouterr().out
    assert not base.print_losses(untrained, result(2.5), per="token"), "better than before, worse than the baseline"
    assert not base.print_losses(base.Untrained(None, 1.0), result(1.5), per="token")  # type: ignore[arg-type]
