"""Tunewright: from raw text to a fine-tuned language model you can trust, and on to predictions.

    import tunewright as tw
    run = tw.train("config.yaml")
    tw.load(run).predict(["…"])

Names are imported when they are first used, so that `import tunewright` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunewright.batching.store import TokenStore
    from tunewright.config.run_config import RunConfig
    from tunewright.errors import UserError
    from tunewright.evaluation.score_run import evaluate
    from tunewright.evaluation.scores import Scores
    from tunewright.exporters import export
    from tunewright.generation.generate import Sampling
    from tunewright.prediction import Model, predict
    from tunewright.preparation import Prepared
    from tunewright.reading import Readable, ReadOptions, Source, read
    from tunewright.records import AnyPrediction, Completion, FilledMask, Prediction, TaggedText
    from tunewright.runs.batches import batches, prepare
    from tunewright.runs.comparison import Comparison
    from tunewright.runs.data_checks import Findings, check
    from tunewright.runs.explain import Explanation, explain
    from tunewright.runs.loaded import LoadedRun, load
    from tunewright.runs.reporter import Reporter, RunResult
    from tunewright.runs.train import train
    from tunewright.tasks.base import Task
    from tunewright.tasks.regression import Numbers
    from tunewright.tokenizer_tools.show import TokenizedText, tokenize
    from tunewright.tokenizer_tools.train import train_tokenizer
    from tunewright.verification import Check, verify

__version__ = "0.2.0"
__all__ = [
    "AnyPrediction", "Check", "Comparison", "Completion", "Explanation", "FilledMask", "Findings", "LoadedRun", "Model", "Numbers",
    "Prediction", "Prepared", "ReadOptions", "Readable", "Reporter", "RunConfig", "RunResult", "Sampling", "Scores", "Source", "TaggedText", "Task",
    "TokenStore", "TokenizedText", "UserError", "batches", "check", "evaluate", "explain", "export", "load", "predict", "prepare", "read",
    "tokenize", "train", "train_tokenizer", "verify",
]  # fmt: skip

_MODULES = {
    "batching.store": ("TokenStore",),
    "config.run_config": ("RunConfig",),
    "errors": ("UserError",),
    "evaluation.score_run": ("evaluate",),
    "evaluation.scores": ("Scores",),
    "exporters": ("export",),
    "generation.generate": ("Sampling",),
    "prediction": ("Model", "predict"),
    "preparation": ("Prepared",),
    "reading": ("ReadOptions", "Readable", "Source", "read"),
    "records": ("AnyPrediction", "Completion", "FilledMask", "Prediction", "TaggedText"),
    "runs.batches": ("batches", "prepare"),
    "runs.comparison": ("Comparison",),
    "runs.data_checks": ("Findings", "check"),
    "runs.loaded": ("LoadedRun", "load"),
    "runs.explain": ("Explanation", "explain"),
    "runs.reporter": ("Reporter", "RunResult"),
    "runs.train": ("train",),
    "tasks.base": ("Task",),
    "tasks.regression": ("Numbers",),
    "tokenizer_tools.show": ("TokenizedText", "tokenize"),
    "tokenizer_tools.train": ("train_tokenizer",),
    "verification": ("Check", "verify"),
}
_WHERE = {name: (module, name) for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker looks at the imports above, and reports a name that is not there

    def __getattr__(name):
        if name not in _WHERE:
            raise AttributeError(f"module 'tunewright' has no attribute {name!r}")
        module, attribute = _WHERE[name]
        value = globals()[name] = getattr(importlib.import_module(f"tunewright.{module}"), attribute)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
