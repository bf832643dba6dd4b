"""What is written whole: under names that nobody foresees, and never through a link."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tunewright.files import atomic
from tunewright.files.atomic import new_file, whole_file, write_whole
from tunewright.reading.ledger import RejectFile


def test_a_link_in_the_place_of_the_file_is_replaced_and_what_it_points_to_left_alone(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    for name, write in (
        ("a.json", lambda path: write_whole(path, "new")),
        ("rejected.jsonl", lambda path: RejectFile(path).__enter__().__exit__()),
    ):
        path = tmp_path / name
        path.symlink_to(victim)
        write(path)
        assert not path.is_symlink() and victim.read_text() == "precious\n"


def test_a_temporary_name_that_is_taken_is_not_opened(tmp_path, monkeypatch):
    """Even where somebody guesses it, and puts a link there."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / ".tmp-a-guessed").symlink_to(victim)
    names = iter(["guessed", "guessed", "another"])
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: next(names))
    path, file = new_file(tmp_path, ".tmp-a-")
    file.close()
    assert path.name == ".tmp-a-another" and victim.read_text() == "precious\n"


def test_names_of_temporary_files_differ_from_time_to_time(tmp_path):
    seen = set()
    for _ in range(20):
        with whole_file(tmp_path / "a") as file:
            seen.add(Path(file.name).name if isinstance(file.name, str) else tuple(os.listdir(tmp_path)))
    assert len(seen) == 20 and secrets.token_hex is atomic.secrets.token_hex


def test_what_fails_while_it_is_written_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a") as file:
        file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    write_whole(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
