"""A trained model on the disk: `model/` in plain Hugging Face layout, plus `tunewright.json` with what its use needs.

    RUN/model/config.json  model.safetensors  tokenizer.json  tokenizer_config.json  tunewright.json

`transformers.pipeline` opens it as it is. `tunewright.json` holds the task (labels, columns, threshold) and how text is encoded, so
that prediction encodes exactly as training did.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.atomic import whole_folder, write_json
from tunewright.errors import UserError, did_you_mean
from tunewright.models.source import ModelFolder
from tunewright.plugins import find

SCHEMA = 1
FILE = "tunewright.json"


@dataclass(frozen=True)
class SavedModel:
    """A model folder and its `tunewright.json`."""

    folder: Path
    facts: dict[str, Any]

    @property
    def source(self) -> ModelFolder:
        return ModelFolder(str(self.folder), self.folder)

    def task(self) -> Any:
        return find("tasks", self.facts["task"]).Task.from_state(self.facts["task_state"])

    def encoder(self) -> Any:
        from tunewright.tokens.tokenizer import load_encoder

        return load_encoder(self.source, **self.facts["encode"])


def save_model(path: Path, model: Any, task: Any, encoder: Any, *, precision: str) -> None:
    """Write `model/`, whole or not at all. The tokenizer is saved so that control tokens in a text stay text."""
    from tunewright.models.load import quiet_transformers

    with quiet_transformers(), whole_folder(path) as folder:
        model.save_pretrained(folder)
        tokenizer = encoder.tokenizer
        tokenizer.split_special_tokens = True
        tokenizer.init_kwargs |= {"split_special_tokens": True, "model_max_length": encoder.max_length}
        tokenizer.save_pretrained(folder)
        facts = {
            "schema": SCHEMA,
            "task": task.name,
            "task_state": task.state(),
            "encode": {
                "max_length": encoder.max_length,
                "truncation_side": encoder.truncation_side,
                "padding_side": encoder.padding_side,
            },
            "trained_precision": precision,
        }
        write_json(folder / FILE, facts)


def open_saved(name: str | Path) -> SavedModel:
    """Accepts RUN and RUN/model. UserError where there is no finished model of ours."""
    path = Path(name).expanduser()
    for folder in (path / "model", path):
        if (folder / FILE).is_file():
            try:
                facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(
                    f"not valid JSON ({error})", where=str(folder / FILE), mend="Train again, or restore the file."
                ) from None
            if facts.get("schema") != SCHEMA:
                raise UserError(
                    "written by another version of tunewright",
                    where=str(folder / FILE),
                    found=f"schema {facts.get('schema')}",
                    expected=str(SCHEMA),
                )
            return SavedModel(folder, facts)
    if (path / "config.yaml").is_file():
        raise UserError(
            "this run has no model yet", where=str(path), mend=f"Finish it: tunewright train {path / 'config.yaml'}"
        )
    if path.is_dir():
        raise UserError(
            "not a run of tunewright",
            where=str(path),
            expected=f"a folder with model/{FILE}",
            mend="`tunewright runs` lists the runs here.",
        )
    near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else None
    raise UserError(
        "no such run",
        where=str(path),
        mend=f"Did you mean {path.parent / near}?" if near else "`tunewright runs` lists the runs here.",
    )
