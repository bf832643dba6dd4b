"""A story-teller from nothing: a tokenizer and a small Llama learned on made-up stories, in under two minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright import hints
from tunewright.cli.options import say
from tunewright.demos.base import before, config_of, headline, print_losses, side_by_side, trained
from tunewright.demos.stories import stories
from tunewright.files.atomic import write_whole
from tunewright.generation.generate import Sampling
from tunewright.prediction import Model, load
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.recipe import Recipe
from tunewright.tokenizer_tools.train import learn, save

_TRY = ("One windy morning, Greta the miller", "On market day, Bruno the piper woke up", 'Then a hungry fox came by. "')
_NUM_STORIES, _VOCABULARY = 2_500, 800


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Write the stories, learn a tokenizer and a model on them; go on with three beginnings before and after."""
    folder = Path(output)
    text = folder / "stories.txt"
    say(f"A two-layer Llama with random weights trains on {_NUM_STORIES:,} short stories ({text}).\n")
    config = config_of(_values(folder), folder / "run", overrides)
    untrained = before(config)
    old = _continued(untrained.model)
    result = trained(config)
    went_below = print_losses(untrained, result, per="token")
    headline("How the stories continue")
    side_by_side(_TRY, old, _continued(load(result)))
    print(f"\nNow your own text; first train a tokenizer on it: {hints.tokenizer_train('your.txt')}")
    words = ("task=clm", "model.name=scratch:llama-mini", "model.tokenizer=tokenizer")
    print(f"Then train the model: {hints.train('your.txt', *words)}")
    return went_below


def _values(folder: Path) -> dict[str, Any]:
    """The config, its text and tokenizer written: the same each time, so that a run that was stopped goes on."""
    text, tokenizer = folder / "stories.txt", folder / "tokenizer"
    write_whole(text, "".join(f"{story}\n" for story in stories(_NUM_STORIES, seed=0)))
    save(learn(Corpus.open([str(text)]), Recipe(algorithm="byte-bpe", vocab_size=_VOCABULARY)), tokenizer)
    return {
        "task": "clm",
        "model": {"name": "scratch:llama-tiny", "tokenizer": str(tokenizer)},
        "data": {"train": str(text), "max_length": 256, "documents": "line"},
        "train": {"epochs": 5, "batch_size": 8, "learning_rate": 4e-3},
    }


def _continued(model: Model) -> list[str]:
    found: Any = model.writing(Sampling(max_new_tokens=60, temperature=0.5)).predict(_TRY)
    return [" ".join(one.line().split()) for one in found]
