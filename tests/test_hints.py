"""Every command that a message proposes is in `hints.HINTS`, and works when it is typed."""

import ast
import contextlib
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import tunewright
from tests.conftest import messages, write_jsonl
from tunewright import hints
from tunewright.cli.main import run
from tunewright.cli.progress import try_it

ROOT = Path(tunewright.__file__).parent
_VERB = re.compile(
    r"tunewright (train|init|check|predict|evaluate|tokenizer|runs`|runs compare|verify|export|chat|explain|config|prepare)\b"
)


def typed(line, monkeypatch, *, stdin=""):
    """(exit code, stdout, stderr) of a command line, as a shell would split it; a pipe hands its text on."""
    said, _, rest = line.rpartition(" | ")
    words = shlex.split(rest)
    assert words[0] == "tunewright"
    text = " ".join(shlex.split(said)[1:]) + "\n" if said else stdin
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run()
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def there(tiny_bert, tiny_gpt, tmp_path_factory):
    """A folder with a blank in its name: a data file, a text, configs and finished runs of a classifier, a masked LM and a chat model."""
    folder = tmp_path_factory.mktemp("some where")
    shutil.copytree(tiny_gpt, folder / "decoder")
    values = json.loads((folder / "decoder" / "tokenizer_config.json").read_text())
    (folder / "decoder" / "tokenizer_config.json").write_text(json.dumps({**values, "eos_token": "[SEP]"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_jsonl(folder / "my data.jsonl", messages(60))
        write_jsonl(folder / "qa.jsonl", [{"prompt": f"Say {n}", "completion": f"It is {n}."} for n in range(20)])
        (folder / "t.txt").write_text("One small sentence about the day.\n" * 40)
        short = "train: {max_steps: 1}\nevaluate: {baselines: false}\n"
        for name, data, model, output in (
            ("a", "my data.jsonl", tiny_bert, "run a"),
            ("b", "my data.jsonl", "previous", "run b"),
        ):
            (folder / f"{name}.yaml").write_text(
                f"data: {{train: '{data}'}}\nmodel: {model}\noutput: {output}\n{short}"
            )
        for line in (
            hints.train("a.yaml"),
            hints.train("t.txt", "task=mlm", f"model={tiny_bert}", "train.max_steps=1", "output=masked"),
            hints.train("qa.jsonl", "model=decoder", "train.max_steps=1", "output=talks", "evaluate.num_generated=0"),
        ):
            code, _, err = typed(line, patch)
            assert code == 0, err
    return folder


def proposed(folder, tiny_bert):
    """Hint -> (the command with what a user would put for its capitals, the exit codes that mean it worked)."""
    data, runs = Path("my data.jsonl"), (Path("run a"), Path("talks"))
    return {
        "train": (hints.train(data, f"model={tiny_bert}", "train.max_steps=1"), {0}),
        "train_in_turn": (hints.train_in_turn(Path("a.yaml"), Path("b.yaml")), {0}),
        "init": (hints.init(data), {0}),
        "config_schema": (hints.config_schema(), {0}),
        "check": (hints.check("a.yaml"), {0, 1}),
        "explain": (hints.explain("a.yaml", "my data.jsonl:3"), {0}),
        "tokenizer_train": (hints.tokenizer_train("t.txt"), {0}),
        "tokenizer_show": (hints.tokenizer_show(tiny_bert), {0}),
        "tokenizer_compare": (hints.tokenizer_compare("t.txt", tiny_bert), {0}),
        "predict": (hints.predict(runs[0]), {0}),
        "predict_pair": (hints.predict_pair(runs[0]), {2}),  # a run of single texts says so
        "predict_file": (hints.predict_file(runs[0], data), {0}),
        "predict_stdin": (hints.predict_stdin(runs[0], "my data.jsonl"), {0}),
        "chat": (hints.chat(runs[1]), {0}),
        "evaluate": (hints.evaluate(runs[0], data), {0}),
        "verify": (hints.verify(runs[0]), {0}),
        "runs": (hints.runs(), {0}),
        "runs_compare": (hints.runs_compare(*runs), {0}),
    }  # fmt: skip


def test_every_hint_works_when_it_is_typed(there, tiny_bert, monkeypatch):
    monkeypatch.chdir(there)
    commands = proposed(there, tiny_bert)
    assert commands.keys() == hints.HINTS.keys()
    for name, (line, good) in commands.items():
        code, _, err = typed(line, monkeypatch)
        assert code in good, f"{name}: {line}\n{err}"


def test_hints_without_arguments_show_what_to_put(monkeypatch):
    for name, hint in hints.HINTS.items():
        assert re.search(r"tunewright [a-z]+", hint()), name
    assert hints.tokenizer_train() == "tunewright tokenizer train DATA --algorithm byte-bpe -o tokenizer"
    assert hints.train(Path("-my data.csv"), "a=b c") == "tunewright train './-my data.csv' 'a=b c'"


def test_what_a_finished_run_proposes_works(there, monkeypatch):
    monkeypatch.chdir(there)
    for name in ("run a", "masked", "talks"):
        code, out, err = typed(try_it(Path(name)), monkeypatch)
        assert code == 0 and out, err
    assert "[MASK]" in try_it(Path("masked"))


def test_what_refusals_propose_works(there, monkeypatch):
    monkeypatch.chdir(there)
    code, _, err = typed("tunewright predict 'run a' t.txt", monkeypatch)
    assert code == 2
    for line in re.findall(r"(?:echo|tunewright) .*?(?=\. The text|\.\n)", err):
        assert typed(line, monkeypatch)[0] == 0, line
    code, _, err = typed("tunewright init t.txt qa.jsonl train.epochs=2 -o other.yaml", monkeypatch)
    assert code == 2 and "Give it to train instead: tunewright train t.txt qa.jsonl train.epochs=2" in err
    code, _, err = typed("tunewright train t.txt model=scratch:gpt-tiny", monkeypatch)
    assert code == 2 and hints.tokenizer_train() in err
    code, _, err = typed("tunewright chat masked", monkeypatch)
    assert code == 2 and "an mlm model does not chat" in err


def test_no_other_module_spells_a_command_out():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        if path.name == "hints.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        owners = [tree, *(n for n in ast.walk(tree) if isinstance(n, (ast.ClassDef, ast.FunctionDef)))]
        docs = {n.body[0].value for n in owners if n.body and isinstance(n.body[0], ast.Expr)}
        texts = [
            n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in docs
        ]
        wrong += [f"{path.relative_to(ROOT)}:{n.lineno}: {n.value!r}" for n in texts if _VERB.search(n.value)]
    assert not wrong, "\n".join(wrong)
