"""People, places, organisations and products found in sentences: all-MiniLM-L6-v2, fine-tuned in about a minute."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright import hints
from tunewright.cli.options import say
from tunewright.cli.progress import highlighted, print_table
from tunewright.demos.base import SAMPLES, config_of, headline, trained
from tunewright.prediction import load
from tunewright.preparation import TEST
from tunewright.pretrained.hub import PACKAGED_ENCODER
from tunewright.records import TaggedText

_TRY = (
    "Marta Lindgren left Aalto Instruments last year and moved to Bremen.",
    "the new zephyr kettle from brightwater is not sold in portugal yet",
    "Has anyone told Priya that the meeting in Utrecht is cancelled?",
)
_VALUES = {
    "task": "ner",
    "model": PACKAGED_ENCODER,
    "data": {"train": str(SAMPLES / "entities.jsonl"), "test_ratio": 0.2},
    "train": {"epochs": 15},
}


def run(output: str, overrides: Sequence[str] = ()) -> bool:
    """Train, score, and mark the entities of three new sentences."""
    say("Fine-tuning all-MiniLM-L6-v2 to find people, places, organisations and products.\n")
    result = trained(config_of(_VALUES, output, overrides))
    headline("By type")
    by_type = result.scores[TEST]["per_class"].items()
    head = ["precision", "recall", "f1"]
    rows = [[name, *(f"{one[score]:.3f}" for score in head), str(one["support"])] for name, one in by_type]
    print_table(["", *head, "entities"], rows)
    headline("Three new sentences")
    for tagged in load(result).predict(_TRY):
        assert isinstance(tagged, TaggedText)
        print(f"  {highlighted(tagged)}")
    print(f"\nNow your own file (CoNLL, or text and entities): {hints.train('your.conll')}")
    return True
