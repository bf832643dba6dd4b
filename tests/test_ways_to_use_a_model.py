"""The same model by every door: Python API, transformers.pipeline, a plain PyTorch loop, transformers.Trainer, files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import tunewright as tw
from tests.conftest import messages
from tunewright.config.load import parse_config
from tunewright.prediction import load
from tunewright.preparation import prepare
from tunewright.runs.setup import build_components
from tunewright.runs.train import train
from tunewright.training.engine import training_steps

HARD_TEXTS = ["[SEP] [CLS] where is [MASK] my order", "", "a" * 3_000, "Ünïcödé 😀 \x85 \u2028 中文", "word " * 500]


@pytest.fixture(scope="module")
def finished(request, tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    labels = ("order_status", "return_item", "product_question")
    rows = [row for row in messages() if row["label"] in labels][:90]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return train({
        "model": str(tiny_bert), "data": {"train": str(folder / "data.jsonl"), "max_length": 32},
        "train": {"epochs": 4, "learning_rate": 3e-3, "precision": "fp32"}, "output": str(folder / "run"),
    })  # fmt: skip


def test_the_pipeline_gives_the_same_label_and_score(finished):
    from transformers import pipeline

    texts = [row["text"] for row in messages(40)] + [text for text in HARD_TEXTS if text]
    classify = pipeline("text-classification", model=str(finished.folder / "model"), device="cpu")
    ours = load(finished, precision="fp32").predict(texts)
    for text, theirs, prediction in zip(texts, classify(texts, truncation=True), ours, strict=True):
        assert theirs["label"] == prediction.label, text
        assert theirs["score"] == pytest.approx(prediction.score, abs=1e-5), text


def test_bf16_prediction_agrees_where_the_margin_is_clear(finished):
    texts = [row["text"] for row in messages(60)]
    exact, fast = (load(finished, precision=precision).scores(texts) for precision in ("fp32", "bf16"))
    assert np.abs(exact - fast).max() < 2e-2
    top = np.sort(exact, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.01
    assert (exact.argmax(1) == fast.argmax(1))[clear].all()


def test_predictions_come_in_order_and_say_what_was_cut(finished):
    predictions = load(finished).predict(["short", "word " * 100, "short"])
    assert predictions[0].score == pytest.approx(predictions[2].score, abs=1e-6)
    assert predictions[0].num_cut == 0
    assert predictions[1].num_cut > 50
    assert list(predictions[0].scores.values()) == sorted(predictions[0].scores.values(), reverse=True)
    assert sum(predictions[0].scores.values()) == pytest.approx(1.0)


def test_min_score_turns_doubtful_labels_into_none(finished):
    prediction = load(finished).predict(["hm"], min_score=0.9999)[0]
    assert prediction.label is None
    assert prediction.score < 0.9999


def test_a_pair_for_a_model_of_single_texts_is_refused(finished):
    with pytest.raises(tw.UserError, match="single texts"):
        load(finished).predict([("a", "b")])


def test_the_model_folder_alone_is_enough(finished, tmp_path):
    import shutil

    shutil.copytree(finished.folder / "model", tmp_path / "moved")
    assert load(tmp_path / "moved").predict(["where is it"]) == load(finished).predict(["where is it"])


def test_batches_feed_a_plain_loop(run_values):
    from transformers import AutoModelForSequenceClassification

    run_values["data"] |= {"text": "text"}
    first = list(tw.batches(run_values, "train"))
    model = AutoModelForSequenceClassification.from_pretrained(run_values["model"], num_labels=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        for batch in tw.batches(run_values, "train"):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
    assert sum(len(batch["labels"]) for batch in first) == 64
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_batches_have_a_length_and_take_sections(run_values, tmp_path):
    rows = [{"text": "word " * (1 + n % 5), "label": "ab"[n % 2]} for n in range(40)]
    sections = {
        "model": run_values["model"], "output": tmp_path / "x", "train": {"batch_size": 8},
        "data": {"validation_ratio": 0.2, "test_ratio": 0, "max_length": 16, "padding": "max_length"},
    }  # fmt: skip
    batches = tw.batches(rows, **sections)
    assert len(batches) == 4 and len(tw.batches(rows, "validation", **sections)) == 1
    assert next(batches)["input_ids"].shape == (8, 16) and len(batches) == 3
    assert len(list(batches)) == 3 and len(batches) == 0
    again = [batch["input_ids"].tolist() for batch in tw.batches(rows, epoch=0, **sections)]
    assert again != [batch["input_ids"].tolist() for batch in tw.batches(rows, epoch=1, **sections)]
    with pytest.raises(tw.UserError, match=r"there is no split 'test'; found 'train', 'validation'"):
        tw.batches(rows, "test", **sections)


class Losses(tw.Reporter):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, step, num_steps):
        self.losses.append(step.loss)


def test_a_plain_loop_over_batches_has_the_losses_of_train(tiny_bert, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    rows = [{"text": f"{'good' if n % 2 else 'bad'} {'word ' * (1 + n % 5)}", "label": "ab"[n % 2]} for n in range(40)]
    network = AutoModelForSequenceClassification.from_pretrained(
        tiny_bert, num_labels=2, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}
    )
    network.save_pretrained(tmp_path / "start")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "start")
    rate = {"learning_rate": 1e-3, "head_learning_rate": 1e-3, "warmup": 0, "weight_decay": 0.0}
    sections = {
        "model": tmp_path / "start", "output": tmp_path / "x", "data": {"test_ratio": 0, "validation_ratio": 0},
        "train": {**rate, "epochs": 2, "batch_size": 8, "dropout": "off", "precision": "fp32"},
    }  # fmt: skip
    reporter = Losses()
    tw.train(rows, reporter=reporter, **sections)
    network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 2 * len(tw.batches(rows, **sections)))
    losses = []
    for epoch in range(2):
        for batch in tw.batches(rows, epoch=epoch, **sections):
            loss = network(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss))
    assert losses == pytest.approx(reporter.losses, abs=1e-4)


def test_the_generator_runs_with_ones_own_optimizer_schedule_and_loss(run_values):
    run = build_components(parse_config(run_values))
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def doubled(model, batch, weights):
        terms, outputs = run.task.loss(model, batch, weights=weights)
        return {name: (2 * total, weight) for name, (total, weight) in terms.items()}, outputs

    rates = []
    for step in training_steps(
        run.model,
        run.task,
        run.prepared.store["train"],
        run.encoder,
        run.plan,
        optimizer,
        execution=run.execution,
        loss=doubled,
    ):
        scheduler.step()
        rates.append(step.learning_rate)
        if step.number == 4:
            break
    assert rates == [0.1, 0.1, 0.05, 0.05]
    assert step.loss > 2.0  # twice about log(4)


def test_the_store_trains_under_the_trainer(run_values, tmp_path):
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    split = prepare(parse_config(run_values)).store["train"]
    model = AutoModelForSequenceClassification.from_pretrained(run_values["model"], num_labels=4)
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(run_values["model"]))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "t"),
        max_steps=3,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    done = Trainer(model, arguments, train_dataset=split.torch_dataset(), data_collator=collate).train()
    assert np.isfinite(done.training_loss)


def test_the_store_opens_as_a_dataset(run_values):
    from datasets import Dataset

    store = prepare(parse_config(run_values)).store
    opened = Dataset.from_file(str(store.shard_files("train")[0]))
    assert len(opened) == len(store["train"])
    assert opened[5]["input_ids"] == store["train"].input_ids(5).tolist()


def test_importing_the_package_is_quick_and_pulls_in_nothing_heavy():
    code = "import sys, tunewright; print([m for m in ('torch', 'transformers', 'pydantic', 'pyarrow', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_api_names_stay_callable_whatever_is_imported():

    assert callable(tw.train) and callable(tw.read) and callable(tw.evaluate) and callable(tw.load)


def test_a_head_with_other_labels_starts_fresh_and_one_with_the_same_goes_on(finished, run_values, tmp_path):
    again = build_components(parse_config({**run_values, "model": str(finished.folder), "output": str(tmp_path / "a")}))
    assert again.fresh == ["classifier.bias", "classifier.weight"]
    rows = [row for row in messages() if row["label"] in finished.scores["test"]["per_class"]][:90]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    same = build_components(parse_config({**run_values, "model": str(finished.folder), "output": str(tmp_path / "b")}))
    assert same.fresh == []


def test_one_text_is_not_taken_for_a_list_of_characters(finished):
    with pytest.raises(tw.UserError, match="list of texts"):
        load(finished).predict("one text")


def test_of_equal_scores_the_lower_loss_is_kept(run_values, tmp_path):
    rows = [{"text": word * 3, "label": word} for word in ("parcel ", "refund ") for _ in range(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = train({**run_values, "train": {**run_values["train"], "epochs": 4, "learning_rate": 3e-3}}).history
    kept = [point for point in history if point["is_best"]][-1]
    best = max(point["score"] for point in history)
    assert kept["validation_loss"] == min(point["validation_loss"] for point in history if point["score"] == best)
