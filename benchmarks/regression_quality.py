"""Does `task: regression` rank sentence pairs as well as a plain transformers.Trainer script with the same epochs and learning rate?

    python benchmarks/regression_quality.py [--epochs 3] [--seeds 3] [--pairs 3000]

Pairs of banking77 messages, all-MiniLM, each run in a process of its own. Their score from 0 to 5: how many words the names of their two
intents share, and a little how many words the messages share. Half of the pairs share a word of their intents. Ours: the defaults, the
best checkpoint by the validation pairs. The script: the scores as they are, mean squared error, the last checkpoint. Both are scored by
SciPy's Spearman on the test pairs. The bar: our mean at least the script's less 0.005.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
from pathlib import Path

from common import DATA, in_own_process, machine, model_folder

LEARNING_RATE = 1e-4
BAR = -0.005

Pair = dict[str, str | float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--pairs", type=int, default=3_000, help="training pairs; a quarter as many for validation and for test"
    )
    parser.add_argument("--run", nargs=2, metavar=("WHO", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        who, seed = given.run
        print(json.dumps({"spearman": {"ours": ours, "script": script}[who](int(seed), given.epochs, given.pairs)}))
        return
    print(machine())
    means = {}
    for who in ("ours", "script"):
        words = ["--epochs", str(given.epochs), "--pairs", str(given.pairs), "--run", who]
        scores = [in_own_process(__file__, *words, str(seed))["spearman"] for seed in range(given.seeds)]
        means[who] = statistics.mean(scores)
        print(f"{who:<7} Spearman {means[who]:.4f}  seeds {' '.join(f'{score:.4f}' for score in scores)}", flush=True)
    difference = means["ours"] - means["script"]
    print(f"difference {difference:+.4f} ({'holds' if difference >= BAR else 'misses'} the bar of {BAR})")


def pairs(count: int, *, file: str, seed: int) -> list[Pair]:
    """Scored pairs of the messages in one file of banking77."""
    rows = [
        json.loads(line) for line in (DATA / "classification/banking77" / file).read_text(encoding="utf-8").splitlines()
    ]
    rng = random.Random(seed)
    found: list[Pair] = []
    while len(found) < count:
        one, other = rng.sample(rows, 2)
        intents = shared(one["label"].split("_"), other["label"].split("_"))
        if intents or len(found) % 2:
            messages = shared(*(re.findall(r"\w+", row["text"].lower()) for row in (one, other)))
            score = round(5 * (0.8 * intents + 0.2 * messages), 2)
            found.append({"sentence1": one["text"], "sentence2": other["text"], "score": score})
    return found


def shared(one: list[str], other: list[str]) -> float:
    """Words in both of words in either."""
    return len({*one} & {*other}) / len({*one} | {*other})


def splits(count: int) -> dict[str, list[Pair]]:
    return {
        "train": pairs(count, file="train.jsonl", seed=1),
        "validation": pairs(count // 4, file="train.jsonl", seed=2),
        "test": pairs(count // 4, file="test.jsonl", seed=3),
    }


def spearman(predicted: list[float], rows: list[Pair]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, [row["score"] for row in rows])[0])


def ours(seed: int, epochs: int, count: int) -> float:
    from tunewright import train
    from tunewright.prediction import load

    rows = splits(count)
    with tempfile.TemporaryDirectory() as folder:
        for name, of_split in rows.items():
            text = "".join(json.dumps(row) + "\n" for row in of_split)
            Path(folder, f"{name}.jsonl").write_text(text, encoding="utf-8")
        values = {
            "data": {name: f"{folder}/{name}.jsonl" for name in rows}, "train": {"epochs": epochs, "seed": seed},
            "evaluate": {"baselines": False}, "output": f"{folder}/run",
        }  # fmt: skip
        model = load(train(values))
        found = model.predict([(str(row["sentence1"]), str(row["sentence2"])) for row in rows["test"]])
    return spearman([one.as_dict()["value"] for one in found], rows["test"])


def script(seed: int, epochs: int, count: int) -> float:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    rows, tokenizer = splits(count), AutoTokenizer.from_pretrained(model_folder())

    def encoded(of_split: list[Pair]) -> list[dict]:
        texts = [[str(row[name]) for row in of_split] for name in ("sentence1", "sentence2")]
        ids = tokenizer(*texts, truncation=True, max_length=512)
        return [
            {**{name: ids[name][n] for name in ids}, "labels": float(row["score"])} for n, row in enumerate(of_split)
        ]

    model = AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=1, problem_type="regression")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=16, learning_rate=LEARNING_RATE, seed=seed, save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=encoded(rows["train"]), data_collator=DataCollatorWithPadding(tokenizer)
        )
        trainer.train()
        predicted = trainer.predict(encoded(rows["test"])).predictions
    return spearman(predicted[:, 0].tolist(), rows["test"])


if __name__ == "__main__":
    main()
