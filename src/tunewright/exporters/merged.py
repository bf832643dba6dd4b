"""Plain safetensors in a chosen dtype, with tokenizer, chat template and stop ids, for vLLM and `transformers serve`.

model.safetensors  config.json  generation_config.json  tokenizer.json  tokenizer_config.json  chat_template.jinja
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tunewright.artifacts.model_folder import FILE, SavedModel
from tunewright.exporters import DTYPES as DTYPES
from tunewright.exporters import kept_files
from tunewright.files.atomic import write_json

_TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def write(saved: SavedModel, folder: Path, *, dtype: str) -> None:
    """Write into an empty folder, with the golden examples."""
    from tunewright.models.loading import load_as_named
    from tunewright.pretrained.quiet import quiet_transformers

    network = load_as_named(saved.folder, dtype=_TORCH[dtype])
    set_stop_ids(network, saved)
    with quiet_transformers():
        network.save_pretrained(folder)
    weights = {path.name for path in folder.iterdir()}
    for file in kept_files(saved):
        if file.name not in weights | {FILE} and not file.name.startswith("model"):
            shutil.copyfile(file, folder / file.name)
    facts = json.loads((saved.folder / FILE).read_text(encoding="utf-8"))
    write_json(folder / FILE, {**facts, "export": {"to": "merged", "dtype": dtype}})


def set_stop_ids(network: Any, saved: SavedModel) -> None:
    """Make generation stop at the end of the task's answers, and at the tokenizer's end token."""
    if not network.can_generate():
        return
    tokenizer = saved.encoder().tokenizer
    ends = [*(saved.facts["task_state"].get("end_ids") or ()), tokenizer.eos_token_id]
    network.generation_config.eos_token_id = list(dict.fromkeys(end for end in ends if end is not None)) or None
    network.generation_config.pad_token_id = tokenizer.pad_token_id
