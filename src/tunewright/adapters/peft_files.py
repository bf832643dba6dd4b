"""adapter_config.json of a run that somebody else may have made -> PEFT's description of the adapter, or a UserError.

    config = read_config(run / "adapter")          LoraConfig(r=16, target_modules={"query", "value"}, …)

PEFT follows what that file says: patterns that it matches against every layer, modules that it imports, tokenizers that it loads,
models that it looks for. Of all that a finished adapter needs numbers, yes or no, and names of layers; whatever else is not as
PEFT itself begins is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.pretrained.folder_checks import read_object

FILE = "adapter_config.json"
_LISTS_OF_NAMES = {"target_modules", "modules_to_save", "feedforward_modules", "exclude_modules"}
_IGNORED = {
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "auto_mapping",
    "inference_mode",
    "task_type",
    "peft_type",
}
"""Checked otherwise, or not looked at where an adapter is put on a network that stands already."""
_NAME = re.compile(r"[\w.-]+")
_LARGEST = 2**20


def read_config(folder: Path) -> Any:
    """PEFT's config of a saved adapter. UserError where the file is gone, damaged, or says what no adapter of ours needs."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftType, TaskType

    path = folder / FILE
    values = read_object(path)
    kind = values.get("peft_type")
    if (
        not isinstance(kind, str)
        or kind not in PeftType.__members__
        or PeftType[kind] not in PEFT_TYPE_TO_CONFIG_MAPPING
    ):
        raise _refused(path, "peft_type", kind)
    task = values.get("task_type")
    if task is not None and (not isinstance(task, str) or task not in TaskType.__members__):
        raise _refused(path, "task_type", task)
    usual = {key: _plain(value) for key, value in asdict(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[kind]]()).items()}
    for key, value in values.items():
        if key not in _IGNORED and not _harmless(key, value, usual):
            raise _refused(path, key, value)
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # of another version, or of values that do not go together
        raise UserError(
            f"not the description of an adapter ({error})", where=str(path), hint="Restore the folder, or train again."
        ) from None
    config.auto_mapping = None
    return config


def _harmless(key: str, value: Any, usual: Mapping[str, Any]) -> bool:
    if value in (None, False) or (key in usual and value == usual[key]):
        return True
    if key in _LISTS_OF_NAMES:
        return isinstance(value, list) and all(isinstance(one, str) and _NAME.fullmatch(one) for one in value)
    if key == "trainable_token_indices":
        rows = value.values() if isinstance(value, dict) else [value]
        return all(isinstance(row, list) and all(_is_number(one) for one in row) for row in rows)
    return key in usual and (isinstance(value, bool) or _is_number(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, (set, tuple)):
        return list(value)
    return getattr(value, "value", value)


def _refused(path: Path, key: str, value: Any) -> UserError:
    return UserError(
        f"{key} is {repr(value)[:60]}, which no adapter of a run has",
        where=str(path),
        hint="Restore the folder, or train again.",
    )
