"""Question: is a first SIGINT or SIGTERM answered within a second and obeyed within ten, in every phase, and does the same command go on?

Signals in `train` (six tasks, plain, LoRA and with rows set aside), and in predict, evaluate, verify, export, check and prepare. Half of
those of `train` come at a random moment of its life, half within a function that a phase spends its time in (a call drawn among those
that the straight run made, a moment within its length): the shortest phases are met too. `fresh` is `train` as a process of its own,
met while it imports. For each: the phase (read off the main thread's stack when the signal arrives), seconds to the line
"stopping: …", seconds to the end, the exit code, and whether the same command then ends as one that was left alone, bit for bit.
Exit code 1 where one of them is not as it should be.

    python benchmarks/signals.py --signals 100 --seed 1
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from interrupted import Case, Command, import_everything, make_cases, result_of

PHASES = {
    "imports": "importlib",
    "baselines": "metrics.baselines tasks.clm:baselines tasks.mlm:baselines tasks.pairwise:baselines",
    "golden examples": "artifacts.golden_examples:record artifacts.golden_examples:write artifacts.golden_examples:texts "
    "artifacts.golden_examples:_by_length artifacts.golden_examples:__init__ artifacts.adapter_folder:_golden",
    "merging": "artifacts.adapter_folder:_merged artifacts.adapter_folder:_on_whole_base",
    "scores": "runs.train:_write_scores runs.train:_verdict artifacts.run_files:seal",
    "completing": "artifacts.adapter_folder:save_trained",
    "saving": "artifacts.adapter_folder:save_weights",
    "reading of the end": "evaluation.scores:complete evaluation.read_again",
    "final evaluation": "runs.train:_final_scores runs.train:_load_best runs.train:_finish",
    "checkpoint": "runs.train:_save runs.train:_save_state training.checkpoint:save training.checkpoint:save_state runs.train:_prune",
    "validation": "runs.train:_evaluate runs.train:_judge",
    "steps": "runs.train:_loop training.engine training.optimizer",
    "preflight": "training.preflight",
    "first files": "artifacts.adapter_folder:save_beginning runs.train:_write_beginnings runs.train:_open_trackers",
    "encoding": "preparation.encode",
    "reading": "preparation.first_pass",
    "loading": "prediction:load artifacts.adapter_folder:load_network runs.setup",
    "hashing": "files.atomic:file_sha256 reading.unchanged files.manifests training.fingerprint",
    "opening": "preparation.inputs runs.autoconfig runs.decision config.run_config config.load runs.resume preparation",
    "resuming": "runs.train:_resume",
    "of a finished run": "runs.train:_finished_before",
    "verify": "verification cli.verify",
    "export": "exporters cli.export",
    "evaluate": "evaluation.score_run cli.evaluate",
    "predict": "prediction cli.predict",
    "check": "runs.data_checks cli.check",
    "prepare": "cli.prepare",
    "train, else": "runs.train cli.train",
    "command line": "cli.main cli.options __main__",
}  # fmt: skip
"""Phase -> functions (`module:name`) and modules of ours; of those on the main thread's stack the first of this list tells the phase."""

AIMS = {
    "opening": "tunewright.preparation.inputs:open_inputs", "hashing": "tunewright.reading.unchanged:_hash",
    "reading": "tunewright.preparation.first_pass:first_pass", "encoding": "tunewright.preparation.encode:encode_splits",
    "loading": "tunewright.models.loading:_own_memory", "preflight": "tunewright.training.preflight:preflight",
    "first files": "tunewright.artifacts.adapter_folder:save_beginning", "steps": "tunewright.runs.train:Run._loop",
    "validation": "tunewright.runs.train:Run._evaluate", "checkpoint": "tunewright.training.checkpoint:save",
    "state": "tunewright.training.checkpoint:save_state", "saving": "tunewright.artifacts.adapter_folder:save_weights",
    "final evaluation": "tunewright.runs.train:Run._final_scores", "reading of the end": "tunewright.evaluation.scores:complete",
    "baselines": "tunewright.metrics.baselines:fitted", "golden examples": "tunewright.artifacts.golden_examples:record",
    "golden texts": "tunewright.artifacts.golden_examples:_by_length", "merging": "tunewright.artifacts.adapter_folder:_merged",
    "completing": "tunewright.artifacts.adapter_folder:save_trained", "scores": "tunewright.runs.train:_write_scores",
}  # fmt: skip
"""What is aimed at -> the function, as `module:name`."""

VERBS = ("predict", "evaluate", "verify", "export", "check", "prepare")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--signals", type=int, default=30)
    words.add_argument("--rows", type=int, default=60)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cases whose name holds one of these, set apart by semicolons")
    words.add_argument(
        "--verbs", default="train;train;other", help="in turn: train, other (drawn), fresh, or a verb's name"
    )
    words.add_argument(
        "--aim", default="", help="phases, set apart by semicolons: each train's signal comes in the one least met"
    )
    asked = words.parse_args()
    if unknown := [name for name in asked.aim.split(";") if name and name not in AIMS]:
        words.error(f"nothing aims at {unknown[0]!r}: choose from {', '.join(AIMS)}")
    import_everything()
    folder = Path(
        tempfile.mkdtemp(prefix="signals-")
    )  # a TemporaryDirectory would be removed at the end of every forked process
    try:
        return _run(asked, folder)
    finally:
        shutil.rmtree(folder)


def _run(asked: argparse.Namespace, folder: Path) -> int:
    chance, phases, wrong = random.Random(asked.seed), Counter[str](), 0
    cases = make_cases(folder, rows=asked.rows)
    cases = [case for case in cases if any(name in case.name for name in asked.only.split(";"))]
    trials = [_Signalling(case, chance) for case in cases[: max(1, asked.signals // 4)]]
    turns, wanted, aimed = asked.verbs.split(";"), [name for name in asked.aim.split(";") if name], Counter[str]()
    for number in range(asked.signals):
        trial, verb = trials[number % len(trials)], turns[number // len(trials) % len(turns)]
        if verb == "other":
            verb = chance.choice(VERBS)
        known = [name for name in wanted or AIMS if name in trial.calls]
        aim = min(known, key=lambda name: aimed[name], default=None)
        if verb != "train" or not (wanted or chance.random() < 0.6):
            aim = None
        aimed[str(aim)] += 1
        told, phase = trial.once(verb, aim)
        phases[f"{verb}: {phase}"] += 1
        good = told.endswith(("same", "over before the signal"))
        wrong += not good
        print(f"{verb:<9}{trial.case.name:<27}{phase:<22}{told}", flush=True)
        if not good:
            print(trial.log.read_text()[-1500:], flush=True)
    print("\n".join(f"{count:>4}  {phase}" for phase, count in phases.most_common()))
    print(f"{asked.signals} signals, {wrong} wrong")
    return int(wrong > 0)


class _Signalling:
    """A case, and what its commands do when they are left alone."""

    def __init__(self, case: Case, chance: random.Random) -> None:
        self.case, self.chance, self.folder = case, chance, case.config.parent
        self.log, self.told, self.straight = self.folder / "log", self.folder / "told", self.folder / "straight" / "run"
        self.known: dict[str, tuple[float, Any]] = {}
        calls = self.folder / "calls"
        self._finish("train", self.straight, lambda: _watch_calls(calls))
        self.calls: dict[str, list[float]] = {}
        for line in calls.read_text(encoding="utf-8").splitlines():
            name, seconds = json.loads(line)
            self.calls.setdefault(name, []).append(seconds)

    def once(self, verb: str, aim: str | None) -> tuple[str, str]:
        """(what happened, the phase)."""
        chance, output = self.chance, self.folder / "signalled" / "run"
        shutil.rmtree(output.parent, ignore_errors=True)
        if verb not in self.known:
            self._finish(
                verb, self.folder / f"alone-{verb}" / "run", lambda: self._begin(verb) if verb == "fresh" else None
            )
        lasted, wanted = self.known[verb]
        number = chance.choice([signal.SIGINT, signal.SIGTERM])
        self.told.write_text("")
        if aim in self.calls:
            call = chance.randrange(len(self.calls[aim]))
            delay = chance.choice([0.0, chance.random() * self.calls[aim][call]])

            def before() -> None:
                _tell_phase(self.told, aim)
                _signal_within(AIMS[str(aim)], call, delay, number, self.told)

            process = Command(self._words(verb, output), self.log, before)
        else:
            process = Command(self._words(verb, output), self.log, lambda: self._begin(verb))
            moment = lasted - self.known["train"][0] if verb == "fresh" else 0.9 * lasted
            if process.wait(chance.random() * moment) is None:
                _write(self.told, "sent")
                process.send(number)
        code = process.wait(60)
        ended = time.monotonic()
        if code is None:
            process.send(signal.SIGKILL)
            return "DOES NOT END", "?"
        at = {line["what"]: line for line in map(json.loads, self.told.read_text().splitlines())}
        if "sent" not in at:
            return f"exit {code}: {'over before the signal' if code in (0, 1) else 'FAILED'}", "over before"
        sent = at["sent"]["at"]
        unseen = "imports, before ours" if verb == "fresh" else "before or behind ours"
        phase = at["answered"]["phase"] if "answered" in at else unseen
        if phase == "other":
            phase = f"other: {at['answered']['at_function']}"
        told = f"exit {code:<4} ended {ended - sent:5.2f} s  "
        if "answered" in at:
            told += f"answered {at['answered']['at'] - sent:5.2f} s  "
            if at["answered"]["at"] - sent > 1 or ended - sent > 10:
                return told + "TOO LATE", phase
        if code not in (128 + number, -number):
            return told + ("WRONG CODE" if code or "answered" in at else "over before the signal"), phase
        try:
            return told + ("same" if self._finish(verb, output) == wanted else "DIFFERS"), phase
        except SystemExit as stuck:
            return f"{told}STUCK {stuck}", phase

    def _finish(self, verb: str, output: Path, before: Callable[[], None] = lambda: None) -> Any:
        """The command left alone: what it made. SystemExit where it fails."""
        began = time.monotonic()
        code = Command(self._words(verb, output), self.log, before).wait()
        if code not in (0, 1):
            raise SystemExit(f"{self.case.name}: {verb}: exit {code}\n{self.log.read_text()[-2000:]}")
        made = result_of(output) if verb in ("train", "fresh") else {"code": code, **_hashes(output)}
        self.known.setdefault(verb, (time.monotonic() - began, made))
        return made

    def _begin(self, verb: str) -> None:
        """In the command's process, before it begins: tell phases; of `fresh`, in an interpreter that has imported nothing."""
        if verb == "fresh":
            code = "import sys, pathlib, signals; signals.begin_anew(pathlib.Path(sys.argv.pop(1)))"
            os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
            os.execv(sys.executable, [sys.executable, "-c", code, str(self.told), *sys.argv[1:]])
        _tell_phase(self.told)

    def _words(self, verb: str, output: Path) -> list[str]:
        """The command of a verb, on the finished run where it wants one."""
        run, data = str(self.straight), str(self.folder / "data.jsonl")
        if verb == "predict":
            output.parent.mkdir(exist_ok=True)
            return ["predict", run, "--file", data, "--skip-bad-rows", "-o", str(output.with_name("predicted.jsonl"))]
        if verb == "evaluate":
            return ["evaluate", run, data]
        if verb == "export":
            return ["export", run, "--to", "merged", "-o", str(output)]
        if verb == "verify":
            return ["verify", run]
        if verb in ("check", "prepare"):
            return [verb, str(self.case.config), f"output={output}"]
        return self.case.command(output=output)


def _hashes(output: Path) -> dict[str, str]:
    """Of all that stands beside and in an output, but for what is found again in the store."""
    files = [path for path in sorted(output.parent.rglob("*")) if path.is_file() and ".store" not in str(path)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.suffix != ".lock"}


# What runs in the command's process


def _write(told: Path, what: str, **facts: str) -> None:
    with told.open("a") as file:
        file.write(json.dumps({"what": what, "at": time.monotonic(), **facts}) + "\n")


def begin_anew(told: Path) -> None:
    """`tunewright WORDS`, from its first import on."""
    from tunewright.__main__ import main as command

    _tell_phase(told)
    command()


def _tell_phase(told: Path, aim: str | None = None) -> None:
    """Tell what the main thread was doing when a signal is answered."""
    from tunewright.training import signals

    main_thread, tell = threading.main_thread().ident, signals._print_line

    def telling(line: str) -> None:
        if line.startswith("stopping: "):
            frame = sys._current_frames().get(main_thread or 0)
            _write(told, "answered", phase=_phase(frame, aim), at_function=_innermost(frame))
        tell(line)

    signals._print_line = telling


def _phase(frame: FrameType | None, aim: str | None) -> str:
    """aim: the phase where the function aimed at has been called, and has not begun."""
    found: set[str] = set()
    while frame is not None:
        name, function = _name(frame), frame.f_code.co_name
        if function == "aimed_at" and aim and not found:
            return aim
        if name and name != "training.signals":
            found |= {name, f"{name}:{function}"}
        frame = frame.f_back
    return next((phase for phase, names in PHASES.items() if found & set(names.split())), "other")


def _name(frame: FrameType) -> str:
    """A module of ours without the package's name, "importlib", or nothing."""
    module = str(frame.f_globals.get("__name__"))
    if module == "importlib._bootstrap":
        return "importlib"
    return module.removeprefix("tunewright.") if module.startswith("tunewright.") else ""


def _innermost(frame: FrameType | None) -> str:
    while frame is not None and _name(frame) in ("", "training.signals", "importlib"):
        frame = frame.f_back
    return "" if frame is None else f"{_name(frame)}:{frame.f_code.co_name}"


def _signal_within(aim: str, call: int, delay: float, number: int, told: Path) -> None:
    """Send this process a signal `delay` seconds after a function was called for the time of that number, from 0."""
    seen = iter(range(call))

    def send() -> None:
        _write(told, "sent")
        os.kill(os.getpid(), number)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def aimed_at(*args: Any, **kwargs: Any) -> Any:
            if next(seen, None) is None and not told.read_text():
                timer = threading.Timer(delay, send)
                timer.daemon = True
                timer.start() if delay else send()
            return function(*args, **kwargs)

        return aimed_at

    _replace(aim, wrap)


def _watch_calls(into: Path) -> None:
    """Write a line for every call of what is aimed at: [its name, seconds]."""
    for name, aim in AIMS.items():

        def wrap(function: Callable[..., Any], name: str = name) -> Callable[..., Any]:
            @functools.wraps(function)
            def timed(*args: Any, **kwargs: Any) -> Any:
                began = time.monotonic()
                try:
                    return function(*args, **kwargs)
                finally:
                    with into.open("a") as file:
                        file.write(json.dumps([name, time.monotonic() - began]) + "\n")

            return timed

        _replace(aim, wrap)


def _replace(aim: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Another function in the place of one, wherever a module of ours has imported it."""
    module, _, name = aim.partition(":")
    owner = importlib.import_module(module)
    *outer, name = name.split(".")
    for one in outer:
        owner = getattr(owner, one)
    function = getattr(owner, name)
    wrapped = wrap(function)
    setattr(owner, name, wrapped)
    for loaded in [one for key, one in sys.modules.items() if key.startswith("tunewright")]:
        if vars(loaded).get(name) is function:
            setattr(loaded, name, wrapped)


if __name__ == "__main__":
    sys.exit(main())
