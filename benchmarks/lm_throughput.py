"""How many real tokens a second does causal training take in on short documents, beside transformers.Trainer and TRL?

    python benchmarks/lm_throughput.py [--rounds 3] [--variants tunewright,trainer-bf16]

A Llama of 4 layers and width 256 (4.8 M parameters, vocabulary 6,400), random weights, AdamW; documents are the speeches of
tinyshakespeare (about 45 tokens each), at most 512 tokens a row, about 4,000 real tokens in every optimizer step:
  tunewright     the defaults: documents packed into blocks of 512 and isolated from each other
  trainer-fp32   Trainer, a document a row, dynamic padding, length grouping, 2 micro-batches of 48 rows
  trainer-bf16   the same under bf16 autocast
  trl            TRL's SFTTrainer with its packing to 512 (documents isolated by their positions), bf16 as it is by default
Each variant runs in a fresh process, one after the other, every round; the first two steps are not counted. Padding is not counted as
tokens. The mean loss of the last third of the steps stands beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import DATA, in_own_process, machine, median_and_spread, recorder_of_steps

STEPS = {"tunewright": 10, "trainer-fp32": 8, "trainer-bf16": 8, "trl": 5}
WARM_UP = 2
LENGTH = 512
TOKENIZER = DATA / "tokenizers/minimind"


def speeches() -> list[str]:
    text = (DATA / "text/tinyshakespeare.txt").read_text(encoding="utf-8")
    return [speech for speech in text.split("\n\n") if speech.strip()]


def run_tunewright(steps: int) -> dict[str, Any]:
    import tunewright as tw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speeches.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in speeches()), encoding="utf-8")
        recorder = recorder_of_steps()
        values = {
            "task": "clm",
            "model": {"name": "scratch:llama-mini", "tokenizer": str(TOKENIZER)},
            "data": {"train": str(path), "max_length": LENGTH, "validation_ratio": 0, "test_ratio": 0},
            "train": {"max_steps": steps, "batch_size": 8, "save_every": "never", "learning_rate": 1e-3},
            "output": f"{folder}/run",
        }
        tw.train(values, reporter=recorder)
    counted = recorder.steps[WARM_UP:]
    return {
        "tokens_per_second": sum(step.num_tokens for step in counted) / sum(step.seconds for step in counted),
        "losses": [step.loss for step in recorder.steps],
    }


def fresh_llama(tokenizer: Any, seed: int = 0) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunewright.pretrained.presets import preset_values, sized_to

    torch.manual_seed(seed)
    config = AutoConfig.for_model(**sized_to(preset_values("scratch:llama-mini"), tokenizer))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def clock_and_losses() -> tuple[Any, list[float], list[float]]:
    """A callback, and what it collects: the time at the end of each step, and its loss."""
    from transformers import TrainerCallback

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    return Clock(), times, losses


def counting(collate: Any, counts: list[int]) -> Any:
    """The collator, real tokens of every micro-batch noted."""

    def collate_and_count(features: list[dict[str, Any]]) -> Any:
        counts.append(sum(len(feature["input_ids"]) for feature in features))
        return collate(features)

    return collate_and_count


def run_trainer(variant: str, steps: int) -> dict[str, Any]:
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    texts = [f"{tokenizer.bos_token}{text}{tokenizer.eos_token}" for text in speeches()]
    rows = [{"input_ids": tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]} for text in texts]
    counts: list[int] = []
    clock, times, losses = clock_and_losses()
    accumulated = 2
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=48, gradient_accumulation_steps=accumulated, max_steps=steps,
            learning_rate=1e-3, bf16=variant == "trainer-bf16", save_strategy="no", report_to=[], logging_steps=1,
            disable_tqdm=True, use_cpu=True, dataloader_num_workers=0, train_sampling_strategy="group_by_length",
            warmup_steps=1, weight_decay=0.01,
        )  # fmt: skip
        collate = counting(DataCollatorForLanguageModeling(tokenizer, mlm=False), counts)
        Trainer(fresh_llama(tokenizer), arguments, train_dataset=rows, data_collator=collate, callbacks=[clock]).train()
    tokens = sum(counts[WARM_UP * accumulated : steps * accumulated])
    return {"tokens_per_second": tokens / (times[steps - 1] - times[WARM_UP - 1]), "losses": losses}


def run_trl(steps: int) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    rows = Dataset.from_list([{"text": text} for text in speeches()])
    counts: list[int] = []
    clock, times, losses = clock_and_losses()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=steps,
            learning_rate=1e-3, save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True, use_cpu=True,
            packing=True, max_length=LENGTH, gradient_checkpointing=False, warmup_steps=1,
        )  # fmt: skip
        trainer = SFTTrainer(
            fresh_llama(tokenizer), arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock]
        )
        trainer.data_collator = counting(trainer.data_collator, counts)
        trainer.train()
    tokens = sum(counts[WARM_UP * 2 : steps * 2])
    return {"tokens_per_second": tokens / (times[steps - 1] - times[WARM_UP - 1]), "losses": losses}


def run(variant: str) -> dict[str, Any]:
    steps = STEPS[variant]
    if variant == "tunewright":
        return run_tunewright(steps)
    return run_trl(steps) if variant == "trl" else run_trainer(variant, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", default=",".join(STEPS))
    parser.add_argument("--variant", choices=STEPS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(run(options.variant)))
        return
    print(machine())
    chosen = options.variants.split(",")
    results: dict[str, list[dict[str, Any]]] = {variant: [] for variant in chosen}
    for _ in range(options.rounds):
        for variant in chosen:
            results[variant].append(in_own_process(__file__, "--variant", variant))
    ours = statistics.median(one["tokens_per_second"] for one in results[chosen[0]])
    print(f"{'':14}{'real tokens/s, median (spread)':>34}{chosen[0] + ' is':>16}  loss, last third")
    for variant, runs in results.items():
        speeds = [one["tokens_per_second"] for one in runs]
        loss = statistics.mean(loss for one in runs for loss in one["losses"][-(len(one["losses"]) // 3) :])
        ratio = ours / statistics.median(speeds)
        print(f"{variant:14}{median_and_spread(speeds):>34}{ratio:>15.2f}x  {loss:.3f}")


if __name__ == "__main__":
    main()
