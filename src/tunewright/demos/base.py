"""What the demos share. A demo is a module with `run(output, overrides)`: it trains on what is shipped, shows what came of it, and tells
whether what it claims came true. Its docstring's first line stands in the list of demos.

    parts = before(config)      the model that training will start from, usable, and what it scores on held-out text
    tell_loss(parts, train(config), unit="token")
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tunewright.artifacts.model_folder import SavedModel
from tunewright.cli.progress import ConsoleReporter, bold, print_table
from tunewright.config.run_config import RunConfig
from tunewright.evaluation.score_split import evaluate_split
from tunewright.prediction import Model
from tunewright.preparation import TEST
from tunewright.runs.autoconfig import as_config
from tunewright.runs.reporter import RunResult
from tunewright.runs.setup import build_components
from tunewright.runs.train import train

SAMPLES = Path(str(files("tunewright") / "samples"))


def config_of(values: Mapping[str, Any], output: str | Path, overrides: Sequence[str]) -> RunConfig:
    """The demo's own values, its run folder, and `key=value` words over them."""
    return as_config({**values, "output": str(output)}, overrides)


def trained(config: RunConfig) -> RunResult:
    """Train as `tunewright train` does, told on the screen."""
    return train(config, reporter=ConsoleReporter(config=config))


def headline(text: str) -> None:
    print(f"\n{bold(text, sys.stdout)}")


@dataclass(frozen=True)
class Untrained:
    """A model before its first step. loss: on the test split."""

    model: Model
    loss: float


def before(config: RunConfig) -> Untrained:
    """What training will start from: same weights, same seed, same held-out rows."""
    parts = build_components(config)
    test = parts.prepared.store[TEST]
    scored = evaluate_split(parts.model, parts.task, test, parts.encoder, execution=parts.execution)
    parts.model.eval()
    nowhere = SavedModel(config.run_folder, {})
    model = Model(nowhere, parts.task, parts.encoder, parts.model, parts.execution)
    return Untrained(model, scored.metrics["loss"])


def print_losses(untrained: Untrained, result: RunResult, *, per: str) -> bool:
    """Print the held-out loss before, of the unigram baseline, and after. Gives whether training went below both."""
    scores = result.scores[TEST]
    loss, unigram = scores["metrics"]["loss"], scores["baseline"]["unigram"]["loss"]
    headline(f"Loss on text held out from training, nats per {per}")
    rows = [
        ["before training", f"{untrained.loss:.3f}", ""],
        ["unigram baseline", f"{unigram:.3f}", "each token by its training frequency, without context"],
        ["after training", f"{loss:.3f}", ""],
    ]
    print_table(["", "loss", ""], rows)
    return loss < min(unigram, untrained.loss)


def side_by_side(inputs: Iterable[str], old: Iterable[str], new: Iterable[str]) -> None:
    """Each input, and below it what was said before and what is said after."""
    for given, first, second in zip(inputs, old, new, strict=True):
        print(f"  {given}\n    before  {first}\n    after   {second}")
