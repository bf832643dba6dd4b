"""tunewright demo [NAME]"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

NAME = "demo"
DEMOS = {"classification": "customer_messages.jsonl"}
_TRY = (
    "My parcel was due on Monday and the tracking page has not moved since",
    "you charged my card twice for one order",
    "Does the small backpack fit a 15 inch laptop?",
)


def run(
    name: Annotated[str, typer.Argument(help=f"Which demo: {', '.join(DEMOS)}.")] = "classification",
    output: Annotated[str, typer.Option("-o", "--output", help="Run folder.")] = "runs/demo",
) -> None:
    """Fine-tune a real pretrained model on shipped data, offline, in about a minute."""
    from tunewright.cli.options import check_choice

    check_choice("demo", name, tuple(DEMOS))
    from tunewright.cli.progress import ConsoleReporter, bold, say
    from tunewright.predict import load
    from tunewright.run import train

    data = Path(str(files("tunewright") / "samples" / DEMOS[name]))
    say("Fine-tuning all-MiniLM-L6-v2 to tell ten kinds of customer messages apart.\n")
    values = {"task": name, "data": {"train": str(data), "test_ratio": 0.2}, "train": {"epochs": 6}, "output": output}
    result = train(values, reporter=ConsoleReporter())
    import sys

    print(f"\n{bold('Three messages it has never seen', sys.stdout)}")
    for text, prediction in zip(_TRY, load(result).predict(_TRY), strict=True):
        best = "  ".join(f"{label} {score:.2f}" for label, score in list(prediction.scores.items())[:3])
        print(f"  {text}\n    {best}")
    print("\nNow your own file (columns text and label, say): tunewright train your.csv")
