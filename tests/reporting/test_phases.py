"""Phases say how far they are, and a line of progress fits into any width."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager

import pytest
from rich.cells import cell_len

from tunewright.reporting import display as displays
from tunewright.reporting import phases
from tunewright.reporting.display import LiveDisplay, PlainDisplay, line_of
from tunewright.reporting.phases import BYTES, Phase, phase, read_bytes, shown_by


class Recorded:
    """What a display is told."""

    def __init__(self):
        self.told = []

    def changed(self, current, ended):
        self.told.append((current and current.name, ended and ended.name))

    @contextmanager
    def paused(self):
        self.told.append("paused")
        yield


def halfway(name="encoding", total=1_000, unit="rows", done=500, seconds=10.0, **more):
    found = Phase(name, total, unit, **more)
    found.done, found.began = done, found.began - seconds
    return found


def test_a_display_is_told_which_phase_is_under_way():
    display = Recorded()
    with shown_by(display), phase("outer"):
        with phase("inner"):
            pass
        with phases.paused():
            pass
    assert display.told == [("outer", None), ("inner", None), ("outer", "inner"), "paused", (None, "outer")]


def test_an_error_ends_its_phases():
    display = Recorded()
    with pytest.raises(ValueError), shown_by(display), phase("outer"), phase("inner"):
        raise ValueError
    assert display.told[-1] == (None, "outer")
    assert phases._stack == []


def test_a_phase_of_another_thread_is_not_shown():
    display = Recorded()

    def work():
        with phase("elsewhere") as shown:
            shown.advance()

    with shown_by(display):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert display.told == []


def test_bytes_count_for_the_phase_that_counts_bytes():
    with phase("reading", 100, BYTES) as outer:
        read_bytes(40)
        with phase("encoding", 10) as inner:
            read_bytes(50)
    read_bytes(1)
    assert (outer.done, inner.done) == (40, 0)


def test_rate_and_time_left_count_from_where_this_process_began():
    shown = halfway(done=600, first=400)
    assert shown.rate == pytest.approx(20, rel=0.01)
    assert shown.seconds_left == pytest.approx(20, rel=0.01)
    assert halfway(total=None).seconds_left is None
    assert halfway(done=0).seconds_left is None


def test_the_line_says_name_count_rate_memory_and_time_left(monkeypatch):
    monkeypatch.setattr(displays, "_memory", lambda: 1.25)
    assert line_of(halfway()) == "encoding    500/1,000 rows  50 rows/s  1.2 GB  10s left"
    assert (
        line_of(halfway(unit=BYTES, total=200_000_000, done=40_000_000))
        == "encoding  40/200 MB  4.0 MB/s  1.2 GB  40s left"
    )
    assert line_of(halfway(total=None, done=0)) == "encoding  1.2 GB  10s"


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("name", ["training", "scoring validation", "baselines on 検証データの一覧"])
def test_a_narrow_screen_keeps_the_time_left(width, name):
    shown = halfway(name, 12_345, "steps", done=1_234, seconds=60.0)
    shown.detail = "epoch  0.50  loss 0.6123  lr 1.00e-04  5,120 tokens/s  padding 4%"
    line = line_of(shown, width)
    assert cell_len(line) <= width
    if width >= 40:
        assert line.endswith("9m00s left")
        assert "1,234/12,345 steps" in line


@pytest.mark.parametrize(("seconds", "shown"), [(42.4, "42s"), (187, "3m07s"), (7500, "2h05m")])
def test_clock(seconds, shown):
    assert displays.clock(seconds) == shown


def test_a_log_gets_a_line_every_few_seconds_and_the_last_one_of_training(monkeypatch):
    monkeypatch.setattr(PlainDisplay, "_every", 0.02)
    stream = io.StringIO()
    with shown_by(PlainDisplay(stream)), phase("training", 4, "steps") as shown:
        threading.Event().wait(0.2)
        shown.reached(4)
        shown.detail = "loss 0.5"
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[0].startswith("training  0/4 steps")
    assert "4/4 steps  loss 0.5" in lines[-1]
    assert not [one for one in threading.enumerate() if one.name == "tunewright-progress"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line_that_goes_away_for_others(monkeypatch):
    monkeypatch.setattr(LiveDisplay, "_every", 0.02)
    monkeypatch.setattr(displays, "_SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with shown_by(LiveDisplay(stream)), phase("encoding", 10):
        threading.Event().wait(0.2)
        with phases.paused():
            stream.write("a line\n")
        threading.Event().wait(0.1)
    drawn = stream.getvalue()
    assert "encoding" in drawn
    assert "a line\n" in drawn
    assert "\x1b[?25l" not in drawn, "a process that is killed would leave the cursor hidden"
    assert drawn.rstrip().endswith("\x1b[2K"), "the line is taken away at the end"


@pytest.mark.parametrize(
    ("wanted", "terminal", "shown"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_python_shows_progress_on_terminals_unless_told_otherwise(wanted, terminal, shown, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal() if terminal else io.StringIO())
    with displays.progress_shown(wanted) as is_shown:
        assert (is_shown, phases.is_shown()) == (shown, shown)
    assert not phases.is_shown()


def test_a_display_that_is_there_already_stays():
    display = Recorded()
    with shown_by(display), displays.progress_shown(True) as is_shown, phase("inner"):
        assert is_shown
    assert display.told[0] == ("inner", None)
