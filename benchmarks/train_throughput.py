"""How many real tokens a second does fine-tuning take in, beside transformers.Trainer?

    python benchmarks/train_throughput.py [--rounds 3]

IMDB reviews, all-MiniLM-L6-v2, batch 16, dropout 0.1 as the model's config says, AdamW, 256 tokens at most (512 for a):
  tunewright   the defaults
  a            Trainer, padded to max_length 512, fp32 (the textbook recipe)
  b            Trainer, dynamic padding, fp32
  c            Trainer, dynamic padding, length grouping, bf16
Each variant runs in a fresh process, one after the other, every round; the first two steps are not counted. Padding is not
counted as tokens. The mean loss of the last third of the steps stands beside it: the curves must overlap.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import imdb, in_own_process, machine, median_and_spread, model_folder, recorder_of_steps

STEPS = {"tunewright": 14, "a": 4, "b": 8, "c": 8}
WARM_UP = 2
ROWS = 1_600


def run_tunewright(steps: int) -> dict[str, Any]:
    import tunewright as tw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imdb.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in imdb(ROWS)), encoding="utf-8")
        recorder = recorder_of_steps()
        values = {
            "data": {"train": str(path), "max_length": 256, "validation_ratio": 0, "test_ratio": 0},
            "train": {
                "max_steps": steps,
                "batch_size": 16,
                "save_every": "never",
                "learning_rate": 5e-5,
                "head_learning_rate": 5e-5,
            },
            "evaluate": {"baselines": False},
            "output": f"{folder}/run",
        }
        tw.train(values, reporter=recorder)
    counted = recorder.steps[WARM_UP:]
    return {
        "tokens_per_second": sum(step.num_tokens for step in counted) / sum(step.seconds for step in counted),
        "losses": [step.loss for step in recorder.steps],
    }


def run_trainer(variant: str, steps: int) -> dict[str, Any]:
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    length = 512 if variant == "a" else 256
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=2, dtype=torch.float32)
    rows = [
        {**tokenizer(row["text"], truncation=True, max_length=length), "labels": int(row["label"] == "positive")}
        for row in imdb(ROWS)
    ]
    padding = {"padding": "max_length", "max_length": length} if variant == "a" else {"padding": True}
    counts: list[int] = []
    collate = DataCollatorWithPadding(tokenizer, **padding)

    def collate_and_count(features: list[dict[str, Any]]) -> Any:
        counts.append(sum(len(feature["input_ids"]) for feature in features))
        return collate(features)

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=16, max_steps=steps, learning_rate=5e-5, bf16=variant == "c",
            save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True, use_cpu=True, dataloader_num_workers=0,
            warmup_steps=max(1, round(0.1 * steps)), weight_decay=0.01,
            **({"train_sampling_strategy": "group_by_length"} if variant == "c" else {}),
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=rows, data_collator=collate_and_count, callbacks=[Clock()]).train()
    tokens = sum(counts[WARM_UP:steps])
    return {"tokens_per_second": tokens / (times[steps - 1] - times[WARM_UP - 1]), "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", choices=STEPS)
    options = parser.parse_args()
    if options.variant:
        steps = STEPS[options.variant]
        print(
            json.dumps(
                run_tunewright(steps) if options.variant == "tunewright" else run_trainer(options.variant, steps)
            )
        )
        return
    print(machine())
    results: dict[str, list[dict[str, Any]]] = {variant: [] for variant in STEPS}
    for _ in range(options.rounds):
        for variant in STEPS:
            results[variant].append(in_own_process(__file__, "--variant", variant))
    ours = statistics.median(one["tokens_per_second"] for one in results["tunewright"])
    print(f"{'':12}{'real tokens/s, median (spread)':>34}{'ratio':>8}  loss, first and last third")
    for variant, runs in results.items():
        speeds = [one["tokens_per_second"] for one in runs]
        thirds = [
            (one["losses"][: len(one["losses"]) // 3], one["losses"][-(len(one["losses"]) // 3) :]) for one in runs
        ]
        first, last = (statistics.mean(x for third in thirds for x in third[i]) for i in (0, 1))
        print(
            f"{variant:12}{median_and_spread(speeds):>34}{ours / statistics.median(speeds):>8.2f}  {first:.3f} -> {last:.3f}"
        )


if __name__ == "__main__":
    main()
