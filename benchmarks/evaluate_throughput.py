"""How many real tokens a second does evaluation take in, beside training and beside transformers.Trainer's `evaluate`?

    python benchmarks/evaluate_throughput.py [--rounds 3] [--tasks classification,sft] [--steps 24]

Every task evaluates the rows that it trains on, with the model and the settings that training chose:
  classification  IMDB reviews, all-MiniLM, 256 tokens at most, 16 rows a step
  ner             sentences of ncbi_disease, all-MiniLM, 16 a step
  mlm             paragraphs of wikitext2_valid, scratch:bert-mini, 256 tokens, 16 a step
  clm             speeches of tinyshakespeare, scratch:llama-mini, packed to 512, 8 blocks a step
  sft             conversations of mlx_wwdc25, scratch:llama-mini, 512 tokens, 8 a step; no answers are written
  preference      DPO on politeness_1100, scratch:llama-mini, 512 tokens, 8 pairs a step; the reference is computed before
The peer is `Trainer.evaluate` with stock attention on the same ids and labels, as many rows a batch, padded to the longest, in bf16 where
training chose it, loss only; it does not isolate the documents of a block, and there is none for preferences, whose loss it does not know.

Real tokens, padding not counted; pairs count both sides, as training does. Each measurement is a process of its own, one after the other, every round; the
first two steps of training are not counted, nor is a first pass of an evaluation. The bar: 2.5 times the tokens of training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, imdb, in_own_process, machine, median_and_spread, model_folder, recorder_of_steps

WARM_UP, BAR = 2, 2.5
LLAMA = {"name": "scratch:llama-mini", "tokenizer": str(DATA / "tokenizers/minimind")}
BERT = {"name": "scratch:bert-mini", "tokenizer": str(DATA / "tokenizers/bert-base-uncased")}
FILES = {
    "ner": "ner/ncbi_disease/train.jsonl", "sft": "instruction/mlx_wwdc25_train.jsonl",
    "preference": "preference/politeness_1100.jsonl",
}  # fmt: skip
MODELS = {"mlm": BERT, "clm": LLAMA, "sft": LLAMA, "preference": LLAMA}
TASKS = ("classification", "ner", "mlm", "clm", "sft", "preference")
WHO = ("training", "evaluation", "trainer")


def batch_of(task: str) -> int:
    return 8 if MODELS.get(task) is LLAMA else 16


def texts_of(task: str, limit: int) -> list[dict[str, Any]]:
    if task == "classification":
        return imdb(limit)
    if task == "mlm":
        lines = (DATA / "text/wikitext2_valid.jsonl").read_text(encoding="utf-8").split("\n")
        paragraphs = [text for line in lines if line for text in json.loads(line)["text"].split("\n")]
        return [{"text": text} for text in paragraphs if len(text) > 100][:limit]
    speeches = (DATA / "text/tinyshakespeare.txt").read_text(encoding="utf-8").split("\n\n")
    return [{"text": speech} for speech in speeches if speech.strip()][: 12 * limit]  # about twelve to a block


def values(task: str, folder: str, steps: int) -> dict[str, Any]:
    limit = steps * batch_of(task)
    path = DATA / FILES[task] if task in FILES else Path(folder) / f"{task}.jsonl"
    if task not in FILES:
        path.write_text("".join(json.dumps(row) + "\n" for row in texts_of(task, limit)), encoding="utf-8")
    return {
        "task": task,
        **({"model": MODELS[task]} if task in MODELS else {}),
        "data": {
            "train": str(path), "max_length": 512 if MODELS.get(task) is LLAMA else 256, "on_bad_rows": "skip",
            "validation_ratio": 0, "test_ratio": 0, **({} if task == "clm" else {"limit": limit}),
        },
        "train": {"max_steps": steps, "batch_size": batch_of(task), "save_every": "never"},
        "evaluate": {"baselines": False, **({"num_generated": 0} if task == "sft" else {})}, "output": f"{folder}/run",
    }  # fmt: skip


def train(task: str, steps: int) -> dict[str, Any]:
    import tunewright as tw

    recorder = recorder_of_steps()
    with tempfile.TemporaryDirectory() as folder:
        tw.train(values(task, folder, steps), reporter=recorder)
    counted = recorder.steps[WARM_UP:]
    return {"speed": sum(step.num_tokens for step in counted) / sum(step.seconds for step in counted)}


def evaluate(task: str, steps: int) -> dict[str, Any]:
    from tunewright.config.load import parse_config
    from tunewright.evaluation.score_split import model_outputs
    from tunewright.runs.setup import build_components

    with tempfile.TemporaryDirectory() as folder:
        run = build_components(parse_config(values(task, folder, steps)))
        for _ in range(2):
            began = time.perf_counter()
            _, losses = model_outputs(run.model, run.task, run.rows, run.encoder, execution=run.execution)
            seconds = time.perf_counter() - began
        return {"speed": int(run.rows.lengths.sum()) / seconds, "loss": sum(losses.values())}


def evaluate_with_trainer(task: str, steps: int) -> dict[str, Any]:
    """The same ids and labels, a row each, to a stock model of the same architecture."""
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    from tunewright.config.load import parse_config
    from tunewright.runs.setup import build_components

    with tempfile.TemporaryDirectory() as folder:
        run = build_components(parse_config(values(task, folder, steps)))
        rows = [features(task, run, position) for position in range(len(run.rows))]
        tokenizer, bf16 = run.encoder.tokenizer, run.execution.precision == "bf16"
        model = stock_model(task, tokenizer, len(getattr(run.task, "tags", ()) or run.task.known_names))
        arguments = TrainingArguments(
            output_dir=folder, per_device_eval_batch_size=batch_of(task), bf16=bf16, use_cpu=True, report_to=[],
            disable_tqdm=True, prediction_loss_only=True, dataloader_num_workers=0,
        )  # fmt: skip
        pads = DataCollatorWithPadding if task == "classification" else DataCollatorForTokenClassification
        trainer = Trainer(model, arguments, data_collator=pads(tokenizer))
        for _ in range(2):
            began = time.perf_counter()
            loss = trainer.evaluate(rows)["eval_loss"]  # type: ignore[arg-type]
            seconds = time.perf_counter() - began
    return {"speed": sum(len(row["input_ids"]) for row in rows) / seconds, "loss": loss}


def features(task: str, run: Any, position: int) -> dict[str, Any]:
    """A row as the peer takes it: labels stand at the tokens they are of, and it shifts them itself where it predicts the next one."""
    batch = run.task.for_evaluation().collate(run.rows, np.array([position]), run.encoder)
    length = int(batch.lengths[0])
    ids, labels = batch.inputs["input_ids"][0][:length].tolist(), batch.targets["labels"][0]
    if task == "classification":
        return {"input_ids": ids, "labels": int(labels)}
    labels = labels[:length].tolist()
    return {"input_ids": ids, "labels": [-100, *labels[:-1]] if MODELS.get(task) is LLAMA else labels}


def stock_model(task: str, tokenizer: Any, num_labels: int) -> Any:
    import transformers
    from lm_throughput import fresh_llama

    if MODELS.get(task) is LLAMA:
        return fresh_llama(tokenizer)
    if task == "mlm":
        from tunewright.pretrained.presets import preset_values, sized_to

        config = transformers.AutoConfig.for_model(**sized_to(preset_values("scratch:bert-mini"), tokenizer))
        return transformers.AutoModelForMaskedLM.from_config(config)
    kind = "SequenceClassification" if task == "classification" else "TokenClassification"
    loader = getattr(transformers, f"AutoModelFor{kind}")
    return loader.from_pretrained(model_folder(), num_labels=num_labels, trust_remote_code=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        who, task = options.one
        measure = {"training": train, "evaluation": evaluate, "trainer": evaluate_with_trainer}[who]
        print(json.dumps(measure(task, options.steps)))
        return
    print(machine())
    print(f"{'':16}{'training':>26}{'evaluation':>26}{'Trainer.evaluate':>26}   real tokens/s, median (spread)")
    for task in options.tasks.split(","):
        variants = WHO[:-1] if task == "preference" else WHO
        found: dict[str, list[dict[str, Any]]] = {who: [] for who in variants}
        for _ in range(options.rounds):
            for who in variants:
                found[who].append(in_own_process(__file__, "--steps", str(options.steps), "--one", who, task))
        print_line(task, {who: [one["speed"] for one in runs] for who, runs in found.items()})


def print_line(task: str, speeds: dict[str, list[float]]) -> None:
    median = {who: statistics.median(of_who) for who, of_who in speeds.items()}
    cells = "".join(f"{median_and_spread(speeds[who]) if who in speeds else '-':>26}" for who in WHO)
    ratio = median["evaluation"] / median["training"]
    beside = f", {median['evaluation'] / median['trainer']:.1f} x Trainer" if "trainer" in median else ""
    print(
        f"{task:16}{cells}   {ratio:.1f} x training ({'holds' if ratio >= BAR else 'misses'} {BAR}){beside}", flush=True
    )


if __name__ == "__main__":
    main()
