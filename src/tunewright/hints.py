"""The commands that messages propose, built here so that a test can run each of them.

    train("my reviews.csv", "train.epochs=5")     tunewright train 'my reviews.csv' train.epochs=5
    tokenizer_train()                             tunewright tokenizer train DATA --algorithm byte-bpe -o tokenizer

Words are quoted for a shell; words in capitals (DATA, RUN) are placeholders. No other module writes out a command (a test reads the
sources).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

Word = str | Path
HINTS: dict[str, Callable[..., str]] = {}
"""Every proposed command, by the name of its function."""


def command(verb: str, *words: Word) -> str:
    """`tunewright VERB WORDS`, ready to be pasted into a shell."""
    return " ".join(["tunewright", *verb.split(), *(shlex.quote(as_argument(word)) for word in words)])


def as_argument(word: Word) -> str:
    """A word of a command line: a path that looks like an option is written as one in this folder."""
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)


def _hint(make: Callable[..., str]) -> Callable[..., str]:
    HINTS[make.__name__] = make
    return make


@_hint
def train(*words: Word) -> str:
    """Data files or configs, and `key=value` words."""
    return command("train", *(words or ("DATA",)))


@_hint
def train_in_turn(*configs: Word) -> str:
    return command("train", *(configs or ("first.yaml", "second.yaml")))


@_hint
def init(data: Word = "DATA") -> str:
    return command("init", data)


@_hint
def config_schema() -> str:
    return command("config", "--schema")


@_hint
def check(config: Word = "DATA") -> str:
    return command("check", config)


@_hint
def explain(config: Word = "CONFIG", address: str = "FILE:LINE") -> str:
    return command("explain", config, address)


@_hint
def tokenizer_train(data: Word = "DATA", output: Word = "tokenizer") -> str:
    return command("tokenizer train", data, "--algorithm", "byte-bpe", "-o", output)


@_hint
def tokenizer_show(model: Word = "MODEL", text: str = "some text") -> str:
    return command("tokenizer show", text, "--model", model)


@_hint
def tokenizer_compare(data: Word = "DATA", *models: Word) -> str:
    return command("tokenizer compare", data, "--models", *(models or ("MODEL", "MODEL")))


@_hint
def predict(run: Word = "RUN", text: str = "your text") -> str:
    return command("predict", run, text)


@_hint
def predict_pair(run: Word = "RUN", first: str = "first text", second: str = "second text") -> str:
    return command("predict", run, "--pair", first, second)


@_hint
def predict_file(run: Word = "RUN", file: Word = "DATA") -> str:
    return command("predict", run, "--file", file)


@_hint
def predict_stdin(run: Word = "RUN", text: str = "your text") -> str:
    return f"echo {shlex.quote(text)} | {command('predict', run, '-')}"


@_hint
def chat(run: Word = "RUN") -> str:
    return command("chat", run)


@_hint
def evaluate(run: Word = "RUN", data: Word = "DATA") -> str:
    return command("evaluate", run, data)


@_hint
def verify(run: Word = "RUN") -> str:
    return command("verify", run)


@_hint
def runs() -> str:
    return command("runs")


@_hint
def runs_compare(first: Word = "RUN", second: Word = "RUN") -> str:
    return command("runs compare", first, second)
