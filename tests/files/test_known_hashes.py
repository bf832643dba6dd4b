"""A hash is remembered only for a file that is surely the same, and only where no later change could keep its stamp."""

import hashlib
import json
import os

import pytest

from tunewright.files import known_hashes
from tunewright.files.known_hashes import KnownHashes


@pytest.fixture
def settled(monkeypatch):
    """Every file counts as written long ago."""
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", -(10**12))


@pytest.fixture
def reads(monkeypatch):
    read, real = [], known_hashes.file_sha256
    monkeypatch.setattr(known_hashes, "file_sha256", lambda path: read.append(path.name) or real(path))
    return read


def test_a_file_is_read_once_over_two_starts(tmp_path, settled, reads):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    for _ in range(2):
        known = KnownHashes(tmp_path / "hashes.json")
        assert known.sha256(path) == hashlib.sha256(b"abc").hexdigest()
        known.save()
    assert reads == ["a.txt"]
    KnownHashes(tmp_path / "hashes.json", trusted=False).sha256(path)
    assert reads == ["a.txt"] * 2


def test_other_content_behind_the_same_size_and_time_is_read(tmp_path, settled):
    path, known = tmp_path / "a.txt", KnownHashes(tmp_path / "hashes.json")
    path.write_bytes(b"abc")
    found = path.stat()
    known.sha256(path)
    path.write_bytes(b"abd")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert known.sha256(path) == hashlib.sha256(b"abd").hexdigest()


def test_a_file_written_this_moment_is_not_remembered_unless_it_is_our_own(tmp_path, reads):
    path, known = tmp_path / "a.txt", KnownHashes(tmp_path / "hashes.json")
    path.write_bytes(b"abc")
    known.sha256(path), known.sha256(path)
    assert reads == ["a.txt"] * 2
    known.sha256_of_own(path), known.sha256(path)
    assert reads == ["a.txt"] * 3


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, settled, monkeypatch):
    path, known, real = tmp_path / "a.txt", KnownHashes(tmp_path / "hashes.json"), known_hashes.file_sha256
    path.write_bytes(b"abc")

    def grows(of):
        digest = real(of)
        of.write_bytes(b"abcd")
        return digest

    monkeypatch.setattr(known_hashes, "file_sha256", grows)
    known.sha256(path)
    known.save()
    assert not (tmp_path / "hashes.json").exists()


def test_files_that_are_gone_are_forgotten(tmp_path, settled):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(b"a"), second.write_bytes(b"b")
    known = KnownHashes(tmp_path / "hashes.json")
    known.sha256(first), known.sha256(second)
    first.unlink()
    known.save()
    assert list(json.loads((tmp_path / "hashes.json").read_text())["files"]) == [str(second)]


@pytest.mark.parametrize("change", [lambda text: "", lambda text: "[]", lambda text: text.replace("a.txt", "b.txt"), lambda text: "\udcff"])  # fmt: skip
def test_a_damaged_memory_is_none(tmp_path, settled, reads, change):
    path, memory = tmp_path / "a.txt", tmp_path / "hashes.json"
    path.write_bytes(b"abc")
    known = KnownHashes(memory)
    known.sha256(path)
    known.save()
    memory.write_bytes(change(memory.read_text()).encode("utf-8", "surrogateescape"))
    assert KnownHashes(memory).sha256(path) == hashlib.sha256(b"abc").hexdigest()
    assert reads == ["a.txt"] * 2
