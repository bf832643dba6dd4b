"""How many real tokens a second does supervised fine-tuning take in, beside transformers.Trainer and TRL?

    python benchmarks/sft_throughput.py [--rounds 3] [--data mlx_wwdc25,alpaca] [--variants tunewright,trainer-bf16]

A Llama of 4 layers and width 256 (4.8 M parameters, vocabulary 6,400), random weights, AdamW, 512 tokens at most, 8 rows in every
optimizer step; the conversations of mlx_wwdc25 and alpaca_en_demo in the chat template of the minimind tokenizer, answers learned:
  tunewright     the defaults
  trainer-fp32   Trainer, dynamic padding, length grouping
  trainer-bf16   the same under bf16 autocast
  trainer-random the same without length grouping: rows in random order, as tunewright takes them
  trl            TRL's SFTTrainer, answers only, length grouping, bf16 as it is by default
  trl-packed     the same, packed to 512
  trainer-same-rows, trl-same-rows  Trainer in bf16 and TRL given our rows in our order and our learning rates: for their losses
100 steps are two whole groups of rows that length grouping sorts, the longest first: of a part of one it would compute the long ones only.
All get the same ids and the same learned tokens. Each variant runs in a fresh process, one after the other, every round; the first two
steps are not counted. Padding is not counted as tokens. Before training and after it every variant's loss per learned token on
the same 64 rows stands beside it. Each round has a seed of its own (weights, order of rows), so that the spread is the noise. The
peers' first step has a learning rate of zero, so they are a step behind; and length grouping makes other steps of the rows than ours.
Whether the same steps teach the same is what the variants with the same rows answer: they start from the same weights.
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
from common import (
    DATA,
    in_our_order,
    in_own_process,
    machine,
    median_and_spread,
    num_warmup_steps,
    our_rates,
    recorder_of_steps,
)
from lm_throughput import clock_and_losses, counting, fresh_llama

FILES = {"mlx_wwdc25": "instruction/mlx_wwdc25_train.jsonl", "alpaca": "instruction/alpaca_en_demo.json"}
VARIANTS = (
    "tunewright", "trainer-fp32", "trainer-bf16", "trainer-random", "trl", "trl-packed", "trainer-same-rows", "trl-same-rows",
)  # fmt: skip
STEPS, WARM_UP, BATCH, LENGTH, RATE = 100, 2, 8, 512, 1e-3
TOKENIZER = DATA / "tokenizers/minimind"
NUM_CHECKED = 64


def values(data: str, folder: str, steps: int = STEPS, seed: int = 0) -> dict[str, Any]:
    return {
        "task": "sft",
        "model": {"name": "scratch:llama-mini", "tokenizer": str(TOKENIZER)},
        "data": {
            "train": str(DATA / FILES[data]), "max_length": LENGTH, "validation_ratio": 0, "test_ratio": 0,
            "on_bad_rows": "skip",
        },
        "train": {
            "max_steps": steps, "batch_size": BATCH, "save_every": "never", "learning_rate": RATE, "schedule": "linear",
            "weight_decay": 0.01, "seed": seed,
        },
        "evaluate": {"baselines": False},
        "output": f"{folder}/run",
    }  # fmt: skip


def tokenized(data: str) -> list[dict[str, list[int]]]:
    """Every row's ids and labels, as tunewright stores them."""
    from tunewright.config.load import parse_config
    from tunewright.preparation import prepare

    with tempfile.TemporaryDirectory() as folder:
        split = prepare(parse_config(values(data, folder))).store["train"]
        rows = []
        for position, (begin, end) in enumerate(split.lists("learned", range(len(split)))):
            ids = split.input_ids(position)
            inside = (np.arange(len(ids)) >= begin) & (np.arange(len(ids)) < end)
            rows.append({"input_ids": ids.tolist(), "labels": np.where(inside, ids, -100).tolist()})
    return rows


def loss_on(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Nats per learned token, one row at a time in fp32."""
    import torch

    nats, count = 0.0, 0
    with torch.no_grad():
        for row in rows[:NUM_CHECKED]:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
            logits = model.eval()(input_ids=ids, use_cache=False).logits[0, :-1].float()
            nats += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += int((labels != -100).sum())
    return nats / count


def run_tunewright(data: str, steps: int, seed: int) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    import tunewright as tw

    with tempfile.TemporaryDirectory() as folder:
        recorder = recorder_of_steps()
        tw.train(values(data, folder, steps, seed), reporter=recorder)
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/run/model", dtype=torch.float32)
    counted = recorder.steps[WARM_UP:]
    return {
        "tokens_per_second": sum(step.num_tokens for step in counted) / sum(step.seconds for step in counted),
        "loss": loss_on(model, tokenized(data)),
    }


def run_peer(variant: str, data: str, steps: int, seed: int) -> dict[str, Any]:
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows, tokenizer = tokenized(data), AutoTokenizer.from_pretrained(TOKENIZER)
    model = fresh_llama(tokenizer, seed)
    before, counts = loss_on(model, rows), list[int]()
    model.train()
    clock, times, _ = clock_and_losses()
    same_rows = variant.endswith("same-rows")
    train_rows = in_our_order(rows, steps, BATCH, seed) if same_rows else rows
    with tempfile.TemporaryDirectory() as folder:
        shared: dict[str, Any] = {
            "output_dir": folder, "per_device_train_batch_size": BATCH, "max_steps": steps, "learning_rate": RATE,
            "save_strategy": "no", "report_to": [], "logging_steps": 1, "disable_tqdm": True, "use_cpu": True,
            "warmup_steps": num_warmup_steps(steps), "weight_decay": 0.01, "dataloader_num_workers": 0, "seed": seed,
            "train_sampling_strategy": (
                "sequential" if same_rows else "random" if variant == "trainer-random" else "group_by_length"
            ),
        }  # fmt: skip
        if variant.startswith("trainer"):
            arguments = TrainingArguments(**shared, bf16=variant != "trainer-fp32")
            collate = DataCollatorForSeq2Seq(tokenizer, padding=True)
            trainer = Trainer(model, arguments, train_dataset=train_rows, data_collator=collate)  # type: ignore[arg-type]
        else:
            trainer = _trl(model, tokenizer, train_rows, shared, packed=variant == "trl-packed")
        assert num_learned(trainer.train_dataset) == num_learned(train_rows), f"{variant} learns other tokens"
        trainer.data_collator = counting(trainer.data_collator, counts)
        trainer.add_callback(clock)
        if same_rows:
            trainer.lr_scheduler = our_rates(trainer.create_optimizer(), steps)
        trainer.train()
    tokens = sum(counts[WARM_UP:steps])
    seconds = times[steps - 1] - times[WARM_UP - 1]
    return {"tokens_per_second": tokens / seconds, "loss": loss_on(model.float(), rows), "before": before}


def num_learned(rows: Any) -> int:
    return sum(label != -100 for row in rows for label in row["labels"])


def _trl(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], shared: dict[str, Any], *, packed: bool) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    if packed:
        shared = {key: value for key, value in shared.items() if key != "train_sampling_strategy"}
        shared["per_device_train_batch_size"] = BATCH // 2  # a block holds about two rows
    masked = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label != -100) for label in row["labels"]]}
        for row in rows
    ]
    # completion_only_loss: without it TRL leaves a completion_mask unread where there is no column "prompt"
    arguments = SFTConfig(
        **shared, max_length=LENGTH, packing=packed, gradient_checkpointing=False, completion_only_loss=True
    )
    return SFTTrainer(model, arguments, train_dataset=Dataset.from_list(masked), processing_class=tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default=",".join(FILES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--one", help="run this variant alone and print JSON")
    options = parser.parse_args()
    if options.one:
        work = (options.data, options.steps, options.seed)
        print(json.dumps(run_tunewright(*work) if options.one == "tunewright" else run_peer(options.one, *work)))
        return
    print(machine())
    variants = options.variants.split(",")
    for data in options.data.split(","):
        results: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
        began = time.perf_counter()
        for seed in range(options.seed, options.seed + options.rounds):
            words = ("--data", data, "--steps", str(options.steps), "--seed", str(seed))
            for variant in variants:
                results[variant].append(in_own_process(__file__, "--one", variant, *words))
        _print(data, results, time.perf_counter() - began)


def _print(data: str, results: dict[str, list[dict[str, Any]]], seconds: float) -> None:
    print(f"\n{data}: {Path(FILES[data]).name}, {seconds:,.0f} s")
    print(f"{'':18}{'real tokens/s, median (spread)':>34}{'ratio':>8}  loss on {NUM_CHECKED} rows, mean (spread)")
    ours = statistics.median(
        one["tokens_per_second"] for one in results.get("tunewright", [{"tokens_per_second": 0.0}])
    )
    for variant, runs in results.items():
        speeds = [one["tokens_per_second"] for one in runs]
        losses = [one["loss"] for one in runs]
        loss = f"{statistics.mean(losses):.3f} ({min(losses):.3f} - {max(losses):.3f})"
        print(f"{variant:18}{median_and_spread(speeds):>34}{ours / statistics.median(speeds):>8.2f}  {loss}")
    before = [one["before"] for runs in results.values() for one in runs if "before" in one]
    if before:
        print(f"before training: {statistics.mean(before):.3f}")


if __name__ == "__main__":
    main()
