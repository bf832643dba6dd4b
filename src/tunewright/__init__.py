"""Tunewright: from raw text to a fine-tuned language model you can trust, and on to predictions.

    import tunewright as tw
    run = tw.train("config.yaml")
    tw.load(run).predict(["…"])

Names are imported when they are first used, so that `import tunewright` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.batching.store import TokenStore as TokenStore
    from tunewright.config.run_config import RunConfig as RunConfig
    from tunewright.errors import UserError as UserError
    from tunewright.evaluation.score_run import evaluate as evaluate
    from tunewright.prediction import load as load
    from tunewright.reading import open_source as read
    from tunewright.records import Prediction as Prediction
    from tunewright.runs.train import batches as batches
    from tunewright.runs.train import train as train
    from tunewright.tasks.base import Task as Task

_WHERE = {
    "RunConfig": "config.run_config",
    "UserError": "errors",
    "load": "prediction",
    "Prediction": "records",
    "batches": "runs.train",
    "train": "runs.train",
    "evaluate": "evaluation.score_run",
    "Task": "tasks.base",
    "TokenStore": "batching.store",
}

__all__ = [*_WHERE, "read"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "read":
        value = importlib.import_module("tunewright.reading").open_source
    elif name in _WHERE:
        value = getattr(importlib.import_module(f"tunewright.{_WHERE[name]}"), name)
    else:
        raise AttributeError(f"module 'tunewright' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
