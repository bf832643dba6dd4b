"""Folders that say what is in them: manifest.json with the sha256 of each file, and whether that still holds.

    write_manifest(run / "model")
    changed_files(run / "model")                    []  or  ["model.safetensors"]: gone, other than written, or come later
    changed_files(run / "model", remember=True)     a second time it costs no reading, while no file was touched

What was hashed is remembered in the user's cache folder (XDG_CACHE_HOME or ~/.cache), never beside the files, by device, inode,
size, mtime and ctime. Where that cannot be written, or holds nonsense, files are hashed again and nothing is said.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from tunewright import hints
from tunewright.errors import UserError
from tunewright.files.atomic import file_sha256, file_stamp, json_text, write_json
from tunewright.files.known_hashes import KnownHashes
from tunewright.files.user_cache import cache_folder

MANIFEST = "manifest.json"
SCHEMA = 1
NO_CHECK = "--no-check"
_READ_BY_LIBRARIES = {
    ".json", ".safetensors", ".jinja", ".txt", ".model", ".bin", ".onnx", ".data", ".py", ".pt", ".pth", ".h5", ".msgpack", ".gguf",
}  # fmt: skip
"""Endings of files in a model folder that some library reads: one that came later changes what the folder is."""
_MAX_CACHED_FOLDERS = 500

_HASHES: dict[str, KnownHashes] = {}
"""Folder -> what is remembered of its files, of this process."""
_CHECKING: ContextVar[bool] = ContextVar("checking", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside, folders are opened as they are: the user wished so."""
    token = _CHECKING.set(False)
    try:
        yield
    finally:
        _CHECKING.reset(token)


def write_manifest(folder: Path) -> None:
    """List a folder's files with their sha256."""
    files = {name: file_sha256(folder / name) for name in _names(folder) if name != MANIFEST}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "files": files})


def listed_files(folder: Path) -> dict[str, str]:
    """Name -> sha256, as the manifest of a folder says; empty where there is none, or it is broken."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
        found = json.loads(text)
        if found["schema"] != SCHEMA or text != json_text(found):  # as it was written, to the letter
            return {}
        return {str(name): str(sha) for name, sha in found["files"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def changed_files(folder: Path, *, only: Sequence[str] | None = None, remember: bool = False) -> list[str]:
    """Files that are not what the manifest says, or gone, or came later; the manifest itself where it is missing, broken or tells nothing.

    only: of these names. remember: what was hashed before and not touched since is taken for what it was.
    """
    files = listed_files(folder)
    if not files:
        return [MANIFEST]
    wanted = [name for name in files if only is None or name in only]
    known = _known_hashes(folder) if remember else None
    changed = [name for name in wanted if not _is_unchanged(folder, name, files[name], known)]
    if known is not None:
        _remember(known)
    later = [
        name for name in _names(folder) if Path(name).suffix in _READ_BY_LIBRARIES and name not in {MANIFEST, *files}
    ]
    return changed + sorted(name for name in later if only is None or name in only)


def describe_change(folder: Path, name: str) -> str:
    """`is gone`, `has changed since it was written`, …: what became of a file that `changed_files` names."""
    path = folder / name
    if not path.is_file():
        return "is not a file" if path.exists() else "is gone"
    if path.name == MANIFEST or path.name in listed_files(path.parent) or name in listed_files(folder):
        return "has changed since it was written"
    return "was added later"


def check_unchanged(
    folder: Path, *, only: Sequence[str] | None = None, remember: bool = True, hint: str | None = None
) -> bool:
    """UserError at the first file that is not what the folder's manifest says. False where there is no manifest to tell."""
    if not _CHECKING.get():
        return True
    if not (folder / MANIFEST).exists():
        return False
    if changed := changed_files(folder, only=only, remember=remember):
        refuse_changed(folder, changed[0], hint=hint)
    return True


def refuse_changed(folder: Path, name: str, *, hint: str | None = None) -> None:
    """UserError that says what became of a file, unless the user wished to go on."""
    if _CHECKING.get():
        run = folder.parent if folder.name in ("model", "base", "adapter") else folder
        usual = f"Restore the saved file, or train again. `{hints.verify(run)}` gives details; {NO_CHECK} uses the folder as it is."
        raise UserError(f"this file {describe_change(folder, name)}", where=str(folder / name), hint=hint or usual)


def _is_unchanged(folder: Path, name: str, sha256: str, known: KnownHashes | None) -> bool:
    """Is this file what was written? Names that lead out of the folder are none of its files."""
    parts = Path(name).parts
    path = folder / name
    if not parts or Path(name).is_absolute() or ".." in parts or not path.is_file():
        return False
    try:
        before = file_stamp(path)
        found = file_sha256(path) if known is None else known.sha256(path)
        return found == sha256 and file_stamp(path) == before
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    """Files below a folder, sorted, links to folders not followed."""
    found = []
    for place, _, files in os.walk(folder):
        found += [str((Path(place) / file).relative_to(folder)) for file in files]
    return sorted(found)


def _known_hashes(folder: Path) -> KnownHashes:
    """What is remembered of a folder, in this process and in the user's cache."""
    key = str(folder.resolve())
    if key not in _HASHES:
        _HASHES[key] = KnownHashes(_cache_file(key))
    return _HASHES[key]


def _cache_file(key: str) -> Path | None:
    """Where a folder's hashes are remembered; None where the user has no cache folder."""
    root = cache_folder()
    name = f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    return root / "hashes" / name if root is not None else None


def _remember(known: KnownHashes) -> None:
    """Write what is new, and forget the folders that were opened longest ago."""
    if known.save() and known.path is not None:
        with suppress(OSError):
            others = sorted(known.path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for oldest in others[:-_MAX_CACHED_FOLDERS]:
                oldest.unlink(missing_ok=True)
