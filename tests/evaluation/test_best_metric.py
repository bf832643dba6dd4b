"""A metric without a value on the validation split is told before training, for every task that has one; `auto` goes by the loss there."""

import numpy as np
import pytest

from tests.conftest import write_jsonl
from tunewright.config.load import parse_config
from tunewright.errors import UserError
from tunewright.evaluation.best_metric import best_metric, without_value
from tunewright.preparation import prepare
from tunewright.runs.data_checks import find_problems
from tunewright.runs.train import train


def judged(n, good):
    return {"prompt": f"Say {n}.", "completion": f"It is {n}.", "label": good}


def labelled(n, label):
    return {"text": f"the day number {n}", "label": label}


def tagged(n, tag):
    return {"tokens": ["in", f"town{n}", "now"], "ner_tags": ["O", tag, "O"]}


def several(n, labels):
    return {"text": f"the day number {n}", "labels": labels}


KINDS = {
    "preference": ([judged(n, n % 2 == 0) for n in range(20)], [judged(n, True) for n in range(30, 36)], "pair_accuracy", "good answers only"),
    "classification": ([labelled(n, "ab"[n % 2]) for n in range(20)], [labelled(n, "a") for n in range(30, 36)], "roc_auc", "all of its rows are 'a'"),
    "several labels": ([several(n, ["ab"[n % 2]]) for n in range(20)], [several(n, []) for n in range(30, 36)], "f1_micro", "has a label"),
    "ner": ([tagged(n, "B-LOC") for n in range(20)], [tagged(n, "O") for n in range(30, 36)], "span_f1", "holds an entity"),
}  # fmt: skip


def config_of(tmp_path, kind, models, **evaluate):
    train_rows, validation_rows, _, _ = KINDS[kind]
    data = {
        "train": str(write_jsonl(tmp_path / "train.jsonl", train_rows)),
        "validation": str(write_jsonl(tmp_path / "dev.jsonl", validation_rows)),
        "test_ratio": 0,
    }
    model = models[kind == "preference"]
    return parse_config({"task": "classification" if "labels" in kind else kind, "model": str(model), "data": data,
                         "evaluate": evaluate, "output": str(tmp_path / "run"), "train": {"max_steps": 1}})  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_without_a_value_is_refused_before_training(tmp_path, kind, tiny_bert, tiny_gpt):
    _, _, metric, why = KINDS[kind]
    config = config_of(tmp_path, kind, (tiny_bert, tiny_gpt), metric=metric)
    prepared = prepare(config, say=lambda _: None)
    task = prepared.task()
    with pytest.raises(UserError, match=f"'{metric}' has no value on the validation split: .*{why}"):
        best_metric(metric, task, prepared.store)
    with pytest.raises(UserError, match="has no value on the validation split"):
        find_problems(config, say=lambda _: None)
    assert best_metric("loss", task, prepared.store) == "loss"
    absent = task.metrics_without_value(prepared.store["validation"])
    assert set(absent) <= set(task.metric_names()) and not task.metrics_without_value(prepared.store["train"])
    if metric == task.best_metric():
        assert best_metric("auto", task, prepared.store) == "loss"
        assert why in str(without_value("auto", task, prepared.store))


def test_it_is_refused_before_the_first_step_and_leaves_no_checkpoint(tmp_path, tiny_bert, tiny_gpt):
    with pytest.raises(UserError, match=r"pair_accuracy.*good answers only"):
        train(config_of(tmp_path, "preference", (tiny_bert, tiny_gpt), metric="pair_accuracy"))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_has_no_value_is_what_the_scores_leave_out():
    from tunewright.metrics.classification import single_label_scores

    scores = np.full((3, 2), 0.5)
    both, one = (single_label_scores(scores, np.array(gold), ("a", "b"))["metrics"] for gold in ([0, 1, 0], [0, 0, 0]))
    assert set(both) - set(one) == {"roc_auc", "average_precision"}


def test_a_metric_of_ones_own_that_cannot_be_imported_is_refused_before_training(
    tmp_path, tiny_bert, tiny_gpt, monkeypatch
):
    monkeypatch.setattr("tunewright.plugins._TRUSTED", {"kappa_of_nobody"})
    prepared = prepare(config_of(tmp_path, "classification", (tiny_bert, tiny_gpt)), say=lambda _: None)
    with pytest.raises(UserError, match=r"kappa_of_nobody cannot be imported .* on PYTHONPATH"):
        best_metric("auto", prepared.task(), prepared.store, plugins=["kappa_of_nobody"])
