"""Several configs in turn, each from the model that the one before made: pretrain, supervise, prefer.

    train_in_turn([load_config("pretrain.yaml"), load_config("sft.yaml"), load_config("prefer.yaml")])

`model: previous` in a config stands for the run before it. All configs are read, and their data looked at, before the first one trains.
Started again, runs that are finished are passed over and the others resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tunewright.config.run_config import PREVIOUS, ModelConfig, RunConfig
from tunewright.errors import UserError
from tunewright.runs.early_checks import refuse_early
from tunewright.runs.reporter import Reporter, RunResult


def check_in_turn(configs: Sequence[RunConfig]) -> None:
    """UserError for what would go wrong in any of them. Imports no torch."""
    folders: dict[Path, int] = {}
    model = None
    for number, config in enumerate(configs, start=1):
        if config.model.name == PREVIOUS:
            if model is None:
                config.model.locate()  # says that no run comes before
            refuse_early(config.model_copy(update={"model": model}), trains=False)
        else:
            model = config.model
            refuse_early(config)
        if config.output is not None and (other := folders.setdefault(Path(config.output), number)) != number:
            raise UserError(
                f"configs {other} and {number} write to one folder",
                where=f"output {config.output}",
                hint="Give each its own output.",
            )


def train_in_turn(
    configs: Sequence[RunConfig], *, reporter: Callable[[RunConfig], Reporter] = lambda _: Reporter()
) -> Iterator[RunResult]:
    """Each run's result as it is finished. reporter: made anew for each run."""
    from tunewright.runs.train import train

    folder: Path | None = None
    for config in configs:
        config = following(config, folder)
        result = train(config, reporter=reporter(config))
        folder = result.folder
        yield result


def following(config: RunConfig, folder: Path | None) -> RunConfig:
    """The config, its `model: previous` as the run in `folder`; that brings its own tokenizer."""
    if config.model.name != PREVIOUS or folder is None:
        return config
    model = ModelConfig(name=str(folder), add_tokens=config.model.add_tokens)
    return config.model_copy(update={"model": model})
