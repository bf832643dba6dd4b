"""What a machine is told once."""

from tunewright.files import user_cache


def test_a_thing_is_new_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = [("a", "b"), ("a", "b"), ("a", "c"), ("ab",), ("a", "b")]
    assert [user_cache.is_first_time(*what) for what in asked] == [True, False, True, True, False]


def test_it_stays_new_where_nothing_can_be_remembered(monkeypatch, tmp_path):
    (tmp_path / "tunewright").write_text("a file, where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache.is_first_time("a") and user_cache.is_first_time("a")
    monkeypatch.setattr(user_cache, "cache_folder", lambda: None)
    assert user_cache.is_first_time("a")
