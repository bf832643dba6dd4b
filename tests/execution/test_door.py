"""The door: which execution a run gets, and that nothing needs the fast path to be there."""

from __future__ import annotations

import sys

import pytest
import torch

import tunewright as tw
from tests.conftest import messages
from tests.tasks.test_contract import values_for
from tunewright.errors import UserError
from tunewright.execution import prepare_model
from tunewright.execution.base import Execution, Wanted
from tunewright.prediction import load
from tunewright.runs.resume import compare_configs
from tunewright.runs.setup import build_components
from tunewright.runs.train import as_config, train


class Hidden:
    """`execution/cpu/` as if it were not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if (name + ".").startswith("tunewright.execution.cpu."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def without_cpu_folder(monkeypatch):
    for name in list(sys.modules):
        if (name + ".").startswith("tunewright.execution.cpu."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])


@pytest.mark.parametrize("kind", ["classification", "ner", "sft", "clm", "kto", "judge"])
def test_without_the_folder_tasks_train_evaluate_and_predict(run_values, tmp_path, kind, without_cpu_folder):
    values = values_for(kind, run_values, tmp_path)
    run = train({**values, "train": {**values["train"], "max_steps": 2}})
    assert tw.evaluate(run)["metrics"]["loss"] > 0
    model = load(run)
    assert type(model.execution) is Execution
    if kind in ("classification", "ner"):
        assert len(model.predict(["Where is my parcel?"])) == 1
    assert not any(name.startswith("tunewright.execution.cpu") for name in sys.modules)


def test_a_library_that_the_fast_path_misses_is_no_reason_to_go_without_it(monkeypatch):
    for name in list(sys.modules):
        if (name + ".").startswith("tunewright.execution.cpu."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError, match="psutil"):
        prepare_model(torch.nn.Linear(1, 1), Wanted())


def test_ranks_and_other_devices_get_the_plain_execution(tiny_bert):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    for wanted in (Wanted(num_ranks=2), Wanted(device=torch.device("cuda")), Wanted(execution="plain")):
        assert type(prepare_model(model, wanted)) is Execution


def test_an_accelerator_is_told_what_dropout_by_row_costs(tiny_bert):
    from transformers import AutoModelForSequenceClassification

    said: list[str] = []
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    prepare_model(model, Wanted(device=torch.device("cuda"), dropout="pytorch"), say=said.append)
    assert not said
    prepare_model(model, Wanted(device=torch.device("cuda")), say=said.append)
    assert len(said) == 1 and "Attention dropout (0.1)" in said[0] and "train.dropout=off" in said[0]


def test_another_execution_may_resume_a_run(run_values, tmp_path):
    """Results do not depend on it within rounding; that they are not the same bit by bit is said."""
    auto, plain = (as_config({**run_values, "train": {"execution": one}}) for one in ("auto", "plain"))
    assert compare_configs(auto, plain, folder=tmp_path) == []
    with pytest.raises(UserError, match="execution"):
        as_config({**run_values, "train": {"execution": "quick"}})


def test_old_names_of_dropout_are_understood(run_values):
    for old, new in (("fast", "row_keyed"), ("stock", "pytorch")):
        assert as_config({**run_values, "train": {"dropout": old}}).train.dropout == new


def test_pytorchs_dropout_is_kept_where_it_is_asked_for(run_values):
    run = build_components(as_config({**run_values, "train": {"dropout": "pytorch", "execution": "plain"}}))
    assert {type(module) for module in run.model.modules() if isinstance(module, torch.nn.Dropout)} == {
        torch.nn.Dropout
    }


def test_predictions_are_the_same_within_rounding(run_values):
    run = train({**run_values, "train": {**run_values["train"], "max_steps": 2}})
    texts = [row["text"] for row in messages(20)]
    fast, plain = (load(run, precision="fp32", execution=one).scores(texts) for one in ("auto", "plain"))
    assert abs(fast - plain).max() < 1e-6
    with pytest.raises(UserError, match="no such execution"):
        load(run, execution="quick")
