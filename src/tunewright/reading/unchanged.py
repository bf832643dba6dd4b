"""Guarantees that what was hashed is what is read, though others may replace files meanwhile.

    files = Unchanged.hashed(sources)          sha256 of each, and which file it was
    with files.while_read():                   UserError where a file has changed, or changes inside the block
        for row in source.rows(): ...

A file is identified by device, inode, size and times, which takes microseconds. One that was only touched (permissions, a second
name) or copied back is hashed again before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.errors import UserError
from tunewright.files.atomic import file_sha256, file_stamp
from tunewright.reading.source import Source
from tunewright.reporting.phases import BYTES, phase

Stamp = tuple[int, ...] | None
_SIZE, _CHANGE_TIME = 2, 4


def stamp_of(path: Path) -> Stamp:
    """Identity and times of a file; None where there is none."""
    try:
        return file_stamp(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of these files together, as they are on the disk; 0 for one that is gone."""
    stamps = (stamp_of(path) for path in paths)
    return sum(stamp[_SIZE] for stamp in stamps if stamp is not None)


@dataclass(frozen=True)
class Unchanged:
    """Files as they were when they were hashed (or opened, where nothing needs their hashes). names: as the user wrote them."""

    stamps: dict[Path, Stamp]
    names: Mapping[Path, str]
    sha256: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def opened(cls, sources: Iterable[Source]) -> Unchanged:
        """The files as they were when the sources were opened and their columns detected."""
        listed = [(path, source) for source in sources for path in source.files()]
        return cls(
            {path: source.stamps.get(path, stamp_of(path)) for path, source in listed},
            {path: source.name for path, source in listed},
        )

    @classmethod
    def hashed(cls, sources: Iterable[Source], sha256: Callable[[Path], str] = file_sha256) -> Unchanged:
        """UserError for a file that changes between its opening and the end of its hashing. sha256: the hash of a file."""
        files = cls.opened(sources)
        with phase("hashing the files", size_of(files.stamps), BYTES):
            found = {path: _hash(path, files.names[path], sha256) for path in files.stamps}
        files.check()
        return cls(files.stamps, files.names, found)

    def check(self) -> None:
        """UserError at the first file that is not the one that was hashed. Cheap; called before results become final."""
        for path, stamp in self.stamps.items():
            if stamp_of(path) != stamp and not self._is_only_touched(path):
                raise _changed(self.names[path])

    @contextmanager
    def while_read(self) -> Iterator[None]:
        """Around a pass over the files. An error of a reader is reported as the change of the file, where it changed."""
        self._renew()
        try:
            yield
        except Exception as error:  # a reader may fail in any way on a file that changes; it is raised again
            self._check(error)
            raise
        self.check()

    def _check(self, error: Exception) -> None:
        try:
            self.check()
        except UserError as changed:
            raise changed from error

    def _renew(self) -> None:
        """Before a pass: accepts another file with the same content."""
        for path, stamp in self.stamps.items():
            now = stamp_of(path)
            if now == stamp:
                continue
            if path not in self.sha256 or now is None or _hash(path, self.names[path]) != self.sha256[path]:
                raise UserError(
                    "the file has changed since it was prepared", where=self.names[path],
                    hint="Restore the original file, or start a new run in another output folder.",
                )  # fmt: skip
            self.stamps[path] = now

    def _is_only_touched(self, path: Path) -> bool:
        """Whether only permissions or names changed: same file, same modification time, same content."""
        now, before = stamp_of(path), self.stamps[path]
        if now is None or before is None or now[:_CHANGE_TIME] != before[:_CHANGE_TIME]:
            return False
        if path not in self.sha256 or file_sha256(path) != self.sha256[path]:
            return False
        self.stamps[path] = now
        return True


def _hash(path: Path, name: str, sha256: Callable[[Path], str] = file_sha256) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", where=name) from None


def _changed(name: str) -> UserError:
    return UserError(
        "the file changed while it was read",
        where=name,
        hint="Wait until nothing writes to the file, then run the command again; nothing derived from it was kept.",
    )
