"""Hidden words guessed in a shop's mail: all-MiniLM-L6-v2 learns the language of its customers, in under two minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright import hints
from tunewright.cli.options import say
from tunewright.demos.base import SAMPLES, before, config_of, headline, print_losses, side_by_side, trained
from tunewright.prediction import Model, load
from tunewright.pretrained.hub import PACKAGED_ENCODER

_TRY = (
    "You charged my [MASK] twice for one order.",
    "I would like to [MASK] these shoes, they are too small.",
    "Please send the parcel to my new [MASK].",
)
_VALUES = {
    "task": "mlm",
    "model": PACKAGED_ENCODER,
    "data": {"train": str(SAMPLES / "customer_messages.jsonl"), "text": "text", "test_ratio": 0.15},
    "train": {"epochs": 6, "learning_rate": 3e-4, "save_every": "never"},
}


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Fill three gaps, train, fill them again; the labels of the messages are not read."""
    say("all-MiniLM-L6-v2 has no masked-language-modelling head: one is trained here, on customer messages.\n")
    config = config_of(_VALUES, output, overrides)
    untrained = before(config)
    old = _filled(untrained.model)
    result = trained(config)
    went_below = print_losses(untrained, result, per="hidden token")
    headline("Predictions for [MASK]")
    side_by_side(_TRY, old, _filled(load(result)))
    print(f"\nA classifier can start from it: {hints.train('your.csv', 'model=' + str(result.folder / 'model'))}")
    print(f"Now your own text: {hints.train('your.txt', 'task=mlm')}")
    return went_below


def _filled(model: Model) -> list[str]:
    found: Any = model.with_top_k(3).predict(_TRY)
    return [one.line() for one in found]
