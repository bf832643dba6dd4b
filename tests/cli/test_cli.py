"""The command line: exit codes, errors with what to do, pure JSON on stdout, resuming, and no heavy import for --help."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import messages, shared, write_jsonl
from tunewright.cli.main import run


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def tunewright(*words: str, cwd: Path, stdin: str | bytes = "") -> Done:
    """The command in this process: what a process of its own adds is tested once, at the end."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors), chdir(cwd):
        patch.setattr(sys, "argv", ["tunewright", *words])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        code = run()
    for stream in (out, errors):
        stream.flush()
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, errors)))


def process(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tunewright.cli.main", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=300, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def trained(tiny_bert, tmp_path_factory):
    """A folder with data.jsonl, config.yaml and the finished run `run`."""
    folder = tmp_path_factory.mktemp("cli")
    write_jsonl(folder / "data.jsonl", messages(120))
    (folder / "texts.txt").write_text("where is it\nmy card\n")
    (folder / "other.csv").write_text("a,b\n1,2\n3,4\n")
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
        (["predict", "run"], "name exactly one kind of input"),
        (["predict", "run", "data.jsonl"], "is the name of a file"),
        (["predict", "run", "--pair", "a", "b"], "single texts"),
        (["predict", "run", "hello", "--precision", "bf61"], "Did you mean bf16?"),
        (["explain", "config.yaml", "data.jsonl:1000"], "no row begins here"),
        (["explain", "config.yaml", "other.jsonl:1"], "not one of this config's files"),
        (["demo", "nope"], "classification"),
        (["runs", "compare", "run", "nope"], "not a run"),
        (["train", "config.yaml", "train.learning_rate=0.5"], "train.learning_rate"),
        (["evaluate", "run", "nope.csv"], "no such file"),
        (["predict", "run", "--file", "nope"], "no such file"),
        (
            ["evaluate", "run", "texts.txt"],
            "texts.txt:1: no field 'label'; found 'text'; none of the first 2 rows can be used",
        ),
        (["predict", "run", "--file", "other.csv"], "other.csv:2: no field 'text'; found 'a', 'b'"),
        (["check", "nope.csv"], "no such file"),
        (["check", "data.jsonl", "data.group_by=nope"], "Set data.group_by"),
        (["train", "data.jsonl", "data.weight=nope"], "Set data.weight"),
        (["train", "data.jsonl", "task=nope"], "no task 'nope'"),
        (["train", "data.jsonl", "task=dpo"], "Did you mean task=preference task.loss=dpo?"),
        (["train", "data.jsonl", "model=."], "no config.json"),
        (["train", "data.jsonl", "model=.", "model.revision=v2"], "only a Hub id has a revision"),
        (["train", "data.jsonl", "model=scratch:bert-mini", "model.revision=v2"], "only a Hub id has a revision"),
        (["train", "config.yaml", "output=other", "data.max_length=3"], "leaves no room for text"),
        (["train", "config.yaml", "output=other", "data.max_length=65"], "longer than the model can take"),
        (["train", "config.yaml", "output=other", "train.freeze=99"], "found 2 layers"),
        (["train", "config.yaml", "output=other", "train.learning_rate=inf"], "finite"),
        (["train", "config.yaml", "output=/dev/null/x"], "the folder cannot be created"),
        (["train", "config.yaml", "output=data.jsonl"], "the output of a run must be a folder"),
        (["train", "/dev/null"], "not a regular file"),
        (["init", "data.jsonl", "-o", "/dev/null/x.yaml"], "cannot be written"),
    ],
)
def test_a_users_mistake_is_explained_and_exits_with_2(trained, words, expected):
    done = tunewright(*words, cwd=trained[0])
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_mistake_is_told_before_torch_is_imported(trained):
    """What takes seconds to import is not waited for; the numbers of a machine are no test."""
    mistakes = [
        ["evaluate", "run", "nope.csv"], ["evaluate", "nope"], ["predict", "run", "--file", "nope"], ["predict", "run", "--file", "other.csv"],
        ["evaluate", "run", "texts.txt"], ["predict", "nope", "x"],
        ["check", "nope.csv"], ["check", "data.jsonl", "data.group_by=nope"], ["train", "data.jsonl", "data.weight=nope"],
        ["train", "data.jsonl", "task=nope"], ["train", "data.jsonl", "model=."], ["train", "config.yaml", "train.batch_size=9"],
        ["train", "config.yaml", "output=other", "data.max_length=3"], ["train", "config.yaml", "output=other", "train.freeze=99"],
        ["train", "hub:nobody/nothing"], ["explain", "config.yaml", "data.jsonl:1000"], ["init", "nope.csv"],
    ]  # fmt: skip
    code = (
        "import sys\nfrom tunewright.cli import main\n"
        f"for words in {mistakes!r}:\n"
        "    sys.argv = ['tunewright', *words]\n"
        "    print(main.run(), [m for m in ('torch', 'transformers', 'datasets') if m in sys.modules], *words)"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=trained[0], capture_output=True, text=True, env=offline)
    expected = [f"2 [] {' '.join(words)}" for words in mistakes]
    assert done.stdout.splitlines() == expected, done.stderr


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
    assert again.returncode == 0 and "This run has already finished" in again.stdout
    longer = tunewright("train", "config.yaml", "train.max_steps=16", cwd=folder)
    assert longer.returncode == 0, longer.stderr
    assert "Resuming after step 12 of 16" in longer.stderr
    assert "train.max_steps: 12 -> 16" in longer.stderr
    back = json.loads(tunewright("train", "run/config.yaml", "--json", cwd=folder).stdout)
    assert back["steps"] == 16


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def a_list(path: Path) -> None:
    path.write_text("[]")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("model/model.safetensors", cut, ["predict", "run", "hello"]),
        ("model/config.json", a_list, ["predict", "run", "hello"]),
        ("model/config.json", a_folder, ["evaluate", "run"]),
        ("model/tunewright.json", a_list, ["predict", "run", "hello"]),
        ("scores.json", a_list, ["train", "run/config.yaml"]),
        ("scores.json", cut, ["export", "run", "--to", "hub-folder"]),
        ("scores.json", a_folder, ["train", "run/config.yaml", "train.max_steps=20"]),
        ("ledger.json", cut, ["export", "run", "--to", "hub-folder"]),
        ("config.yaml", lambda path: path.write_bytes(b"\xff\x00{"), ["export", "run", "--to", "hub-folder"]),
        (
            "metrics.jsonl",
            lambda path: path.write_bytes(b"\xff\x00"),
            ["train", "run/config.yaml", "train.max_steps=20"],
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_named(trained, tmp_path, file, damage, words):
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    damage(folder / "run" / file)
    done = tunewright(*words, cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert Path(file).name.split(".")[0] in done.stderr or "run/model" in done.stderr


def test_one_damaged_run_hides_no_other(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "runs")
    shutil.copytree(trained[0] / "run", tmp_path / "runs" / "second")
    a_list(tmp_path / "runs" / "second" / "scores.json")
    done = tunewright("runs", cwd=tmp_path)
    assert done.returncode == 0 and "scores.json is damaged" in done.stdout and "finished" in done.stdout


@pytest.mark.parametrize("words", ["predict run hello >&-", "predict run - <&-", "runs 2>&-"])
def test_closed_streams_end_no_command(trained, words):
    command = f"{sys.executable} -m tunewright.cli.main {words}"
    done = subprocess.run(command, shell=True, cwd=trained[0], capture_output=True, text=True)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr


def test_a_reader_that_leaves_is_no_finding(trained):
    command = f"{sys.executable} -m tunewright.cli.main config | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=trained[0], capture_output=True, text=True)
    assert done.stdout.split()[-1] in ("0", "141") and "Traceback" not in done.stderr


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


def test_inputs_that_cannot_be_used_stop_predict_or_are_told(trained):
    folder, _ = trained
    given = b"where is it\n \n\xff\nmy card\n"
    done = tunewright("predict", "run", "-", cwd=folder, stdin=given)
    assert done.returncode == 2 and "error: stdin:3: the text is not UTF-8. Fix it, or skip such inputs" in done.stderr
    assert len(done.stdout.splitlines()) == 2  # what stands before it is answered
    done = tunewright("predict", "run", "-", "--skip-bad-rows", cwd=folder, stdin=given)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [row["label"] is None for row in found] == [False, True, True, False]
    assert [row.get("reason") for row in found] == [None, "blank text", "the text is not UTF-8", None]
    assert done.stderr.splitlines() == [
        "2 inputs without a prediction:", "  stdin:2: blank text", "  stdin:3: the text is not UTF-8",
    ]  # fmt: skip
    assert "input 2: blank text" in tunewright("predict", "run", "a", "\u200b", cwd=folder).stderr


def test_bad_rows_of_a_file_stop_predict_or_are_told(trained, tmp_path):
    (tmp_path / "f.jsonl").write_text('{"text": "a", "n": 1}\nbad\n{"text": " ", "n": 3}\n{"text": "b", "n": 4}\n')
    words = ["predict", "run", "--file", str(tmp_path / "f.jsonl")]
    done = tunewright(*words, cwd=trained[0])
    assert done.returncode == 2 and "f.jsonl:2: not valid JSON" in done.stderr and "--skip-bad-rows" in done.stderr
    done = tunewright(*words, "--skip-bad-rows", cwd=trained[0])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row.get("n"), row["predicted_label"] is None) for row in found] == [
        (1, False),
        (None, True),
        (3, True),
        (4, False),
    ]
    assert "not valid JSON" in found[1]["reason"] and found[2]["reason"] == "blank text"
    assert "2 inputs without a prediction:" in done.stderr and "f.jsonl:3: blank text" in done.stderr


def test_top_says_how_many_labels_are_shown(trained):
    scores = [
        json.loads(tunewright("predict", "run", "hello", *words, cwd=trained[0]).stdout)["scores"]
        for words in ([], ["--top", "2"])
    ]
    assert len(scores[0]) == 10 and list(scores[1]) == list(scores[0])[:2]


def test_bad_rows_of_evaluate_name_its_own_option(trained, tmp_path):
    write_jsonl(tmp_path / "d.jsonl", [*messages(10), {"text": "x y", "label": "unheard_of"}])
    done = tunewright("evaluate", "run", str(tmp_path / "d.jsonl"), cwd=trained[0])
    assert done.returncode == 2 and "skip them: --skip-bad-rows" in done.stderr


def test_rejected_rows_that_leave_one_label_are_named_as_the_cause(trained, tmp_path):
    rows = [{"text": "a b", "label": "x"}, {"text": " ", "label": "y"}, {"text": "c d", "label": "x"}]
    write_jsonl(tmp_path / "d.jsonl", rows)
    done = tunewright("check", "config.yaml", f"data.train={tmp_path}/d.jsonl", "output=other", cwd=trained[0])
    assert done.returncode == 2
    assert "after 1 of 3 rows could not be used:" in done.stderr
    assert "d.jsonl:2: blank text" in done.stderr


def test_train_says_what_check_finds(trained, tmp_path):
    rows = [*messages(60), {"text": "one of a kind", "label": "lonely"}]
    write_jsonl(tmp_path / "d.jsonl", rows)
    words = ["config.yaml", f"data.train={tmp_path}/d.jsonl", f"output={tmp_path}/run", "train.max_steps=1"]
    done = tunewright("train", *words, "data.validation_ratio=0", cwd=trained[0])
    assert done.returncode == 0, done.stderr
    before_first_step = done.stderr.partition("1/1 steps")[0]
    for expected in ("will hardly be learned: ", "lonely (1)", "finding   no row is left for validation"):
        assert expected in before_first_step


def test_a_given_file_makes_its_ratio_idle_and_may_share_groups(trained, tmp_path):
    for name, rows in (("train", messages(90)[:60]), ("test", messages(90)[60:] * 2)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{**row, "g": str(i % 7)} for i, row in enumerate(rows)])
    files = [f"data.train={tmp_path}/train.jsonl", f"data.test={tmp_path}/test.jsonl"]
    done = tunewright(
        "check", "config.yaml", *files, "data.test_ratio=0.3", "data.group_by=g", "data.deduplicate=true", "--json",
        cwd=trained[0],
    )  # fmt: skip
    findings = " ".join(json.loads(done.stdout)["findings"])
    assert "data.test_ratio has no effect: data.test names a file." in findings
    assert "test rows of a group (data.group_by) that is also in train" in findings
    assert "data.deduplicate=true" not in findings


def test_config_shows_a_file_with_every_key(trained):
    shown = tunewright("config", "--all", "config.yaml", "train.batch_size=5", cwd=trained[0]).stdout
    assert "data.train = data.jsonl " in shown and "train.batch_size = 5 " in shown and "output = run " in shown
    assert "train.batch_size = 16 " in tunewright("config", "--all", cwd=trained[0]).stdout


def test_a_model_of_pairs_is_tried_with_a_pair(trained, tmp_path):
    rows = [{"premise": f"it is {i}", "hypothesis": f"is it {i % 3}", "label": "ab"[i % 2]} for i in range(40)]
    write_jsonl(tmp_path / "d.jsonl", rows)
    words = ["config.yaml", f"data.train={tmp_path}/d.jsonl", f"output={tmp_path}/run", "train.max_steps=1"]
    done = tunewright("train", *words, cwd=trained[0])
    assert f"try it   tunewright predict {tmp_path}/run --pair 'first text' 'second text'" in done.stdout


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
    for expected in ("blank text", "are truncated at 8 tokens", "different labels"):
        assert expected in findings
    assert tunewright("check", "config.yaml", cwd=folder).returncode in (0, 1)


def test_explain_follows_a_row(trained):
    stages = json.loads(tunewright("explain", "config.yaml", "data.jsonl:3", "--json", cwd=trained[0]).stdout)
    third = messages(3)[2]
    assert stages["text"] == third["text"] and stages["target"] == third["label"]
    assert stages["tokens"][0]["token"] == "[CLS]" and stages["tokens"][-1]["token"] == "[SEP]"
    for name in ("./data.jsonl", str(trained[0] / "data.jsonl")):
        again = json.loads(tunewright("explain", "config.yaml", f"{name}:3", "--json", cwd=trained[0]).stdout)
        assert again == stages
    shown = tunewright("explain", "config.yaml", "data.jsonl:3", "--padded", cwd=trained[0]).stdout
    assert "attention_mask" in shown and "\x1b" not in shown


def test_explain_shows_the_weight_and_labels_that_are_none(trained, tmp_path):
    rows = [{"text": f"text number {i}", "labels": [["a"], [], ["b"]][i % 3], "w": i} for i in range(12)]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    words = [
        "d.json",
        "d.json:2",
        f"model={yaml.safe_load((trained[0] / 'config.yaml').read_text())['model']}",
        "data.weight=w",
    ]
    shown = tunewright("explain", *words, cwd=tmp_path).stdout
    assert "row        d.json:2\n" in shown and "target     no label" in shown
    assert "weight     1 (column 'w')" in shown


def test_explain_shows_both_sides_of_a_pair(tmp_path, capsys):
    from tunewright.cli.explain import run

    write_jsonl(tmp_path / "d.jsonl", [{"prompt": "Hi", "chosen": "Yes indeed.", "rejected": "No way."}])
    words = ["model=scratch:llama-tiny", f"model.tokenizer={shared('tokenizers/minimind')}", "task.template=chatml"]
    run(str(tmp_path / "d.jsonl"), f"{tmp_path}/d.jsonl:1", words)
    chosen, rejected = [line for line in capsys.readouterr().out.splitlines() if line.startswith("<|im_start|>")]
    assert "Yes" in chosen and "No" not in chosen and "No" in rejected and "Yes" not in rejected


def test_init_takes_words_about_reading(tmp_path):
    (tmp_path / "a.csv").write_bytes("text;label\nGröße;a\nNähe;b\n".encode("cp1252"))
    failed = tunewright("init", "a.csv", cwd=tmp_path)
    assert failed.returncode == 2 and "Set data.encoding" in failed.stderr
    done = tunewright("init", "a.csv", "data.encoding=cp1252", cwd=tmp_path)
    assert done.returncode == 0 and "encoding: cp1252" in (tmp_path / "config.yaml").read_text()
    other = tunewright("init", "a.csv", "train.epochs=2", "-o", "b.yaml", cwd=tmp_path)
    assert other.returncode == 2 and "tunewright train a.csv train.epochs=2" in other.stderr


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
    (folder / "started").mkdir()
    (folder / "started" / "config.yaml").write_text((folder / "config.yaml").read_text())
    listed = tunewright("runs", "--folder", ".", cwd=folder).stdout
    assert "nan" not in listed and listed.splitlines()[2].split()[3:] == ["started", "-", "-"]
    assert "classification" in listed and re.search(r"finished, test +f1_macro [01]\.[0-9]{4} +[0-9.]{6}\n", listed)
    assert "MB in ./.store. You may delete it" in listed


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


@pytest.mark.parametrize("output", ["out.xlsx", "data.jsonl", "nofolder/out.csv"])
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


def test_letters_that_the_terminal_lacks_are_escaped(trained):
    """A process of its own, under a locale of ASCII."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (trained[0] / "é.jsonl").write_bytes((trained[0] / "data.jsonl").read_bytes())
    done = process("init", "é.jsonl", "-o", "c2.yaml", cwd=trained[0], **ascii_only)
    assert done.returncode == 0, done.stderr
    assert process("config", "--all", cwd=trained[0], **ascii_only).returncode == 0
    done = process("predict", "run", "où est-il", cwd=trained[0], **ascii_only)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("ascii"))["label"]


def test_predictions_in_a_table_keep_every_column_of_every_row(trained, tmp_path):
    """Those that only later rows have too, and what an earlier prediction wrote."""
    rows = [{"text": "where is it"}, {"text": "my card", "note": "keep", "predicted_label": "OLD", "score": 7}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    done = tunewright("predict", str(trained[0] / "run"), "--file", "a.jsonl", "-o", "b.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "b.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert second["note"] == "keep" and second["predicted_label"] == "OLD" and second["score"] == "7"
    assert second["predicted_label_2"] and first["predicted_label"] and not first["note"]


def test_a_word_that_is_no_text_is_the_users_mistake(tmp_path):
    word = os.fsdecode(b"caf\xe9")
    for words in (("tokenizer", "show", word), ("check", "a.csv", f"data.text={word}"), ("predict", word, "hello")):
        done = tunewright(*words, cwd=tmp_path)
        assert done.returncode == 2 and "not text in UTF-8; found b'" in done.stderr, done.stderr
    assert "word 3 of the command" in tunewright("tokenizer", "show", word, cwd=tmp_path).stderr


def test_demo_copies_its_data_and_overwrites_nothing(tmp_path):
    done = tunewright("demo", "--data", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "data" / "messages.csv").read_text(encoding="utf-8").splitlines()
    rows = (tmp_path / "data" / "customer_messages.jsonl").read_text(encoding="utf-8").splitlines()
    assert table[0] == "text,label"
    assert len(table) == len(rows) + 1
    again = tunewright("demo", "--data", "data", cwd=tmp_path)
    assert again.returncode == 2
    assert "the file exists" in again.stderr
