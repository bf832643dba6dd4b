"""An exporter: the names of the labels, for a program that needs nothing else."""

import json
from pathlib import Path

from tunewright.artifacts.model_folder import SavedModel

DTYPES = ("fp32",)


def write(saved: SavedModel, folder: Path, *, dtype: str) -> None:
    """Write into the folder, which is put in its place when this is done."""
    names = list(saved.task().output_names)
    (folder / "labels.json").write_text(json.dumps(names), encoding="utf-8")
