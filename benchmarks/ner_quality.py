"""Does `tunewright train` find entities as well as a plain transformers.Trainer script with the same epochs and learning rate?

    python benchmarks/ner_quality.py [--epochs 3] [--seeds 3] [--limit ROWS]

ncbi_disease and wnut17 from their raw CoNLL files, all-MiniLM, each run in a process of its own. Ours: the defaults, the best
checkpoint by the validation split. The script: words and tags read by hand, the first piece of each word labelled, the last
checkpoint. Both are scored by seqeval on the tags of the test file's words. The bar: our mean at least the script's less 0.005.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from typing import Any

from common import DATA, in_own_process, machine, model_folder

FILES = {
    "ncbi_disease": ("train.tsv", "devel.tsv", "test.tsv"),
    "wnut17": ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
}
LEARNING_RATE = 1e-4
BAR = -0.005

Sentence = tuple[list[str], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=10**9, help="training rows, to try the script itself")
    parser.add_argument("--run", nargs=3, metavar=("WHO", "DATA", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        who, data, seed = given.run
        print(json.dumps({"ours": ours, "script": script}[who](data, int(seed), given.epochs, given.limit)))
        return
    print(machine())
    for data in FILES:
        means = {}
        for who in ("ours", "script"):
            words = ["--epochs", str(given.epochs), "--limit", str(given.limit), "--run", who, data]
            scores = [in_own_process(__file__, *words, str(seed))["f1"] for seed in range(given.seeds)]
            means[who] = statistics.mean(scores)
            print(
                f"{data:<14} {who:<7} F1 {means[who]:.4f}  seeds {' '.join(f'{score:.4f}' for score in scores)}",
                flush=True,
            )
        difference = means["ours"] - means["script"]
        print(
            f"{data:<14} difference {difference:+.4f} ({'holds' if difference >= BAR else 'misses'} the bar of {BAR})"
        )


def sentences(data: str, split: int) -> list[Sentence]:
    """(words, tags) of each sentence, read without our readers."""
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    with open(DATA / "ner" / data / FILES[data][split], encoding="utf-8", newline="\n") as lines:
        for line in [*lines, "\n"]:
            if line.strip():
                word, tag = line.rstrip("\r\n").split("\t")
                words.append(word)
                tags.append(tag)
            elif words:
                found.append((words, tags))
                words, tags = [], []
    return found


def f1(gold: list[list[str]], predicted: list[list[str]]) -> dict[str, float]:
    from seqeval.metrics import f1_score

    return {"f1": float(f1_score(gold, predicted))}


def ours(data: str, seed: int, epochs: int, limit: int) -> dict[str, float]:
    from tunewright import train
    from tunewright.prediction import load
    from tunewright.records import Row

    with tempfile.TemporaryDirectory() as folder:
        files = dict(
            zip(("train", "validation", "test"), (str(DATA / "ner" / data / name) for name in FILES[data]), strict=True)
        )
        values = {
            "data": {**files, "limit": {"train": limit}}, "train": {"epochs": epochs, "seed": seed},
            "evaluate": {"baselines": False}, "output": f"{folder}/run",
        }  # fmt: skip
        model = load(train(values))
        test = sentences(data, 2)
        rows = [Row(data, number, {"tokens": words, "ner_tags": []}) for number, (words, _) in enumerate(test)]
        predicted = [tags_of(row.fields["tokens"], found.entities) for row, found in model.predict_rows(rows)]
    return f1([tags for _, tags in test], predicted)


def tags_of(words: list[str], entities: Any) -> list[str]:
    """Entities of the words joined by a space -> a tag for each word."""
    tags, place = [], 0
    for word in words:
        inside = next((e for e in entities if e.start <= place and place + len(word) <= e.end and word), None)
        tags.append("O" if inside is None else f"{'B' if inside.start == place else 'I'}-{inside.label}")
        place += len(word) + 1
    return tags


def script(data: str, seed: int, epochs: int, limit: int) -> dict[str, float]:
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    train, test = sentences(data, 0)[:limit], sentences(data, 2)
    names = sorted({tag for _, tags in (*train, *test) for tag in tags})
    tokenizer = AutoTokenizer.from_pretrained(model_folder(), model_max_length=512)

    def encoded(rows: list[Sentence]) -> tuple[list[dict[str, Any]], list[list[int]]]:
        """(features, numbers of the words that carry a label)."""
        features, labelled = [], []
        for words, tags in rows:
            one = tokenizer(words, is_split_into_words=True, truncation=True)
            ids = one.word_ids()
            first = [word is not None and word != before for before, word in zip([None, *ids], ids, strict=False)]
            labels = [names.index(tags[word]) if is_first else -100 for word, is_first in zip(ids, first, strict=True)]
            features.append({**one, "labels": labels})
            labelled.append([word for word, is_first in zip(ids, first, strict=True) if is_first])
        return features, labelled

    model = AutoModelForTokenClassification.from_pretrained(
        model_folder(), num_labels=len(names), id2label=dict(enumerate(names))
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, learning_rate=LEARNING_RATE, per_device_train_batch_size=16, seed=seed,
            per_device_eval_batch_size=32, save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        collate = DataCollatorForTokenClassification(tokenizer)
        trainer = Trainer(model, arguments, train_dataset=encoded(train)[0], data_collator=collate)
        trainer.train()
        features, labelled = encoded(test)
        output = trainer.predict(features)
    predicted = []
    for (_, gold), best, given, words in zip(
        test, output.predictions.argmax(-1), output.label_ids, labelled, strict=True
    ):
        tags = ["O"] * len(gold)
        for word, tag in zip(words, best[given != -100], strict=True):
            tags[word] = names[tag]
        predicted.append(tags)
    return f1([tags for _, tags in test], predicted)


if __name__ == "__main__":
    main()
