"""`check_task` passes for every task of ours, and fails for a task that is broken in one way, naming what is broken."""

import dataclasses
import re

import pytest

from tests.conftest import messages
from tunewright.records import Example
from tunewright.tasks import classification
from tunewright.testing import TaskFault, check_task

LABELLED = messages(12)
TEXTS = [{"text": row["text"]} for row in LABELLED]
PAIRS = [
    {"prompt": row["text"], "chosen": row["label"], "rejected": other["text"][:30]}
    for row, other in zip(LABELLED, messages(24)[12:], strict=True)
]
JUDGED = [
    {"prompt": row["prompt"], "completion": row["chosen"], "label": number % 3 > 0} for number, row in enumerate(PAIRS)
]
TURNS = [{"prompt": row["text"], "completion": row["label"]} for row in LABELLED]
TAGGED = [
    {"tokens": row["text"].split()[:9], "ner_tags": ["B-A" if word[:1].isupper() else "O" for word in row["text"].split()[:9]]}
    for row in LABELLED
]  # fmt: skip
SENTENCES = [{"text": "\n".join(row["text"] for row in LABELLED[n : n + 4])} for n in range(9)]
NEXT = {"task": {"name": "mlm", "next_sentence": True}}
SEVERAL = [{"text": row["text"], "labels": [row["label"], "x"][: n % 3]} for n, row in enumerate(LABELLED)]
SHORT = {"data": {"max_length": 24}}
PLAIN = {"task": {"name": "preference", "template": "plain"}, "data": {"max_length": 64}}


@pytest.mark.parametrize(
    ("task", "rows", "options"),
    [
        ("classification", LABELLED, {}),
        ("classification", SEVERAL, {}),
        ("ner", TAGGED, {"config": SHORT}),
        ("mlm", TEXTS, {"config": SHORT}),
        ("mlm", SENTENCES, {"config": NEXT}),
        ("clm", TEXTS, {"decoder": True, "config": SHORT}),
        ("sft", TURNS, {"decoder": True, "config": {"task": {"name": "sft", "template": "plain"}}}),
        ("preference", PAIRS, {"decoder": True, "config": PLAIN}),
        ("preference", JUDGED, {"decoder": True, "config": PLAIN}),
        ("reward", PAIRS, {"config": SHORT}),
    ],
)  # fmt: skip
def test_every_task_of_ours_keeps_the_contract(task, rows, options):
    check_task(task, rows, **options)


class Broken(classification.Task):
    """As it should be; what stands below breaks one thing each."""


class WrongWeights(Broken):
    def weights(self, split):
        known = super().weights(split)
        return dataclasses.replace(known, terms={term: rows * 2 for term, rows in known.terms.items()})


class MeanOfTheBatch(Broken):
    def loss(self, model, batch, *, weights=None):
        terms, outputs = super().loss(model, batch, weights=weights)
        return {term: (total / weight, weight) for term, (total, weight) in terms.items()}, outputs


class SeesPadding(Broken):
    def loss(self, model, batch, *, weights=None):
        terms, outputs = super().loss(model, batch, weights=weights)
        return {term: (total + batch.width, weight) for term, (total, weight) in terms.items()}, outputs


class EncodesAtRandom(Broken):
    calls = 0

    def encode(self, examples, encoder):
        type(self).calls += 1
        return super().encode(
            [Example(f"{type(self).calls} {one.text}", one.pair, one.target) for one in examples], encoder
        )


class ForgetsItsLabels(Broken):
    def state(self):
        return {**super().state(), "labels": ["a"]}


class StateIsNoJson(Broken):
    def state(self):
        return {**super().state(), "columns": self.columns}


class PlainMetrics(Broken):
    def metrics(self, scores, split, *, intervals=False):
        return {"metrics": {"rmse": 0.5}}


class TooFewOutputs(Broken):
    def row_outputs(self, outputs, batch):
        return super().row_outputs(outputs, batch)[:1]


class CutsNothing(Broken):
    def encode(self, examples, encoder):
        return super().encode(examples, dataclasses.replace(encoder, max_length=10_000))


class OtherColumns(Broken):
    def label_schema(self):
        return {"stars": super().label_schema()["labels"]}


class Unfinished(classification.base.Task):
    name = "unfinished"


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (WrongWeights, "weights: expected cross_entropy to have the weight 8.0"),
        (MeanOfTheBatch, "loss: expected cross_entropy of a batch to be the weighted sum"),
        (SeesPadding, "loss: expected cross_entropy .* whatever the padding"),
        (EncodesAtRandom, "encode: expected the same rows each time"),
        (ForgetsItsLabels, r"state: expected labels to be kept, .*found \('a',\)"),
        (StateIsNoJson, "state: expected JSON"),
        (PlainMetrics, "metrics: expected Metric.* for rmse"),
        (TooFewOutputs, "row_outputs: expected 8 arrays"),
        (CutsNothing, "encode: .* tokens is longer than the"),
        (OtherColumns, "encode: expected the columns of label_schema"),
        (Unfinished, "Task: expected every abstract member; found none of build_model"),
    ],
)
def test_a_task_broken_in_one_way_fails(task, says):
    rows = [{**row, "text": row["text"] * (40 if task is CutsNothing else 1)} for row in LABELLED[:9]]
    with pytest.raises(TaskFault) as fault:
        check_task(task, rows)
    assert re.search(says, str(fault.value)), fault.value


def test_the_outputs_of_a_row_must_not_depend_on_its_neighbours():
    class LooksAround(Broken):
        def row_outputs(self, outputs, batch):
            return [row + len(batch.lengths) for row in super().row_outputs(outputs, batch)]

    with pytest.raises(TaskFault, match="row_outputs: expected a row's outputs"):
        check_task(LooksAround, LABELLED[:9])
