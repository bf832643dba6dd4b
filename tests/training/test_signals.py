"""Ctrl-C and SIGTERM: answered with a line, the command ends in seconds wherever it stands, and the same command continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.runs import train as run
from tunewright.runs.reporter import Interrupted, Reporter
from tunewright.runs.train import train
from tunewright.training import signals
from tunewright.training.signals import Stopped, handling_signals, saving, stop_signals


class Steps(Reporter):
    def __init__(self) -> None:
        self.numbers: list[int] = []

    def step(self, step, num_steps) -> None:
        self.numbers.append(step.number)


def test_a_signal_raises_where_the_main_thread_stands(capfd):
    with pytest.raises(Stopped) as raised, handling_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert raised.value.signal_number == signal.SIGTERM
    assert "stopping: SIGTERM" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_no_handler_for_errors_swallows_it():
    with pytest.raises(Stopped), handling_signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except Exception:
            pytest.fail("it is no error")


def test_in_a_loop_it_waits_for_the_end_of_the_step_and_in_an_evaluation_for_nothing():
    with pytest.raises(Stopped), stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert stop.signal_number == signal.SIGTERM
        with stop.at_once():
            pytest.fail("it came before")
    with pytest.raises(Stopped), stop_signals() as stop, stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)


def test_a_signal_that_no_loop_looked_at_is_not_lost():
    with pytest.raises(Stopped), stop_signals():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_long_step_is_broken_off_between_micro_batches(run_values, monkeypatch):
    """What it had computed is dropped: the checkpoint is that of the step before."""
    monkeypatch.setattr(signals, "_LONGEST_STEP_SECONDS", 0.0)
    values = {**run_values, "train": {**run_values["train"], "micro_batch_tokens": 48}}
    original, calls = run.training_steps, []

    def hurried(*args, **kwargs):
        for step in original(*args, **kwargs):
            calls.append(step.number)
            yield step
            if step.number == 3:
                os.kill(os.getpid(), signal.SIGTERM)  # behind the loop's look at it: within step 4

    monkeypatch.setattr(run, "training_steps", hurried)
    with pytest.raises(Interrupted, match="after step 3"):
        train(values)
    monkeypatch.undo()
    rest = Steps()
    done = train(values, reporter=rest)
    assert calls[-1] == 3 and rest.numbers[0] == 4
    assert (
        done.scores["test"]["metrics"] == train({**values, "output": f"{values['output']}-2"}).scores["test"]["metrics"]
    )


@pytest.mark.parametrize("which", [1, 2, 3], ids=["in the middle", "behind the last step", "final"])
def test_an_interrupted_evaluation_is_made_again_and_no_step(run_values, monkeypatch, which):
    """10 steps, an evaluation after 4, 8 and 10; then the final one."""
    values = {**run_values, "train": {**run_values["train"], "save_every": "never"}}
    values["evaluate"] = {**values["evaluate"], "every": 8}
    original, calls = run.evaluate_split, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == which:
            if which == 3:
                raise Stopped(signal.SIGTERM)  # the command line's handler: here nobody catches signals any more
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return original(*args, **kwargs)

    monkeypatch.setattr(run, "evaluate_split", interrupted)
    first = Steps()
    with pytest.raises(Interrupted):
        train(values, reporter=first)
    monkeypatch.undo()
    rest = Steps()
    done = train(values, reporter=rest)
    assert first.numbers + rest.numbers == list(range(1, done.num_steps + 1))
    straight = train({**values, "output": f"{values['output']}-2"})
    assert done.history == straight.history and done.verdict == straight.verdict
    one, other = (
        [(of["step"], of.get("split"), of["loss"]) for of in map(json.loads, (folder / "metrics.jsonl").open())]
        for folder in (done.folder, straight.folder)
    )
    assert one == other


_STUCK = """
import sqlite3
from tunewright.training import signals
signals._LONGEST_SECONDS = 1.0
from tunewright.cli import main
def run():
    print("ready", flush=True)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    sqlite3.connect(":memory:").execute(endless)
main.run = run
main.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_library_that_does_not_return_is_not_waited_for(number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    assert process.stderr.readline().startswith("stopping: ")
    answered = time.monotonic() - began
    assert process.wait(20) == code and answered < 1 and time.monotonic() - began < 5


def test_a_second_signal_ends_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK.replace("1.0", "60.0")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping: ")
    time.sleep(signals._FORWARDED_SECONDS + 0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 143


@pytest.mark.parametrize("rank", [None, "0"])
def test_a_signal_that_is_passed_on_a_second_time_is_one_wish(rank):
    """By a wrapper or a launcher, at once; also while the main thread is inside a library, where it sees neither."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **({} if rank is None else {"RANK": rank})},
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)  # the library is entered
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert process.wait(5) == 130


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_the_command_line_is_imported_ends_it_without_a_traceback(name, code, tmp_path):
    (tmp_path / "typer.py").write_text(
        f"import os, signal, time\nos.kill(os.getpid(), signal.{name})\ntime.sleep(30)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "tunewright", "--help"], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


_ORPHAN = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import time
from tunewright.training.signals import handling_signals
with handling_signals():
    print("ready", flush=True)
    time.sleep(60)
'''], env={**os.environ, "RANK": "1"})
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_rank_whose_launcher_is_gone_ends():
    launcher = subprocess.Popen([sys.executable, "-c", _ORPHAN], stdout=subprocess.PIPE, text=True)
    lines = {launcher.stdout.readline().strip(), launcher.stdout.readline().strip()}
    pid = int((lines - {"ready"}).pop())
    launcher.kill()
    launcher.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it goes on")


def test_saving_is_given_more_time():
    with saving():
        assert signals._state.is_saving
    assert not signals._state.is_saving
