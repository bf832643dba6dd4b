"""What a run logs while it trains: metrics.jsonl always, TensorBoard on request.

{"step": 10, "epoch": 0.13, "loss": 1.93, "learning_rate": 0.0001, "tokens_per_second": 4310.0, …}
{"step": 79, "epoch": 1.0, "split": "validation", "loss": 0.61, "accuracy": 0.83, …}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.files.atomic import write_whole


class MetricsFile:
    """Appends one JSON object per line. Records after `from_step` of an interrupted run are dropped: these steps are computed again.

    evaluated: whether the evaluation after `from_step`, if any, is done; if not, its record is dropped too.
    """

    def __init__(self, path: Path, *, from_step: int, evaluated: bool = True) -> None:
        self.path = path
        kept = [
            line
            for line in _lines(path)
            if (step := _step_of(line)) < from_step
            or (step == from_step and (evaluated or "split" not in json.loads(line)))
        ]
        write_whole(path, "".join(f"{line}\n" for line in kept))

    def write(self, record: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _lines(path: Path) -> list[str]:
    """UserError if the file is not text."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot be read ({error})", where=str(path), hint="Move it away; the run continues without it."
        ) from None


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1


class TensorBoard:
    """Scalars under `<split>/<metric>`."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "TensorBoard is not installed", where="train.log_to", hint="pip install 'tunewright[track]'"
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=from_step + 1)

    def write(self, record: dict[str, Any]) -> None:
        split = record.get("split", "train")
        for name, value in record.items():
            if name not in ("step", "split") and isinstance(value, (int, float)):
                self._writer.add_scalar(f"{split}/{name}", value, record["step"])
        self._writer.flush()
