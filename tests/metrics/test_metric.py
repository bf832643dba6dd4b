"""A metric is a float that knows whether higher is better; the best checkpoint of a plug-in task is chosen by that."""

import copy
import json
import pickle

import numpy as np
import pytest

from tests.conftest import messages, write_jsonl
from tunewright.errors import UserError
from tunewright.metrics import Metric
from tunewright.runs.train import train
from tunewright.tasks import classification

GIVEN: dict[str, list[Metric | float]] = {}
"""What the task of this file says after each evaluation: name -> values."""


class Options(classification.Options):
    name: str = __name__


class Task(classification.Task):
    name = __name__

    def metrics(self, scores, split, *, intervals=False):
        found = super().metrics(scores, split, intervals=intervals)
        found["metrics"] |= {name: values.pop(0) if len(values) > 1 else values[0] for name, values in GIVEN.items()}
        return found

    def metric_names(self):
        return [*super().metric_names(), *GIVEN]


def test_it_is_a_plain_number_in_json_and_keeps_its_direction_in_copies():
    error = Metric(np.float32(0.25), higher_is_better=False)
    assert json.dumps({"rmse": error}) == '{"rmse": 0.25}' and error == 0.25 and f"{error:.1f}" == "0.2"
    for again in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - of our own making
        assert again == error and again.higher_is_better is False
    assert Metric(1, True).higher_is_better and Metric(3, None).higher_is_better is None


def config_of(tmp_path, tiny_bert, metric):
    rows = write_jsonl(tmp_path / "data.jsonl", messages(24))
    return {
        "plugins": [__name__], "task": __name__, "model": str(tiny_bert), "data": {"train": str(rows), "test_ratio": 0},
        "train": {"epochs": 3, "batch_size": 8, "save_every": "epoch"}, "output": str(tmp_path / "run"),
        "evaluate": {"metric": metric, "every": "epoch", "baselines": False},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "higher_is_better", "best"),
    [("rmse", False, 2), ("mae", False, 2), ("wer", False, 2), ("ece", False, 2), ("unreduced_loss", True, 3)],
)
def test_the_best_checkpoint_goes_by_the_direction_and_not_by_the_name(
    tmp_path, tiny_bert, monkeypatch, name, higher_is_better, best
):
    monkeypatch.setitem(GIVEN, name, [Metric(value, higher_is_better) for value in (0.5, 0.2, 0.9, 0.9)])
    run = train(config_of(tmp_path, tiny_bert, name))
    assert [point["score"] for point in run.history] == [0.5, 0.2, 0.9]
    assert max(number for number, point in enumerate(run.history, start=1) if point["is_best"]) == best
    assert type(json.loads((run.folder / "scores.json").read_text())["splits"]["validation"]["metrics"][name]) is float


def test_a_metric_without_a_direction_is_refused(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setitem(GIVEN, "rmse", [0.5])
    with pytest.raises(
        UserError,
        match=r"does not say whether higher values of its metrics are better; found 'rmse'(.|\n)*higher_is_better",
    ):
        train(config_of(tmp_path, tiny_bert, "loss"))


def test_no_checkpoint_is_chosen_by_what_is_neither_better_nor_worse(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setitem(GIVEN, "length", [Metric(3, None)])
    with pytest.raises(UserError, match="'length' cannot choose a checkpoint"):
        train(config_of(tmp_path, tiny_bert, "length"))
