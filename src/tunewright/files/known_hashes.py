"""sha256 of large files, remembered while a file stays the same: a start on a ready store reads none of them again.

    known = KnownHashes(Path("runs/.store/hashes.json"))
    known.sha256(Path("train.jsonl"))      # reads the file once; afterwards compares identity, size and times
    known.save()

A file is the same while its stamp (device, inode, size, mtime, ctime) is. No program can set a ctime, so content that was
exchanged behind a restored mtime is noticed. What no stamp shows (a disk that loses bits) is found by hashing everything again.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from tunewright.files.atomic import file_sha256, file_stamp, json_sha256

_SETTLED_NS = 2_000_000_000
"""The coarsest clock of a file system: a change within it may leave the stamp as it was."""
_CHANGE_TIMES = slice(3, 5)  # mtime and ctime within a stamp


class KnownHashes:
    """sha256 by path and stamp, kept in a JSON file. A damaged file counts as empty, and one that cannot be written is not.

    path: None remembers in this object only. trusted: False hashes every file again, whatever is remembered.
    """

    def __init__(self, path: Path | None, *, trusted: bool = True) -> None:
        self.path = path
        is_read = path is not None and trusted and os.name != "nt"  # Windows keeps no ctime
        self._known = _read(path) if path is not None and is_read else {}
        self._is_new = False

    def sha256(self, path: Path) -> str:
        """The hash of a file; it is read where it is not known or has changed. OSError where it cannot be read."""
        return self._sha256(path, settled_ns=_SETTLED_NS)

    def sha256_of_own(self, path: Path) -> str:
        """The same for a file that this process wrote just now and that nobody else writes to: remembered at once."""
        return self._sha256(path, settled_ns=None)

    def _sha256(self, path: Path, *, settled_ns: int | None) -> str:
        key, stamp, begin_ns = str(path.absolute()), list(file_stamp(path)), time.time_ns()
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = file_sha256(path)
        is_settled = settled_ns is None or max(stamp[_CHANGE_TIMES]) + settled_ns < begin_ns
        if is_settled and list(file_stamp(path)) == stamp:
            self._known[key], self._is_new = (stamp, digest), True
        return digest

    def save(self) -> bool:
        """Write what is new; whether anything was. Files that are gone or have changed are forgotten."""
        if not self._is_new or self.path is None:
            return False
        files = {key: [stamp, digest] for key, (stamp, digest) in self._known.items() if _is_still(key, stamp)}
        text = json.dumps({"files": files, "seal": json_sha256(files)})
        with suppress(OSError, ValueError):  # not flushed to the disk, for it may be lost
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}-{uuid.uuid4().hex[:8]}")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.path)
        self._is_new = False
        return True


def _is_still(key: str, stamp: list[int]) -> bool:
    try:
        return list(file_stamp(Path(key))) == stamp
    except OSError:
        return False


def _read(path: Path) -> dict[str, tuple[list[int], str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["seal"] != json_sha256(found["files"]):
            return {}
        return {key: (stamp, digest) for key, (stamp, digest) in found["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
