"""Ten kinds of customer messages told apart: all-MiniLM-L6-v2, fine-tuned in about a minute."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright import hints
from tunewright.cli.options import say
from tunewright.demos.base import SAMPLES, config_of, headline, trained
from tunewright.prediction import load
from tunewright.pretrained.hub import PACKAGED_ENCODER
from tunewright.records import Prediction

_TRY = (
    "My parcel was due on Monday and the tracking page has not moved since",
    "you charged my card twice for one order",
    "Does the small backpack fit a 15 inch laptop?",
)
_VALUES = {
    "task": "classification",
    "model": PACKAGED_ENCODER,
    "data": {"train": str(SAMPLES / "customer_messages.jsonl"), "test_ratio": 0.2},
    "train": {"epochs": 6},
}


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Train, score, and sort three new messages."""
    say("Fine-tuning all-MiniLM-L6-v2 to classify customer messages into ten kinds.\n")
    result = trained(config_of(_VALUES, output, overrides))
    headline("Three new messages")
    for text, prediction in zip(_TRY, load(result).predict(_TRY), strict=True):
        assert isinstance(prediction, Prediction)
        best = "  ".join(f"{label} {score:.2f}" for label, score in list(prediction.scores.items())[:3])
        print(f"  {text}\n    {best}")
    print(f"\nNow your own file (columns text and label, say): {hints.train('your.csv')}")
    return True
