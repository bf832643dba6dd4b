"""Question: does a run that is killed (SIGKILL) at any moment end, with the same command, bit for bit as one that was left alone?

Six tasks x {every weight, LoRA, with rows set aside}. Each case is killed a few times at random moments of its life, or behind its last
step, then left alone to its end. Prints a line a case; exit code 1 where one differs or a folder is stuck.

    python benchmarks/kills.py --kills 200 --behind 40 --seed 1
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interrupted import Case, environment, make_cases, result_of, run_to_end


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=40, help="kills at any moment, over all cases")
    words.add_argument("--behind", type=int, default=8, help="kills behind the last step")
    words.add_argument("--rows", type=int, default=120, help="rows of a case")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="cases whose name holds this")
    asked = words.parse_args()
    chance = random.Random(asked.seed)
    wrong = num_kills = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        cases = [case for case in make_cases(Path(temporary), rows=asked.rows) if asked.only in case.name]
        for number, case in enumerate(cases):
            anywhere = _share(asked.kills, number, len(cases))
            behind = _share(asked.behind, number, len(cases))
            if anywhere + behind == 0:
                continue
            began = time.monotonic()
            run_to_end(case, case.config.parent / "straight" / "run")
            lasted = time.monotonic() - began
            told = _killed(case, anywhere, behind, lasted, chance)
            num_kills += anywhere + behind
            wrong += told != "same"
            print(f"{case.name:<26} {anywhere} kills, {behind} behind the last step: {told}", flush=True)
            shutil.rmtree(case.config.parent)
    print(f"{num_kills} kills, {len(cases)} cases: {wrong} wrong")
    return int(wrong > 0)


def _share(count: int, number: int, of: int) -> int:
    return count * (number + 1) // of - count * number // of


def _killed(case: Case, anywhere: int, behind: int, lasted: float, chance: random.Random) -> str:
    output, straight = case.config.parent / "killed" / "run", case.config.parent / "straight" / "run"
    last = sorted((straight / "checkpoints").glob("step-*"))[-1].name
    for place in chance.sample(["anywhere"] * anywhere + ["behind"] * behind, anywhere + behind):
        with open(case.config.parent / "log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, *case.command(output=output)], env=environment(), stderr=log, stdout=log
            )
            if place == "behind":
                while process.poll() is None and not (output / "checkpoints" / last).is_dir():
                    time.sleep(0.005)
                time.sleep(chance.random() * lasted / 4)
            else:
                time.sleep(chance.random() * lasted)
            process.kill()
            code = process.wait()
        if code not in (0, -9):
            return f"exit {code} after a kill: {(case.config.parent / 'log').read_text()[-600:]}"
    try:
        run_to_end(case, output)
    except SystemExit as stuck:
        return f"stuck: {stuck}"
    found, wanted = result_of(output), result_of(straight)
    return "same" if found == wanted else f"differs in {[key for key in wanted if found.get(key) != wanted[key]]}"


if __name__ == "__main__":
    sys.exit(main())
