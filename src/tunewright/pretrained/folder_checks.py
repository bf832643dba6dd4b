"""Model folders that somebody else made: what their JSON files may say, checked before a library acts on it. Imports no torch.

    check_values("config.json", {"hidden_size": 0}, where="m/config.json")     UserError: hidden_size is 0; expected …
    check_folder(folder, "model m")        UserError where the folder brings what would be fetched, run, or wait for ever

Code of a folder is never run: every loader is called with `trust_remote_code=False`, and what a library would follow without
being asked (a kernel of the Hub, an adapter beside the model) is refused here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunewright.errors import UserError

_SIZES = {
    "hidden_size", "n_embd", "d_model", "dim", "num_hidden_layers", "n_layer", "n_layers", "num_layers",
    "num_attention_heads", "n_head", "n_heads", "num_heads", "vocab_size", "max_position_embeddings", "n_positions",
    "intermediate_size", "hidden_dim", "embedding_size",
}  # fmt: skip
"""Keys of a config.json that are whole numbers from 1 on, in every architecture that has them."""
_LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}
_MOST_LAYERS, _MOST_LABELS, _LARGEST = 10_000, 1_000_000, 2**31
_DTYPE = re.compile(r"auto|(torch\.)?b?float\d+(_\w+)?|(torch\.)?(half|float|double)")
_BRANCHES, _MOST_BRANCHES = {"num_beams", "num_beam_groups", "num_return_sequences"}, 1_000
"""Keys of a generation_config.json by which memory grows; transformers follows them unasked, as in `pipeline`."""
_MOST_GROWTH = 1_000
"""So many times as long may a text become by what a tokenizer writes for its characters; those that are in use write one to three."""
_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
_HINT = "Restore the original file of the model."
_CODE = "custom code"
"""What transformers says of a folder that wants to run its own."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder, empty when there is no such file. UserError when it is broken."""
    if not path.exists():
        return {}
    if not path.is_file():  # a pipe would wait for ever
        raise UserError("not a file", where=str(path), hint=_HINT)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", where=str(path), hint=_HINT) from None
    if not isinstance(found, dict):
        raise UserError("not an object", where=str(path), found=type(found).__name__, hint=_HINT)
    return found


def check_values(file_name: str, values: Mapping[str, Any], *, where: str) -> None:
    """UserError for values that no model or tokenizer can have; keys that are not known here are left to their library."""
    for key, value, expected in _invalid_values(file_name, values):
        raise UserError(f"{key} is {repr(value)[:60]}", where=where, expected=expected, hint=_HINT)


def _invalid_values(file_name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if file_name == "tokenizer_config.json":
        limit = values.get("model_max_length")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float))):
            yield "model_max_length", limit, "a number"
        return
    if file_name == "generation_config.json":
        for key in sorted(_BRANCHES & values.keys()):
            value = values[key]
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_BRANCHES
            ):
                yield key, value, f"a whole number from 1 to {_MOST_BRANCHES:,}"
        return
    if file_name != "config.json":
        return
    for level, found in _levels(values):
        yield from ((f"{level}{key}", value, expected) for key, value, expected in _invalid_model_values(found))
    yield from _kernels(values)


def _levels(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A config, and those of the models that it is made of (text_config, vision_config), each with what stands before its keys."""
    yield "", values
    for key, value in values.items():
        if key.endswith("_config") and isinstance(value, Mapping):
            yield f"{key}.", value


def _invalid_model_values(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for key in ("model_type", "problem_type"):
        if values.get(key) is not None and not isinstance(values[key], str):
            yield key, values[key], "a string"
    for key in sorted(_SIZES & values.keys()):
        value = values[key]
        if value is None or isinstance(value, list):
            continue
        most = _MOST_LAYERS if key in _LAYERS else _LARGEST
        unlimited = key == "max_position_embeddings" and value == -1  # of models that count no positions
        if not unlimited and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most):
            yield key, value, f"a whole number from 1 to {most:,}"
    labels = values.get("num_labels")  # transformers makes a name for each of them, whatever is loaded
    if labels is not None and (
        isinstance(labels, bool) or not isinstance(labels, int) or not 0 <= labels <= _MOST_LABELS
    ):
        yield "num_labels", labels, f"a whole number up to {_MOST_LABELS:,}"
    pad = values.get("pad_token_id")
    if pad is not None and (isinstance(pad, bool) or not isinstance(pad, int)):
        yield "pad_token_id", pad, "a whole number"
    for key in ("dtype", "torch_dtype"):
        if isinstance(values.get(key), str) and not _DTYPE.fullmatch(values[key]):
            yield key, values[key], "a dtype such as float32"


def _kernels(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Implementations that transformers would fetch from the Hub and run, at any depth."""
    for key, value in values.items():
        named = [value] if not isinstance(value, Mapping) else list(value.values())
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")) and any(
            "/" in str(one) for one in named
        ):
            yield key, value, "a built-in implementation, not one fetched from the Hub"
        if isinstance(value, Mapping):
            yield from _kernels(value)


def check_folder(folder: Path, name: str) -> None:
    """UserError for a folder that a loader would follow elsewhere, or into a wait. name: what messages call it."""
    if not folder.is_dir():
        raise UserError(
            "the folder of its weights is gone", where=name, expected=str(folder), hint="Restore it, or get (or train) the model again."
        )  # fmt: skip
    for path in folder.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path.name} is not a regular file", where=name, hint="Remove it from the model's folder.")
    if (folder / "adapter_config.json").exists() and (folder / "config.json").exists():
        raise UserError(
            "the folder holds both a model and an adapter",
            where=name,
            found="adapter_config.json and config.json",
            hint="Merge the adapter into its model, or move adapter_config.json away to use the model alone.",
        )
    values = read_object(folder / "config.json")
    check_values("config.json", values, where=str(folder / "config.json"))
    generation = folder / "generation_config.json"
    check_values(generation.name, read_object(generation), where=str(generation))
    _check_size(folder, values)


def _check_size(folder: Path, values: Mapping[str, Any]) -> None:
    """UserError where config.json describes far more than the weights hold: memory would be taken for it first."""
    tables = [_largest_table(found) for _, found in _levels(values)]
    width, rows = max(tables, key=lambda table: table[0] * table[1])
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if held and width * rows > 64 * held + 2**28:
        raise UserError(
            "config.json describes a far larger model than the weight files hold",
            where=str(folder / "config.json"),
            found=f"{width:,} times {rows:,} numbers in one table, {held:,} bytes of weights",
            hint=_HINT,
        )


def check_tokenizer(path: Path) -> None:
    """UserError for a tokenizer.json that writes far more than it reads: one sentence would take all memory, in a library that then
    ends the process."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if b"Replace" not in data and b"\\u00" not in data:  # a name may be written by the numbers of its letters
        return
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return  # its library says what is wrong
    for part in ("normalizer", "decoder") if isinstance(found, dict) else ():
        if (growth := _growth(found.get(part))) > _MOST_GROWTH:
            raise UserError(
                f"its {part} can turn one character into {growth:,}",
                where=str(path),
                expected=f"at most {_MOST_GROWTH:,}",
                hint="Choose another tokenizer.",
            )


def _growth(step: Any) -> int:
    """How many characters one may become."""
    if not isinstance(step, Mapping):
        return 1
    if step.get("type") == "Replace":
        return max(1, len(str(step.get("content"))))
    inner = step.get("normalizers") or step.get("decoders")
    return math.prod(map(_growth, inner)) if isinstance(inner, list) else 1


def _largest_table(values: Mapping[str, Any]) -> tuple[int, int]:
    width = next((values[key] for key in _WIDTHS if isinstance(values.get(key), int)), 0)
    keys = ("vocab_size", "max_position_embeddings", "n_positions", "intermediate_size")
    return width, max([width, *(values[key] for key in keys if isinstance(values.get(key), int))])


def wants_code(error: Exception) -> bool:
    """Whether transformers refused a folder because it would have to run the folder's own Python code."""
    return _CODE in str(error) or "trust_remote_code" in str(error)


def code_refused(where: str) -> UserError:
    return UserError(
        "this model needs its own Python code, which tunewright does not run",
        where=where,
        found="auto_map (or a model type that transformers does not know)",
        hint="Choose a model that transformers supports without custom code.",
    )
