"""Regression: numbers are detected, learned in standard deviations, said in their own unit, by every way to use a model."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

import tunewright as tw
from tests.conftest import messages, write_jsonl
from tests.tasks.test_contract import set_up
from tunewright.config.load import parse_config
from tunewright.errors import RowError, UserError
from tunewright.losses.regression import huber_rows, squared_error_rows
from tunewright.metrics.regression import regression_intervals, regression_scores, simple_predictions
from tunewright.prediction import load
from tunewright.preparation import open_inputs, prepare
from tunewright.reading.detect import CLASSES, NUMBERS, UNCLEAR, kind_of_labels
from tunewright.runs.train import train
from tunewright.tasks.regression import number
from tunewright.testing import check_task
from tunewright.verification import verify

SCORED = [
    {"text": row["text"], "price": 1000 + 7.5 * len(row["text"]), "word": row["text"].split()[0]}
    for row in messages(40)
]
PAIRED = [
    {"sentence1": row["text"], "sentence2": other["text"], "score": round(len(row["text"]) / 31, 2)}
    for row, other in zip(messages(12), messages(24)[12:], strict=True)
]
SEVERAL = [
    {"text": row["text"], "warmth": n / 7, "length": len(row["text"]) + 0.5} for n, row in enumerate(messages(12))
]
LISTED = [{"text": row["text"], "scores": [n / 7, n**2 / 3]} for n, row in enumerate(messages(12))]


def values_of(tmp_path, rows, model, **sections):
    data = {"train": str(write_jsonl(tmp_path / "data.jsonl", rows)), **sections.pop("data", {})}
    values = {"task": "regression", "model": str(model), "data": data, "output": str(tmp_path / "run")}
    return values | {"train": {"max_steps": 6, "batch_size": 8, **sections.pop("train", {})}} | sections


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (SCORED[:12], {"config": {"data": {"label": "price"}}}),
        (SCORED[:12], {"config": {"data": {"label": "price"}, "task": {"name": "regression", "loss": "huber"}}}),
        (SCORED[:12], {"config": {"data": {"label": "price"}}, "decoder": True}),
        (PAIRED, {}),
        (SEVERAL, {"config": {"data": {"label": ["warmth", "length"]}}}),
        (LISTED, {"config": {"data": {"label": "scores"}}}),
    ],
)
def test_it_keeps_the_contract(rows, options):
    check_task("regression", rows, **options)


def test_losses_by_hand():
    predicted, right = torch.tensor([[0.5], [3.0]]), torch.tensor([[-1.0], [3.0]])
    assert squared_error_rows(predicted, right).tolist() == [2.25, 0.0]
    assert huber_rows(predicted, right, delta=1.0).tolist() == [1.0, 0.0]  # 1 · (1.5 - 0.5)
    assert squared_error_rows(torch.tensor([[1.0, 4.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [5.0]


def test_scores_by_hand_and_by_scipy():
    found = regression_scores(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [5.0]]), ["y"])["metrics"]
    assert (
        found["mae"] == pytest.approx(2 / 3) and found["rmse"] == pytest.approx((2 / 3) ** 0.5) and found["r2"] == 0.75
    )
    assert [found[name].higher_is_better for name in ("mae", "rmse", "r2", "pearson", "spearman")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    rng = np.random.default_rng(0)
    right = rng.integers(0, 9, (200, 1)).astype(float)
    predicted = right + rng.normal(0, 3, (200, 1))
    found = regression_scores(predicted, right, ["y"])["metrics"]
    assert found["pearson"] == pytest.approx(stats.pearsonr(predicted[:, 0], right[:, 0])[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(predicted[:, 0], right[:, 0])[0])


def test_intervals_are_those_of_scipys_bootstrap():
    rng = np.random.default_rng(1)
    right = rng.normal(5, 2, 150)
    predicted = right + rng.normal(0, 2, 150)
    found = regression_intervals(predicted[:, None], right[:, None], seed=0)
    assert set(found) == {"mae", "rmse", "r2", "pearson", "spearman"}
    for name, statistic in (
        ("pearson", lambda a, b: stats.pearsonr(a, b)[0]),
        ("spearman", lambda a, b: stats.spearmanr(a, b)[0]),
    ):
        theirs = stats.bootstrap(
            (predicted, right), statistic, paired=True, vectorized=False, n_resamples=400, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval  # fmt: skip
        assert found[name] == pytest.approx([theirs.low, theirs.high], abs=0.04)
    assert found["rmse"][0] < np.sqrt(((predicted - right) ** 2).mean()) < found["rmse"][1]


def test_equal_numbers_have_no_correlation_and_a_constant_answer_has_none_of_its_own():
    flat = regression_scores(np.array([[1.0], [2.0]]), np.array([[3.0], [3.0]]), ["y"])["metrics"]
    assert (
        set(flat)
        == {"mae", "rmse"}
        == set(regression_intervals(np.array([[1.0], [2.0]]), np.array([[3.0], [3.0]]), seed=0))
    )
    assert regression_scores(np.array([[2.0], [2.0]]), np.array([[1.0], [3.0]]), ["y"])["metrics"]["pearson"] == 0


def test_baselines_are_the_mean_and_a_ridge_on_words():
    texts = ["good film", "bad film", "good day", "bad day"] * 5
    right = np.array([[9.0], [1.0], [9.0], [1.0]] * 5)
    found = simple_predictions(texts, right)(["good", "bad"])
    assert found["mean"][0].tolist() == [[5.0], [5.0]] and found["mean"][1] == 20
    (good,), (bad,) = found["tfidf_ridge"][0]
    assert good > 7 and bad < 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([round(0.37 * n, 2) for n in range(30)], NUMBERS),
        ([str(0.2 * (n % 26)) for n in range(200)], NUMBERS),
        ([4.99, 1.507, 2.737, 4.819, 3.1, 2.2], NUMBERS),
        ([n % 10 / 2 + 0.5 for n in range(100)], UNCLEAR),  # ratings in halves of a star
        ([n % 5 + 1 for n in range(100)], CLASSES),
        ([float(n % 5) for n in range(100)], CLASSES),  # as a table writes integers beside gaps
        ([n % 77 for n in range(200)], CLASSES),  # numbered intents
        ([129 * n + n % 7 for n in range(100)], UNCLEAR),  # prices
        ([n % 2 * 0.5 for n in range(50)], CLASSES),
        (["007", "008"] * 30, CLASSES),
        (["a", "b"] * 10, CLASSES),
        ([True, False] * 10, CLASSES),
        ([], CLASSES),
    ],
)
def test_what_a_label_column_holds(values, kind):
    assert kind_of_labels(values) == kind


def test_the_only_column_of_many_numbers_is_the_number_whatever_it_is_called(tmp_path, tiny_bert):
    rows = [{**{key: row[key] for key in ("sentence1", "sentence2")}, "relatedness": row["score"]} for row in PAIRED]
    inputs = open_inputs(parse_config({**values_of(tmp_path, rows, tiny_bert), "task": "auto"}))
    assert inputs.task.columns.label == "relatedness" and "label 'relatedness' by its values" in inputs.reason
    two = [{**row, "year": row["relatedness"] * 2} for row in rows]
    with pytest.raises(UserError, match=r"no column of numbers found(.|\n)*data\.label"):
        open_inputs(parse_config(values_of(tmp_path, two, tiny_bert)))


@pytest.mark.parametrize(("rows", "label"), [(PAIRED, None), (SCORED, "price"), (SEVERAL, ["warmth", "length"])])
def test_many_numbers_are_detected(tmp_path, tiny_bert, rows, label):
    values = values_of(tmp_path, rows, tiny_bert, data={"label": label} if label else {})
    assert open_inputs(parse_config({**values, "task": "auto"})).task.name == "regression"
    classes = {**values, "task": "auto", "data": {**values["data"], "multi_label": False}}
    if label is None:
        assert open_inputs(parse_config(classes)).task.name == "classification"


def test_what_may_be_both_is_asked(tmp_path, tiny_bert):
    rows = [{"text": row["text"], "stars": n % 9 / 2} for n, row in enumerate(messages(60))]
    values = values_of(tmp_path, rows, tiny_bert)
    with pytest.raises(
        UserError, match=r"scale, or classes(.|\n)*task=regression predicts(.|\n)*task=classification tells the 9"
    ):
        open_inputs(parse_config({**values, "task": "auto"}))
    assert open_inputs(parse_config({**values, "task": "regression"})).task.names == ("stars",)
    as_classes = prepare(parse_config({**values, "task": "classification"}))
    assert as_classes.task().known_names == ("0", "0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4")
    many = values_of(tmp_path, [{"text": row["text"], "label": n / 7} for n, row in enumerate(messages(60))], tiny_bert)
    with pytest.raises(
        UserError, match=r"numbers on a scale, not classes(.|\n)*task=regression predicts the number itself"
    ):
        prepare(parse_config({**many, "task": "classification"}))


@pytest.mark.parametrize(("cell", "found"), [(4, 4.0), ("4.5", 4.5), (" -1e3 ", -1000.0), (".5", 0.5)])
def test_numbers_are_read(cell, found):
    assert number(cell) == found


@pytest.mark.parametrize("cell", [None, "", "4,5", "nan", "inf", "1_000", True, "many", float("nan"), 1e999, [1]])
def test_what_is_no_number_costs_its_row(cell):
    with pytest.raises(RowError, match="number"):
        number(cell)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": {"label": "word"}}, "these are no numbers"),
        (
            {"data": {"label": "price", "label_names": ["a", "b"]}},
            "data.label_names has no effect: regression does not read it",
        ),
        (
            {"data": {"label": "price"}, "task": {"name": "regression", "huber_delta": 2}},
            "only the huber loss has a delta",
        ),
        ({"data": {"label": "price"}, "train": {"class_weights": "balanced"}}, "class_weights"),
    ],
)
def test_what_does_not_fit_is_said_before_training(tmp_path, tiny_bert, change, says):
    with pytest.raises(UserError, match=says):
        set_up(values_of(tmp_path, SCORED, tiny_bert, **change))


def test_the_same_number_everywhere_is_nothing_to_learn(tmp_path, tiny_bert):
    rows = [{**row, "price": 3.5} for row in SCORED]
    with pytest.raises(UserError, match=r"3\.5 in every training row"):
        set_up(values_of(tmp_path, rows, tiny_bert, data={"label": "price"}))


def test_answers_are_in_the_datas_own_unit_in_every_way(tmp_path, tiny_bert):
    """In bf16 the head is computed whole: prices of 1,000 to 2,000 would be rounded to 8."""
    from transformers import pipeline

    values = values_of(
        tmp_path,
        SCORED,
        tiny_bert,
        data={"label": "price"},
        train={"precision": "bf16", "epochs": 3, "max_steps": None},
    )
    run = train(values)
    test = run.scores["test"]
    assert 0 < test["metrics"]["mae"] < 600 and test["metrics"]["rmse"] == pytest.approx(
        np.sqrt(test["metrics"]["loss"]) * _spread(run), rel=1e-2
    )
    assert set(test["baseline"]) == {"mean", "tfidf_ridge"} and test["intervals"]["mae"][0] < test["metrics"]["mae"]
    model = load(run, precision="fp32")
    texts = [row["text"] for row in SCORED[:4]]
    ours = [one.as_dict()["value"] for one in model.predict(texts)]
    assert all(900 < value < 2500 for value in ours) and len(set(ours)) == 4
    pipe = pipeline("text-classification", model=str(run.folder / "model"), device="cpu")
    assert [one["score"] for one in pipe(texts, truncation=True)] == pytest.approx(ours, rel=1e-5)
    assert [check.broken for check in verify(run.folder)] == [None] * 4
    again = tw.evaluate(run, precision="fp32")
    assert again["metrics"]["mae"] == pytest.approx(test["metrics"]["mae"], rel=0.05)
    assert json.loads((run.folder / "scores.json").read_text())["metric"] == "rmse"
    further = train(
        {**values, "model": str(run.folder / "model"), "output": str(tmp_path / "further"), "train": {"max_steps": 1}}
    )
    first = further.scores["test"]["metrics"]["loss"]
    assert (
        first < 2 * test["metrics"]["loss"] + 0.1
    )  # it goes on from where the head was, and not from prices as standard deviations


def _spread(run):
    return json.loads((run.folder / "model" / "tunewright.json").read_text())["task_state"]["spread"][0]
