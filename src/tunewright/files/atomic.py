"""Files and folders that exist whole or not at all: write aside, flush to the disk, rename, flush the parent.

with whole_folder(run / "checkpoints" / "step-00000500") as folder:
    save_file(tensors, folder / "model.safetensors")
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tunewright.errors import UserError
from tunewright.reporting.phases import read_bytes

TEMPORARY = ".tmp-"
_LARGE_READ = 2**22
_ASIDE = f"{TEMPORARY}aside-"
_LOCK = re.compile(r"\..*\.lock")
_RESTORE = "Restore the file, or train again in a new folder."


def refused(path: Path) -> str | None:
    """Why neither a file nor a folder can be made at `path` (its missing parents made too); None where one can."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=above):
            return None  # that one can be made there is all that was asked
    except OSError as error:
        return error.strerror or str(error)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise UserError("a folder has the name of the file to write", where=str(path), hint="Move it away.")
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; when the block ends it takes the place of `path` in one rename, on the disk. A link there is replaced
    itself: what it points to is left alone."""
    temporary, file = new_file(path.parent, f"{TEMPORARY}{path.name}-")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def new_file(folder: Path, begin: str) -> tuple[Path, BinaryIO]:
    """A file that was not there, opened for reading and writing, under a name that nobody can foresee: `begin` and 48 random bits.
    No link is followed. The rights are those of any new file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{begin}{secrets.token_hex(6)}"
        try:
            return path, os.fdopen(os.open(path, flags, 0o666), "w+b")
        except FileExistsError:
            continue


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json_text(value))


def json_text(value: Any) -> str:
    """A JSON file of ours: indented, letters as they are."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path, *, having: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object that we wrote, with the keys it must have. UserError where the file is none any more."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read ({error})", where=str(path), hint=_RESTORE) from None
    if not isinstance(found, dict) or not found.keys() >= set(having):
        raise UserError("the content has changed since it was written", where=str(path), hint=_RESTORE)
    return found


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into; when the block ends it takes the place of `path` in one rename, all files on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                sync_file(file)
        for folder in (temporary, *(inner for inner in temporary.rglob("*") if inner.is_dir())):
            sync_folder(folder)
        if path.exists():
            old = path.with_name(f"{_ASIDE}{path.name}-{uuid.uuid4().hex[:8]}")
            os.rename(path, old)
            os.rename(temporary, path)
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        else:
            os.rename(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """The same content under a second name, without its bytes being written again where the disk can do that. Neither may be changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def is_leftover(path: Path) -> bool:
    """Is it something of ours that an interrupted command left, or that stands beside runs? It holds nothing of a user's."""
    return path.name.startswith(TEMPORARY) or path.name == ".store" or _LOCK.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete what interrupted writes left behind. Only for folders that one process writes to.

    What was moved aside and never replaced goes back to its place.
    """
    if not folder.is_dir():
        return
    for path in folder.glob(f"{_ASIDE}*"):
        place = folder / path.name.removeprefix(_ASIDE).rpartition("-")[0]
        if place != folder and not place.exists():
            path.rename(place)
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_sha256(value: Any) -> str:
    """sha256 over a value as JSON keeps it: the same for `value` and for what is read back of it.

    Keys that are numbers become texts before they are sorted: JSON sorts 9 before 10 while they are numbers, and behind it once they are texts.
    """
    return hashlib.sha256(json.dumps(json.loads(json.dumps(value)), sort_keys=True).encode()).hexdigest()


def file_stamp(path: Path) -> tuple[int, int, int, int, int]:
    """Which file this is and when it last changed: device, inode, size, mtime and ctime. OSError where there is none."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_sha256(path: Path) -> str:
    """Read in large pieces: a network file system answers each of them once."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_LARGE_READ))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            read_bytes(size)
    return digest.hexdigest()
