"""The commands that messages propose: each is built here, so that a test can run every one of them.

command("train", "my reviews.csv", "train.epochs=5")     tunewright train 'my reviews.csv' train.epochs=5
tokenizer_train("t.txt")                                  tunewright tokenizer train t.txt --algorithm bpe -o tokenizer

Words are quoted as a shell needs them; words in capitals (DATA, RUN) stand for what the user puts there.
"""

from __future__ import annotations

import shlex
from pathlib import Path


def command(verb: str, *words: str | Path) -> str:
    """`tunewright VERB WORDS`, ready to be pasted into a shell."""
    return " ".join(["tunewright", *verb.split(), *(shlex.quote(str(word)) for word in words)])


def as_argument(path: str | Path) -> str:
    """A path as a word of a command line: none that looks like an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
