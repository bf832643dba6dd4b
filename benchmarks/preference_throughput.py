"""How many pairs a second does DPO take in, beside TRL's DPOTrainer?

    python benchmarks/preference_throughput.py [--rounds 3] [--data politeness,dpo_en] [--variants tunewright,trl-bf16]

A Llama of 4 layers and width 256 (4.8 M parameters, vocabulary 6,400), random weights, AdamW, 512 tokens at most, 16 pairs in every
optimizer step, beta 0.1, in the chat template of the minimind tokenizer; 1,094 pairs of politeness, 117 of dpo_en whose answers fit (so 16 steps
are two epochs and more). The start model's log-probabilities are computed before training everywhere, and not counted:
  tunewright     the defaults
  trl-fp32       DPOTrainer, precompute_ref_log_probs, no gradient checkpointing
  trl-bf16       the same under bf16 autocast
  trl-grouped    bf16, pairs of like length together
  trl-same-rows  bf16, given our pairs in our order and our learning rates: for its loss. Only where it is
                 named: it stays within one epoch, so --steps 7 on dpo_en
All get the same ids. Each variant runs in a fresh process, one after the other, every round; the first two steps are not counted.
Beside it stands each one's DPO loss after training, on the same 64 pairs in fp32, and log 2 = 0.6931, from where all begin.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, in_our_order, in_own_process, machine, median_and_spread, num_warmup_steps, our_rates
from lm_throughput import clock_and_losses, fresh_llama

FILES = {"politeness": "preference/politeness_1100.jsonl", "dpo_en": "preference/dpo_en_demo.json"}
VARIANTS = ("tunewright", "trl-fp32", "trl-bf16", "trl-grouped")
STEPS, WARM_UP, BATCH, LENGTH, RATE, BETA = 16, 2, 16, 512, 2e-4, 0.1
TOKENIZER = DATA / "tokenizers/minimind"
NUM_CHECKED = 64

Pair = dict[str, list[int]]


def values(data: str, folder: str, steps: int = STEPS) -> dict[str, Any]:
    return {
        "task": {"name": "preference", "beta": BETA},
        "model": f"{folder}/start",
        "data": {
            "train": str(DATA / FILES[data]), "max_length": LENGTH, "validation_ratio": 0, "test_ratio": 0,
            "on_bad_rows": "skip",
        },
        "train": {
            "max_steps": steps, "batch_size": BATCH, "save_every": "never", "learning_rate": RATE, "schedule": "linear",
            "weight_decay": 0.01,
        },
        "evaluate": {"baselines": False},
        "output": f"{folder}/run",
    }  # fmt: skip


def start_model(folder: str) -> Any:
    """The same random weights for everyone, saved with their tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    model = fresh_llama(tokenizer)
    model.save_pretrained(f"{folder}/start")
    tokenizer.save_pretrained(f"{folder}/start")
    return model


def tokenized(data: str, folder: str, steps: int) -> list[Pair]:
    """Every pair's prompt and answers, as tunewright stores them."""
    from tunewright.config.load import parse_config
    from tunewright.encoding.pair_rows import sides_of
    from tunewright.preparation import prepare

    split = prepare(parse_config(values(data, folder, steps))).store["train"]
    second, pairs = split.array("second"), []
    for position, learned in enumerate(split.lists("learned", range(len(split)))):
        chosen, rejected = sides_of(split.input_ids(position), int(second[position]), learned)
        begin, other = int(np.argmax(chosen[1])), int(np.argmax(rejected[1]))
        pairs.append({
            "prompt_ids": chosen[0][:begin].tolist(), "chosen_ids": chosen[0][begin:].tolist(),
            "rejected_ids": rejected[0][other:].tolist(),
        })  # fmt: skip
    return pairs


def dpo_loss(model: Any, start: Any, pairs: list[Pair]) -> float:
    """One answer at a time, in fp32, by the formula."""
    import torch

    def log_prob(network: Any, prompt: list[int], answer: list[int]) -> float:
        logits = (
            network(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        )
        return -float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))

    total = 0.0
    with torch.no_grad():
        model, start = model.float().eval(), start.eval()
        for pair in pairs[:NUM_CHECKED]:
            prompt = pair["prompt_ids"]
            ratios = [
                log_prob(model, prompt, pair[f"{side}_ids"]) - log_prob(start, prompt, pair[f"{side}_ids"])
                for side in ("chosen", "rejected")
            ]
            total += float(np.log1p(np.exp(-BETA * (ratios[0] - ratios[1]))))
    return total / min(NUM_CHECKED, len(pairs))


def run_tunewright(data: str, steps: int) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    import tunewright as tw
    from tunewright.runs.reporter import Reporter

    class Recorder(Reporter):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def step(self, step: Any, num_steps: int) -> None:
            self.seconds.append(step.seconds)

    with tempfile.TemporaryDirectory() as folder:
        start, recorder = start_model(folder), Recorder()
        tw.train(values(data, folder, steps), reporter=recorder)
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/run/model", dtype=torch.float32)
        counted = recorder.seconds[WARM_UP:]
        return {
            "pairs_per_second": BATCH * len(counted) / sum(counted),
            "loss": dpo_loss(model, start, tokenized(data, folder, steps)),
        }


def run_trl(variant: str, data: str, steps: int) -> dict[str, Any]:
    import copy

    from datasets import Dataset
    from transformers import AutoTokenizer
    from transformers.trainer_pt_utils import LengthGroupedSampler
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):
        """Rows are tokenized already. DPOTrainer drops a column of lengths, so those of the pairs are handed over here."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *args: Any) -> Any:
            if variant != "trl-grouped":
                return super()._get_train_sampler(*args)
            return LengthGroupedSampler(BATCH, lengths=[sum(map(len, pair.values())) for pair in pairs])

    clock, times, _ = clock_and_losses()
    same_rows = variant == "trl-same-rows"
    with tempfile.TemporaryDirectory() as folder:
        model = start_model(folder)
        start, pairs = copy.deepcopy(model), tokenized(data, folder, steps)
        arguments = DPOConfig(
            output_dir=f"{folder}/trl", per_device_train_batch_size=BATCH, max_steps=steps, learning_rate=RATE, beta=BETA,
            save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True, use_cpu=True, weight_decay=0.01,
            warmup_steps=num_warmup_steps(steps), bf16=variant != "trl-fp32", gradient_checkpointing=False, max_length=LENGTH,
            precompute_ref_log_probs=True, train_sampling_strategy="sequential" if same_rows else "random",
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
        train_pairs = Dataset.from_list(in_our_order(pairs, steps, BATCH, seed=0) if same_rows else pairs)
        trainer = Tokenized(
            model=model, args=arguments, train_dataset=train_pairs, processing_class=tokenizer, callbacks=[clock]
        )
        if same_rows:
            trainer.lr_scheduler = our_rates(trainer.create_optimizer(), steps)
        trainer.train()
    return {
        "pairs_per_second": BATCH * (steps - WARM_UP) / (times[steps - 1] - times[WARM_UP - 1]),
        "loss": dpo_loss(model, start, pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--data", default=",".join(FILES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "DATA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        variant, data = options.one
        run = run_tunewright if variant == "tunewright" else lambda *words: run_trl(variant, *words)
        print(json.dumps(run(data, options.steps)))
        return
    print(machine())
    for data in options.data.split(","):
        variants = options.variants.split(",")
        found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
        for _ in range(options.rounds):
            for variant in variants:
                words = ("--one", variant, data, "--steps", str(options.steps))
                found[variant].append(in_own_process(str(Path(__file__)), *words))
        print(
            f"\n{data}: pairs a second, median (lowest - highest) of {options.rounds}; DPO loss after {options.steps} steps"
        )
        speeds = {
            variant: statistics.median(run["pairs_per_second"] for run in runs) for variant, runs in found.items()
        }
        for variant, runs in found.items():
            ratio = speeds[variants[0]] / speeds[variant]
            shown = median_and_spread([run["pairs_per_second"] for run in runs])
            print(
                f"  {variant:<14} {shown:>20}   {variants[0]} is {ratio:.2f} times as fast   loss {runs[0]['loss']:.4f}"
            )


if __name__ == "__main__":
    main()
