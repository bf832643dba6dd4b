"""examples/plugin, installed, works by its names through every verb."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import messages, write_jsonl
from tunewright.chat.templates import source_of
from tunewright.cli.main import app
from tunewright.config.keys import all_keys
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.evaluation.score_split import Scored, _of_plugin
from tunewright.plugins import names
from tunewright.reading import ReadOptions, open_source
from tunewright.reading.locate import suffixes

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package in a folder of its own, found by its metadata like any installed one."""
    folder = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder), str(EXAMPLE)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, timeout=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for cached in (suffixes, all_keys):
            cached.cache_clear()
        yield folder
    for cached in (suffixes, all_keys):
        cached.cache_clear()


def run(*words, codes=(0,)):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in codes, f"{words}\n{done.output}\n{done.exception!r}"
    return done.stdout


@pytest.mark.slow
def test_every_kind_works_by_name_through_every_verb(installed, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = messages(80)
    Path("dinners.rcp").write_text(
        "# label: text\n" + "".join(f"{row['label']}: {row['text']}\n" for row in rows), encoding="utf-8"
    )
    keys = ["train.optimizer=nadam", "train.schedule=halves", "evaluate.metrics=[kappa]", "evaluate.metric=kappa"]
    words = ["dinners.rcp", f"model={tiny_bert}", "train.learning_rate=1e-3", "output=run", *keys]
    run("check", *words, codes=(0, 1))
    run("init", "dinners.rcp", "--model", tiny_bert, "-o", "dinners.yaml")
    assert rows[2]["text"] in run("explain", "dinners.yaml", "dinners.rcp:3")
    run("train", *words)
    scores = json.loads(Path("run/scores.json").read_text(encoding="utf-8"))
    assert scores["metric"] == "kappa"
    assert -1 <= scores["splits"]["test"]["metrics"]["kappa"] <= 1
    assert "kappa" in run("evaluate", "run")
    assert "kappa" in run("evaluate", "run", "dinners.rcp")
    assert json.loads(run("predict", "run", rows[0]["text"]))["label"]
    run("predict", "run", "--file", "dinners.rcp", "-o", "found.csv")
    assert len(Path("found.csv").read_text(encoding="utf-8").splitlines()) == 81
    run("verify", "run")
    run("export", "run", "--to", "labels-only")
    assert json.loads(Path("run/exports/labels-only/labels.json").read_text(encoding="utf-8")) == sorted(
        {row["label"] for row in rows}
    )
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    assert rates[-1] <= max(rates) / 2, "the schedule of the plug-in has halved the rate"


def test_its_template_writes_conversations(installed):
    assert "STOP" in source_of("telegram")
    with pytest.raises(UserError, match="telegram"):
        source_of("telegramm")


def test_names_of_plugins_are_listed_and_near_ones_proposed(installed):
    assert names("optimizers")[-1] == "nadam"
    with pytest.raises(UserError, match="did you mean nadam"):
        parse_config({"data": "a.csv", "train": {"optimizer": "nadm"}})
    with pytest.raises(UserError, match=r"train\.optimizer.*expected adamw, adam, sgd"):
        parse_config({"data": "a.csv", "train": {"optimizer": "lion"}})


def test_what_a_reader_gives_is_held_to_what_files_may_hold(installed, tmp_path, monkeypatch):
    module = importlib.import_module("tunewright_extras.recipes")
    path = tmp_path / "a.rcp"
    path.write_text("x: y\n", encoding="utf-8")

    def rows(path):
        yield {"text": "fine", "label": "a"}
        yield {"text": float("nan"), "label": "b"}
        yield {"text": object(), "label": "c"}
        yield ["no", "mapping"]
        raise RuntimeError("gone")

    monkeypatch.setattr(module, "rows", rows)
    with pytest.raises(UserError, match=r"the reader recipes fails \(RuntimeError: gone\)"):
        list(open_source(str(path), ReadOptions()).rows())
    monkeypatch.setattr(module, "rows", lambda path: [{"text": "fine", "label": "a"}, {"text": object()}])
    good, bad = open_source(str(path), ReadOptions()).rows()
    assert (good.fields, good.line) == ({"text": "fine", "label": "a"}, 1)
    assert "no JSON object" in bad.reason


def test_a_metric_that_is_no_metric_is_refused(installed, monkeypatch):
    module = importlib.import_module("tunewright_extras.kappa")
    scored = Scored(None, None, None)
    monkeypatch.setattr(module, "score", lambda scored: {"kappa": 0.5})
    with pytest.raises(UserError, match="does not say whether higher values are better"):
        _of_plugin("kappa", scored, {})
    monkeypatch.setattr(module, "score", lambda scored: 1 / 0)
    with pytest.raises(UserError, match="the metric fails \\(ZeroDivisionError"):
        _of_plugin("kappa", scored, {})


def test_the_example_is_short():
    files = [EXAMPLE / "pyproject.toml", *(EXAMPLE / "src").rglob("*.py")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 150


def test_a_file_may_hold_several_kinds(tiny_bert, tmp_path, monkeypatch):
    """A module of one's own, trusted by `plugins`, needs no package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("mine.py").write_text(
        "from tunewright.metrics import Metric\n"
        "def score(scored):\n    return {'mine': Metric(1.0, higher_is_better=True)}\n"
        "def factor(progress):\n    return 1.0 - progress\n"
    )
    write_jsonl(tmp_path / "m.jsonl", messages(60))
    run(
        "train", "m.jsonl", f"model={tiny_bert}", "plugins=[mine]", "evaluate.metrics=[mine]", "train.schedule=mine", "train.max_steps=2",
        "output=run",
    )  # fmt: skip
    assert json.loads(Path("run/scores.json").read_text())["splits"]["test"]["metrics"]["mine"] == 1.0
    assert "mine" in run("evaluate", "run", "--plugin", "mine")
    sys.modules.pop("mine", None)
