"""A user's script that uses all of `tw.*`: it passes `mypy --strict`, and it runs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import tunewright as tw

SOURCES = Path(tw.__file__).parents[1]
EXAMPLE = Path(__file__).parents[1] / "examples/plugin/src/tunewright_extras"
SCRIPT = '''
"""All of the public API, as a user types it."""

import json
import sys
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
import torch

import tunewright as tw


class Losses(tw.Reporter):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def config(path: Path) -> tw.RunConfig:
    return tw.RunConfig.model_validate(json.loads(path.read_text()))


def look(path: Path, rows: str) -> int:
    data: tw.Readable = rows
    source: tw.Source = tw.read(data, tw.ReadOptions(format="jsonl"))
    num_rows = sum(1 for _ in source.rows())
    stages: tw.Explanation = tw.explain(config(path), "1")
    prepared: tw.Prepared = tw.prepare(config(path))
    store: tw.TokenStore = prepared.store
    tokens: int = stages["num_tokens"]
    first: dict[str, torch.Tensor] = next(iter(tw.batches(config(path), "train", epoch=0)))
    shown: tw.TokenizedText = tw.tokenize(prepared.model.name, "Where is my parcel?", max_length=16)
    ids: list[int] = shown.input_ids
    learned: Path = tw.train_tokenizer(rows, "wordpiece", output=path.parent / "tokenizer", vocab_size=300, text="text")
    print(ids, shown.token_type_ids, shown.attention_mask, tw.tokenize(learned, "parcel").decoded)
    return num_rows + tokens + len(store.splits) + int(first["input_ids"].shape[0])


def use(run: tw.RunResult) -> str:
    model: tw.Model = tw.load(run, device="cpu", precision="fp32")
    task: tw.Task = model.task
    if task.generates_text:
        model = model.writing(tw.Sampling(temperature=0.5, max_new_tokens=5))
    found: list[tw.AnyPrediction] = model.predict(["Where is my parcel?"], min_score=0.01)
    again = tw.predict(run.folder, ["Where is my parcel?"], device="cpu", precision="fp32", execution="plain")
    label: str | None = None
    for one in [*found, *again]:
        if isinstance(one, tw.Prediction):
            label = one.label
        elif isinstance(one, tw.TaggedText):
            label = one.entities[0].label
        elif isinstance(one, (tw.Completion, tw.FilledMask)):
            label = one.text
        elif isinstance(one, tw.Numbers):
            label = str(one.values["score"])
        print(one.as_dict(), one.num_cut, one.with_min_score(0.5))
    return f"{task.name} {label}"


def with_frames(path: Path, run: tw.RunResult) -> float:
    """As someone who has a DataFrame, a list of dicts and keyword arguments."""
    frame = pd.DataFrame([{"text": "Where is my parcel?", "label": ("order_status", "return_item")[n % 2]} for n in range(8)])
    rows = [{"text": "Where is my parcel?"}, {"text": "I want to return it."}]
    model = config(path).model.name
    found: tw.Findings = tw.check(frame, model=model, output=path.parent / "y")
    print(found.findings, len(found.summary))
    small: tw.RunResult = tw.train(
        pd.DataFrame([{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]), model=model, task="classification",
        data={"max_length": 16}, train={"max_steps": 1, "learning_rate": 1e-4}, evaluate={"baselines": False}, output=path.parent / "x",
    )
    loaded: tw.LoadedRun = tw.load(small.folder)
    same: tw.Comparison = loaded.compare(small)
    predicted: list[dict[str, object]] = run.predict(rows)
    columns: dict[str, object] = run.predict({"text": ["Where is my parcel?"]})
    print(run.predict(frame), predicted[0]["score"], columns["score"], same.config, loaded.metrics, loaded.verdict)
    accuracy: float = run.evaluate(frame)["metrics"]["accuracy"]
    return accuracy + small.metrics["accuracy"]


def prove(run: tw.RunResult, folder: Path) -> float:
    scores: tw.Scores = tw.evaluate(run, split="test")
    low, high = scores["intervals"]["accuracy"]
    accuracy: float = scores["metrics"]["accuracy"]
    assert low <= accuracy <= high
    checks: list[tw.Check] = tw.verify(run)
    assert not any(check.broken for check in checks)
    written: Path = tw.export(run, "merged", output=folder, dtype="bf16")
    assert tw.verify(written, golden_from=run)
    return accuracy


def main(path: Path) -> None:
    losses = Losses()
    values = config(path)
    print(look(path, str(json.loads(path.read_text())["data"]["train"])))
    run: tw.RunResult = tw.train(values, reporter=losses)
    point = run.history[-1]
    print(point["metrics"]["accuracy"], len(tw.load(run).history))
    print(point["validation_loss"], run.scores["test"]["metrics"]["accuracy"], run.verdict["kind"], run.num_steps)
    print(use(run), prove(run, path.parent / "merged"), with_frames(path, run))
    try:
        tw.train({"data": {"train": "nothing.csv"}})
    except tw.UserError as error:
        print(error.problem)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
'''


def test_every_public_name_is_there_and_the_script_uses_it():
    assert sorted(tw.__all__) == sorted(tw._WHERE)
    assert all(getattr(tw, name) is not None for name in tw.__all__)
    assert [name for name in tw.__all__ if f"tw.{name}" not in SCRIPT] == []
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tw.trian  # noqa: B018


def test_functions_keep_their_names_whatever_is_imported():
    functions = ("batches", "evaluate", "explain", "export", "load", "predict", "prepare", "read", "train", "verify")
    assert all(not (SOURCES / "tunewright" / name).exists() for name in functions)
    assert all(not (SOURCES / "tunewright" / f"{name}.py").exists() for name in functions)


@pytest.mark.slow
def test_a_users_script_and_the_example_of_a_plugin_pass_mypy_strict(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import tunewright as tw\n\ntw.trian('x')\nx: str = tw.train('x').num_steps\n", encoding="utf-8")
    skipped = [
        "torch",
        "transformers",
        "tokenizers",
        "numpy",
        "datasets",
        "sklearn",
        "accelerate",
        "peft",
        "pyarrow",
        "jinja2",
        "pandas",
        "polars",
    ]
    config = tmp_path / "mypy.ini"  # what others declare takes minutes to read, and nothing of it is asked
    config.write_text("[mypy]\n" + "".join(f"[mypy-{name},{name}.*]\nfollow_imports = skip\n" for name in skipped))
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", "--config-file", str(config)]
    options += ["--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(script), str(wrong), str(EXAMPLE)],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(SOURCES)}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert [line.split(" error: ")[1] for line in checked.stdout.splitlines()] == [
        'Module has no attribute "trian"; maybe "train"?  [attr-defined]',
        'Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]',
    ], checked.stdout


def test_no_public_signature_says_any():
    """What a type checker sees of the functions and methods that `tw.*` offers: overloads where there are some."""
    hidden = []
    for name in tw.__all__:
        found = getattr(tw, name)
        for one in (
            [found, *(value for key, value in vars(found).items() if not key.startswith("_"))]
            if inspect.isclass(found)
            else [found]
        ):
            if inspect.isfunction(one) and one.__module__.startswith("tunewright") and not typing.get_overloads(one):
                said = {key: str(kind) for key, kind in one.__annotations__.items()}
                hidden += [f"{name}.{one.__name__}: {key}" for key, kind in said.items() if kind == "Any"]
    assert [
        one
        for one in hidden
        if one.split(".")[0]
        in ("train", "check", "read", "evaluate", "predict", "prepare", "load", "RunResult", "LoadedRun")
    ] == []


def test_a_users_script_runs(run_values, tmp_path):
    script, config = tmp_path / "script.py", tmp_path / "config.json"
    script.write_text(SCRIPT, encoding="utf-8")
    values = {**run_values, "task": {"name": "classification"}}
    config.write_text(json.dumps({**values, "train": {**values["train"], "max_steps": 2}}), encoding="utf-8")
    names: dict[str, object] = {"__name__": "script"}
    exec(compile(SCRIPT, str(script), "exec"), names)
    names["main"](config)  # type: ignore[operator]
