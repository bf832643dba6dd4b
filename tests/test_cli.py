"""The command line: exit codes, errors with their mend, pure JSON on stdout, resuming, and no heavy import for --help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from .conftest import messages, write_jsonl


def tunewright(*words: str, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tunewright.cli.main", *words],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tiny_bert, tmp_path_factory):
    """A folder with data.jsonl, config.yaml and the finished run `run`."""
    folder = tmp_path_factory.mktemp("cli")
    write_jsonl(folder / "data.jsonl", messages(120))
    values = {
        "model": str(tiny_bert), "data": {"train": "data.jsonl", "max_length": 32},
        "train": {"max_steps": 12, "batch_size": 8}, "output": "run",
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    done = tunewright("train", "config.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom tunewright.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'pydantic', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "nope.jsonl"], "nope.jsonl"),
        (["train", "dta.jsonl"], "Did you mean"),
        (["train", "data.jsonl", "train.epoch=3"], "did you mean train.epochs?"),
        (["train", "data.jsonl", "num_train_epochs=3"], "here it is train.epochs"),
        (["train", "data.jsonl", "data.label=lable"], "Did you mean 'label'?"),
        (["train", "data.jsonl", "train.epochs=-1"], "greater than 0"),
        (["train", "nope.yaml"], "no such config file"),
        (["train", "train.epochs=3"], "tunewright train DATA.csv"),
        (["evaluate", "nope"], "no such run"),
        (["predict", "run"], "nothing to predict"),
        (["predict", "run", "data.jsonl"], "is the name of a file"),
        (["predict", "run", "--pair", "a", "b"], "single texts"),
        (["predict", "run", "hello", "--precision", "bf61"], "Did you mean bf16?"),
        (["explain", "config.yaml", "data.jsonl:1000"], "no row stands here"),
        (["explain", "config.yaml", "other.jsonl:1"], "not one of this config's files"),
        (["demo", "nope"], "classification"),
        (["runs", "compare", "run", "nope"], "not a run"),
        (["train", "config.yaml", "train.learning_rate=0.5"], "train.learning_rate"),
    ],
)
def test_a_users_mistake_is_explained_and_exits_with_2(trained, words, expected):
    done = tunewright(*words, cwd=trained[0])
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_json_of_train_evaluate_and_predict(trained):
    folder, result = trained
    assert result["steps"] == 12
    scores = json.loads(tunewright("evaluate", "run", "--json", cwd=folder).stdout)
    assert scores["schema"] == 1 and scores["task"] == "classification" and scores["rows"] == 12
    assert {"accuracy", "f1_macro", "loss"} <= set(scores["metrics"])
    assert set(scores["baseline"]) == {"majority", "tfidf_logreg"}
    low, high = scores["intervals"]["accuracy"]
    assert low <= scores["metrics"]["accuracy"] <= high
    lines = tunewright("predict", "run", "where is it", "my card", "--json", cwd=folder).stdout.splitlines()
    assert [set(json.loads(line)) >= {"label", "score"} for line in lines] == [True, True]


def test_a_file_is_predicted_in_order_with_its_columns(trained):
    folder, _ = trained
    done = tunewright("predict", "run", "--file", "data.jsonl", "-o", "out.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    given = messages(120)
    assert [(row["text"], row["label"]) for row in rows] == [(row["text"], row["label"]) for row in given]
    assert all("predicted_label" in row for row in rows)
    from_stdin = tunewright("predict", "run", "-", cwd=folder, stdin="".join(row["text"] + "\n" for row in given[:5]))
    labels = [json.loads(line)["label"] for line in from_stdin.stdout.splitlines()]
    assert labels == [row["predicted_label"] for row in rows[:5]]


def test_a_finished_run_is_not_trained_again_and_more_epochs_go_on(trained):
    folder, _ = trained
    again = tunewright("train", "config.yaml", cwd=folder)
    assert again.returncode == 0 and "This run is finished" in again.stdout
    longer = tunewright("train", "config.yaml", "train.max_steps=16", cwd=folder)
    assert longer.returncode == 0, longer.stderr
    assert "Resuming after step 12 of 16" in longer.stderr
    assert "train.max_steps: 12 -> 16" in longer.stderr
    back = json.loads(tunewright("train", "run/config.yaml", "--json", cwd=folder).stdout)
    assert back["steps"] == 16


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_checkpoints_and_says_how_to_resume(trained, tmp_path, number, code):
    folder, _ = trained
    command = [
        sys.executable,
        "-m",
        "tunewright.cli.main",
        "train",
        "config.yaml",
        "train.max_steps=4000",
        f"output={tmp_path}/run",
        "train.log_every=1",
    ]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "resume with: tunewright train" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_check_finds_what_would_go_wrong(trained, tmp_path):
    folder, _ = trained
    rows = [
        *messages(60),
        {"text": messages(1)[0]["text"], "label": "return_item"},
        {"text": " ", "label": "return_item"},
    ]
    write_jsonl(tmp_path / "bad.jsonl", rows)
    done = tunewright(
        "check", "config.yaml", f"data.train={tmp_path}/bad.jsonl", "data.max_length=8", "--json", cwd=folder
    )
    assert done.returncode == 1, done.stderr
    findings = " ".join(json.loads(done.stdout)["findings"])
    for expected in ("blank text", "are cut at 8 tokens", "different labels"):
        assert expected in findings
    assert tunewright("check", "config.yaml", cwd=folder).returncode in (0, 1)


def test_explain_follows_a_row(trained):
    stages = json.loads(tunewright("explain", "config.yaml", "data.jsonl:3", "--json", cwd=trained[0]).stdout)
    third = messages(3)[2]
    assert stages["text"] == third["text"] and stages["target"] == third["label"]
    assert stages["tokens"][0]["token"] == "[CLS]" and stages["tokens"][-1]["token"] == "[SEP]"
    shown = tunewright("explain", "config.yaml", "data.jsonl:3", "--padded", cwd=trained[0]).stdout
    assert "attention_mask" in shown and "\x1b" not in shown


def test_init_writes_a_config_that_trains(trained, tmp_path):
    folder, _ = trained
    write_jsonl(tmp_path / "train.jsonl", messages(60))
    write_jsonl(tmp_path / "test.jsonl", messages(90)[60:])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    done = tunewright("init", str(tmp_path), "--model", config["model"], "-o", "c.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert values["data"]["test"].endswith("test.jsonl") and values["data"]["text"] == "text"
    trained_ = tunewright("train", "c.yaml", "train.max_steps=2", "data.max_length=32", cwd=tmp_path)
    assert trained_.returncode == 0, trained_.stderr
    assert tunewright("init", str(tmp_path), "-o", "c.yaml", cwd=tmp_path).returncode == 2


def test_runs_are_listed_and_compared(trained):
    folder, _ = trained
    done = json.loads(tunewright("runs", "--folder", ".", "--json", cwd=folder).stdout)
    assert [run["run"] for run in done["runs"]] == ["run"]
    assert "accuracy" in tunewright("runs", "compare", "run", "run", cwd=folder).stdout


@pytest.mark.parametrize(
    "words", [[], ["nope"], ["train"], ["predict", "run", "--nope"], ["predict", "run", "x", "--min-score", "1.5"]]
)
def test_wrong_words_are_explained_without_a_traceback(tmp_path, words):
    done = tunewright(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "bug in tunewright" not in done.stderr


def test_two_processes_do_not_train_one_run(trained, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".run.lock"):
        done = tunewright("train", "config.yaml", f"output={tmp_path}/run", cwd=trained[0])
    assert done.returncode == 2 and "another process is training this run" in done.stderr


@pytest.mark.parametrize("output", ["out.parquet", "data.jsonl", "nofolder/out.csv"])
def test_an_output_that_cannot_be_is_refused_and_nothing_is_lost(trained, output):
    before = (trained[0] / "data.jsonl").read_bytes()
    done = tunewright("predict", "run", "--file", "data.jsonl", "-o", output, cwd=trained[0])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (trained[0] / "data.jsonl").read_bytes() == before
    assert not list(trained[0].glob(".tmp-*"))


def test_skipped_rows_are_said(trained, tmp_path):
    write_jsonl(tmp_path / "d.jsonl", [*messages(10), {"text": "x y", "label": "unheard_of"}])
    done = tunewright("evaluate", "run", str(tmp_path / "d.jsonl"), "--skip-bad-rows", "--json", cwd=trained[0])
    assert done.returncode == 0, done.stderr
    assert "1 of 11 rows are skipped" in done.stderr
    assert json.loads(done.stdout)["ledger"]["rejected"] == 1
