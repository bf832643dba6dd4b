"""Answers learned by heart: a small Llama from nothing is taught twenty questions of a household, in under a minute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright import hints
from tunewright.cli.options import say
from tunewright.demos.base import SAMPLES, config_of, headline, trained
from tunewright.prediction import load
from tunewright.reading import open_source
from tunewright.records import Row
from tunewright.runs.explain import explain
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.recipe import Recipe
from tunewright.tokenizer_tools.train import learn, save

_DATA = SAMPLES / "questions.jsonl"
_VOCABULARY, _SHOWN, _ENOUGH = 600, 3, 0.9


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Show what is learned of a row, teach all rows, ask them; tells whether nine of ten answers come back word for word."""
    folder = Path(output)
    say(f"A two-layer Llama with random weights learns the answers of {_DATA.name}.\n")
    config = config_of(_values(folder), folder / "run", overrides)
    headline("Supervised in the first row: the answer and its end token")
    tokens = explain(config, f"{_DATA}:1")["tokens"]
    print(
        f"  context     {_text(tokens, supervised=False)[:100]}\n  supervised  {_text(tokens, supervised=True)[-100:]}"
    )
    rows = [row.fields for row in open_source(str(_DATA)).rows() if isinstance(row, Row)]
    answers: list[Any] = load(trained(config)).predict([row["prompt"] for row in rows])
    headline("Answers after training")
    for row, answer in list(zip(rows, answers, strict=True))[:_SHOWN]:
        print(f"  {row['prompt']}\n    {answer.text}")
    exact = sum(answer.text == row["completion"] for row, answer in zip(rows, answers, strict=True)) / len(rows)
    print(f"\n{exact:.0%} of the {len(rows)} answers match exactly")
    print(f"Chat with it: {hints.chat(config.run_folder)}")
    print(
        f"Now your own file (prompt and completion, messages, …): {hints.train('your.jsonl', 'model=FOLDER-OF-A-DECODER')}"
    )
    return exact >= _ENOUGH


def _values(folder: Path) -> dict[str, Any]:
    tokenizer = folder / "tokenizer"
    corpus = Corpus.open([str(_DATA)], text="prompt,completion")
    save(learn(corpus, Recipe(algorithm="byte-bpe", vocab_size=_VOCABULARY)), tokenizer)
    return {
        "task": {"name": "sft", "template": "question-answer"},
        "model": {"name": "scratch:llama-tiny", "tokenizer": str(tokenizer)},
        "data": {"train": str(_DATA), "max_length": 256, "validation_ratio": 0, "test_ratio": 0},
        "train": {"epochs": 60, "batch_size": 5, "learning_rate": 4e-3, "weight_decay": 0, "save_every": "never"},
    }


def _text(tokens: Sequence[dict[str, Any]], *, supervised: bool) -> str:
    """Tokens of a byte-level vocabulary as people read them."""
    chosen = "".join(token["token"] for token in tokens if token["supervised"] == supervised)
    return chosen.replace("Ġ", " ").replace("Ċ", "⏎")
