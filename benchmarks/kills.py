"""Question: does a run that is killed (SIGKILL) at any moment end, with the same command, bit for bit as one that was left alone?

Six tasks x {every weight, LoRA, with rows set aside}. Each case is killed a few times, then left alone to its end: at random moments of
its life, before a random one of the operations on files that the straight run made (a rename, a removal, a file opened to be written),
and behind its last step. A run that came to its end before its kill is compared too, and begun anew.
Prints a line a case; exit code 1 where one differs or a folder is stuck.

    python benchmarks/kills.py --kills 200 --behind 40 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from interrupted import Case, Command, import_everything, make_cases, result_of, run_to_end

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPERATIONS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=40, help="kills at any moment, over all cases")
    words.add_argument("--behind", type=int, default=8, help="kills behind the last step")
    words.add_argument("--rows", type=int, default=60, help="rows of a case")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cases whose name holds one of these, set apart by semicolons")
    asked = words.parse_args()
    import_everything()
    chance = random.Random(asked.seed)
    wrong, kills = 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        cases = make_cases(Path(temporary), rows=asked.rows)
        cases = [case for case in cases if any(name in case.name for name in asked.only.split(";"))]
        for number, case in enumerate(cases):
            anywhere, behind = _share(asked.kills, number, len(cases)), _share(asked.behind, number, len(cases))
            if anywhere + behind == 0:
                continue
            killing = _Killing(case, chance)
            told = killing.killed(anywhere, behind)
            kills += killing.kills
            wrong += told != "same"
            print(f"{case.name:<26} {dict(killing.kills)}, a straight run {killing.lasted:.1f} s: {told}", flush=True)
            shutil.rmtree(case.config.parent)
    print(f"{kills.total()} kills ({dict(kills)}), {len(cases)} cases: {wrong} wrong")
    return int(wrong > 0)


def _share(count: int, number: int, of: int) -> int:
    return count * (number + 1) // of - count * number // of


class _Killing:
    """A case, its straight run, and the run that is killed."""

    def __init__(self, case: Case, chance: random.Random) -> None:
        self.case, self.chance, self.kills = case, chance, Counter[str]()
        folder = case.config.parent
        self.output, self.straight, self.log = folder / "killed" / "run", folder / "straight" / "run", folder / "log"
        counted = folder / "operations"
        began = time.monotonic()
        code = Command(case.command(output=self.straight), self.log, lambda: _count_operations(counted)).wait()
        if code:
            raise SystemExit(f"{case.name}: exit {code}\n{self.log.read_text()[-2000:]}")
        self.lasted, self.num_operations = time.monotonic() - began, len(counted.read_bytes())
        self.last = sorted((self.straight / "checkpoints").glob("step-*"))[-1].name
        self.wanted = result_of(self.straight)

    def killed(self, anywhere: int, behind: int) -> str:
        """ "same", or what was wrong."""
        places = ["at a moment"] * (anywhere - anywhere // 2) + ["at an operation"] * (anywhere // 2)
        places += ["behind the last step"] * behind
        for place in self.chance.sample(places, len(places)):
            code = None
            for _ in range(20):  # until one is met before its end
                code = self._kill(place)
                if code == -signal.SIGKILL:
                    break
                if code:
                    return f"exit {code} after a kill: {self.log.read_text()[-1500:]}"
                if (told := self._compared()) != "same":
                    return told
                shutil.rmtree(self.output.parent)
            self.kills[place if code else "too late"] += 1
        try:
            run_to_end(self.case, self.output)
        except SystemExit as stuck:
            return f"stuck: {stuck}"
        return self._compared()

    def _kill(self, place: str) -> int | None:
        command, chance = self.case.command(output=self.output), self.chance
        if place == "at an operation":
            number = chance.randrange(self.num_operations)
            return Command(command, self.log, lambda: _end_at_operation(number)).wait()
        process = Command(command, self.log)
        if place == "at a moment":
            process.wait(chance.random() * self.lasted)
        else:
            while process.poll() is None and not (self.output / "checkpoints" / self.last).is_dir():
                time.sleep(0.002)
            process.wait(chance.random() * self.lasted / 3)
        process.send(signal.SIGKILL)
        return process.wait()

    def _compared(self) -> str:
        found, wanted = result_of(self.output), self.wanted
        return "same" if found == wanted else f"differs in {[key for key in wanted if found.get(key) != wanted[key]]}"


def _is_operation(event: str, words: tuple[Any, ...]) -> bool:
    if event == "open":
        return isinstance(words[2], int) and bool(words[2] & _WRITING) and words[0] != os.devnull
    return event in _OPERATIONS


def _count_operations(into: Path) -> None:
    """A byte for every operation on a file that comes."""
    file = os.open(into, os.O_CREAT | os.O_WRONLY)
    sys.addaudithook(lambda event, words: _is_operation(event, words) and os.write(file, b"."))


def _end_at_operation(number: int) -> None:
    """Die before the operation of that number, from 0."""
    seen = iter(range(number))

    def look(event: str, words: tuple[Any, ...]) -> None:
        if _is_operation(event, words) and next(seen, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


if __name__ == "__main__":
    sys.exit(main())
