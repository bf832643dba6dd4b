"""A trained run as an object: what `train` gives and what `load` gives; predictions come back as what was given."""

from __future__ import annotations

from pathlib import Path

import pytest

import tunewright as tw
from tests.runs.test_from_python import ROWS, keywords
from tunewright.prediction import Predictions

pd = pytest.importorskip("pandas")
TEXTS = [row["text"] for row in ROWS[:4]]


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory) -> tw.RunResult:
    return tw.train(pd.DataFrame(ROWS), **keywords(tiny_bert, tmp_path_factory.mktemp("runs") / "x", steps=2))


def test_a_run_and_what_load_gives_do_the_same(run, tiny_bert, tmp_path):
    loaded = tw.load(run.folder)
    assert isinstance(loaded, tw.Model)
    assert run.metrics == loaded.metrics == run.scores["test"]["metrics"]
    assert run.history == loaded.history and len(run.history) == 1
    assert run.history[0]["metrics"]["loss"] == run.history[0]["validation_loss"]
    assert {"accuracy", "f1_macro"} <= run.history[0]["metrics"].keys()
    assert run.predict(TEXTS) == loaded.predict(TEXTS) == tw.predict(run, TEXTS)
    frame = pd.DataFrame(ROWS[:20])
    assert run.evaluate(frame)["metrics"] == loaded.evaluate(frame)["metrics"] == tw.evaluate(run, frame)["metrics"]
    assert run.evaluate()["metrics"] == tw.evaluate(run)["metrics"]
    other = tw.train(ROWS, **{**keywords(tiny_bert, tmp_path / "y"), "task": "classification"})
    for one in (run.compare(other), loaded.compare(tmp_path / "y")):
        assert one.config["train.max_steps"] == (2, 1)
        assert one.scores["accuracy"] == (run.metrics["accuracy"], other.metrics["accuracy"])
    assert run.export("merged", output=tmp_path / "merged") == tmp_path / "merged"
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def columns_of(data) -> dict[str, list]:
    """Of a frame or table of any kind."""
    names = list(data.columns if hasattr(data, "iloc") else getattr(data, "column_names", None) or data.columns)
    return {name: data[name].to_pylist() if hasattr(data[name], "to_pylist") else list(data[name]) for name in names}


def test_predictions_come_back_as_what_was_given(run):
    import datasets
    import pyarrow as pa

    rows = ROWS[:4]
    expected = [(one.label, one.score) for one in run.predict(TEXTS)]
    given: dict = {
        "pandas": pd.DataFrame(rows, index=[7, 3, 3, 1]), "table": pa.Table.from_pylist(rows), "dataset": datasets.Dataset.from_list(rows),
    }  # fmt: skip
    try:
        import polars
    except ImportError:
        pass
    else:
        given["polars"] = polars.DataFrame(rows)
    for kind, data in given.items():
        found = run.predict(data)
        assert type(found) is type(data), kind
        columns = columns_of(found)
        assert list(columns)[:4] == ["text", "label", "predicted_label", "score"], kind
        assert list(zip(columns["predicted_label"], columns["score"], strict=True)) == expected, kind
        assert columns["label"] == [row["label"] for row in rows]
    assert list(run.predict(given["pandas"]).index) == [7, 3, 3, 1]
    found = run.predict(rows)
    assert [(row["predicted_label"], row["score"]) for row in found] == expected
    assert run.predict({"a": rows[0]})["a"]["predicted_label"] == expected[0][0]  # type: ignore[index]
    assert run.predict({"text": TEXTS})["score"] == [score for _, score in expected]
    both = run.predict(datasets.DatasetDict(train=given["dataset"], extra=given["dataset"]))
    assert type(both) is datasets.DatasetDict and both["extra"]["predicted_label"][0] == expected[0][0]


def test_a_path_gives_the_predictions_of_its_rows(run, tmp_path):
    path = tmp_path / "new.csv"
    pd.DataFrame(ROWS[:4]).to_csv(path, index=False)
    assert run.predict(path) == run.predict(str(path)) == run.predict(TEXTS)
    assert run.predict(f"{tmp_path}/*.csv") == run.predict(TEXTS)
    (tmp_path / "more.csv").write_text(path.read_text())
    both = run.evaluate(f"{tmp_path}/*.csv")
    assert both["rows"] == 8 and both["worst_rows"][0]["row"].endswith(("csv:2']", "csv:3']", "csv:4']", "csv:5']"))  # type: ignore[attr-defined]
    assert run.evaluate([path, tmp_path / "more.csv"])["metrics"] == both["metrics"]
    assert run.predict([path, tmp_path / "more.csv"]) == run.predict(TEXTS) * 2
    with pytest.raises(tw.UserError, match="a list of texts is predicted"):
        run.predict("no such file.csv")


def test_a_row_that_cannot_be_predicted_is_named(run):
    with pytest.raises(tw.UserError, match=r"data\['b'\]: .*text"):
        run.predict(pd.DataFrame({"text": ["fine", None]}, index=["a", "b"]))
    with pytest.raises(tw.UserError, match="text"):
        run.predict(pd.DataFrame({"number": [1.5, 2.5]}))
    assert len(run.predict(pd.DataFrame({"text": []}))) == 0


def test_words_come_back_with_their_tags(tiny_bert, tmp_path):
    rows = [
        {"tokens": ["Mara", "lives", "in", name], "tags": ["B-PER", "O", "O", "B-LOC"]}
        for name in ("Ulm", "Bonn", "Köln", "Kiel")
    ] * 8
    run = tw.train(rows, **{**keywords(tiny_bert, tmp_path / "ner"), "task": "ner"})
    found = run.predict(pd.DataFrame(rows[:3]))
    assert list(found.columns) == ["tokens", "tags", "entities", "predicted_tags"]
    assert [len(tags) for tags in found.predicted_tags] == [4, 4, 4]
    shown = run.predict(["Mara <lives> in Ulm"])
    assert isinstance(shown, Predictions) and "&lt;" in shown._repr_html_()


def test_a_conversation_in_a_frame_is_learned(tiny_gpt, tmp_path):
    turns = [
        {"messages": [{"role": "user", "content": f"How much is {n}+1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
        for n in range(30)
    ]
    given = {**keywords(tiny_gpt, tmp_path / "sft"), "data": {"max_length": 96}}
    prepared = [tw.prepare(data, **given) for data in (pd.DataFrame(turns), turns)]
    assert prepared[0].manifest["task"] == "sft"
    assert prepared[0].store["train"].input_ids(3).tolist() == prepared[1].store["train"].input_ids(3).tolist()


def test_check_and_what_a_notebook_shows(run, tiny_bert, tmp_path):
    given = keywords(tiny_bert, tmp_path / "checked")
    findings = tw.check(pd.DataFrame(ROWS), **given)
    prepared = tw.prepare(pd.DataFrame(ROWS), **given)
    comparison = run.compare(run)
    loaded = tw.load(run)
    source = tw.read(pd.DataFrame(ROWS))
    for one in (findings, prepared, comparison, loaded, source, run):
        assert 1 <= len(repr(one).splitlines()) <= 10, repr(one)
        assert "object at 0x" not in repr(one)
        html = one._repr_html_()  # type: ignore[union-attr]
        assert html.count("<table>") == html.count("</table>") >= 1
    assert "[CLS]" in prepared._repr_html_() and "train[0]" in prepared._repr_html_()
    assert "accuracy" in run.evaluate(pd.DataFrame(ROWS[:9]))._repr_html_()  # type: ignore[attr-defined]
    assert "test: loss" in repr(run) and "test: loss" in repr(loaded)
    assert "data[0]" in source._repr_html_()


def test_a_model_folder_alone_has_no_scores(run, tmp_path):
    import shutil

    alone = Path(shutil.copytree(run.folder / "model", tmp_path / "model"))
    loaded = tw.load(alone)
    assert loaded.metrics == {} and loaded.history == [] and loaded.folder == alone
    assert loaded.predict(TEXTS) == run.predict(TEXTS)
