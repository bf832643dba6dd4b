"""Question: is a first SIGINT or SIGTERM answered within a second and obeyed within ten, in every phase, and does the same command go on?

Signals at random moments of `train` (three tasks, plain and LoRA), and of predict, evaluate, verify, export and check. For each: the phase
(read off the main thread's stack when the signal arrives), seconds to the line "stopping: …", seconds to the end, the exit code, and for
`train` whether the rerun ends bit for bit as a run that was left alone. Exit code 1 where one of them is not as it should be.

    python benchmarks/signals.py --signals 100 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from interrupted import Case, environment, make_cases, result_of, run_to_end

PHASES = {
    "file_sha256": "hashing", "survey_rows": "reading", "encode_splits": "encoding", "match_tokenizer": "encoding",
    "open_inputs": "opening", "build_model": "loading the model", "load_network": "loading the model", "preflight": "preflight",
    "save_beginning": "first files", "save_weights": "saving the model", "_merged": "merging", "_golden": "golden examples",
    "_save": "checkpoint", "_save_state": "checkpoint", "_evaluate": "validation", "add_baselines": "baselines",
    "_final_scores": "final evaluation", "save_trained": "completing the model", "training_steps": "steps", "_loop": "steps",
    "verify": "verify", "export_run": "export", "evaluate": "evaluate", "find_problems": "check", "load": "loading",
    "_find_and_load": "imports",
}  # fmt: skip
"""A function on the main thread's stack -> the phase; of several the first of this list. The innermost would be a library's."""
PHASE = "phase: "


def child() -> int:
    """Stands for `tunewright` in a process of its own; tells the phase when a signal is answered."""
    from tunewright.cli import main
    from tunewright.training import signals

    main_thread, tell = threading.main_thread().ident, signals._tell

    def told(line: str) -> None:
        if line.startswith("stopping: "):  # the phase first: the main thread may have ended the process behind the line
            tell(PHASE + _phase(sys._current_frames().get(main_thread or 0)))
        tell(line)

    signals._tell = told
    sys.argv = ["tunewright", *sys.argv[2:]]
    main.main()
    return 0


def _phase(frame: FrameType | None) -> str:
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return next((phase for name, phase in PHASES.items() if name in names), "other")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--signals", type=int, default=30)
    words.add_argument("--rows", type=int, default=240)
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    chance, phases, wrong = random.Random(asked.seed), Counter[str](), 0
    wanted = ("classification, full", "classification, lora", "ner, full", "sft, lora")
    with tempfile.TemporaryDirectory(prefix="signals-") as temporary:
        cases = [case for case in make_cases(Path(temporary), rows=asked.rows) if case.name in wanted]
        lasted: dict[str, float] = {}
        for number in range(asked.signals):
            case = cases[number % len(cases)]
            straight = case.config.parent / "straight" / "run"
            if not straight.exists():
                began = time.monotonic()
                run_to_end(case, straight)
                lasted[case.name] = time.monotonic() - began
            verb = "train" if number % 2 == 0 else chance.choice(["train", *_OTHERS])
            output = case.config.parent / f"{number}" / "run"
            command = case.command(output=output)[2:] if verb == "train" else _other(verb, case, straight, output)
            seconds = lasted[case.name] if verb == "train" else min(8.0, lasted[case.name])
            phase, answered, ended, code, log = _signalled(command, 1.0 + chance.random() * seconds, chance)
            same = "finished" if code == 0 else "-"
            if verb == "train" and code != 0:
                try:
                    run_to_end(case, output)
                    same = "same" if result_of(output) == result_of(straight) else "DIFFERS"
                except SystemExit as stuck:
                    same = f"STUCK {stuck}"
            good = code == 0 or (code in (130, 143) and answered < 1 and ended < 10 and same in ("same", "-"))
            wrong += not good
            phases[f"{verb}: {phase}"] += 1
            print(
                f"{verb:<9}{case.name:<22}{phase:<22}answered {answered:5.2f} s  ended {ended:5.2f} s  exit {code:<4}{same}",
                flush=True,
            )
            if not good:
                print(log[-1500:], flush=True)
            shutil.rmtree(output.parent, ignore_errors=True)
    print("\n".join(f"{count:>4}  {phase}" for phase, count in phases.most_common()))
    print(f"{asked.signals} signals, {wrong} wrong")
    return int(wrong > 0)


_OTHERS = ("predict", "evaluate", "verify", "export", "check", "prepare")


def _other(verb: str, case: Case, run: Path, output: Path) -> list[str]:
    """The command of another verb on the finished run."""
    data = str(case.config.parent / "data.jsonl")
    if verb == "predict":
        return ["predict", str(run), "--file", data]
    if verb == "evaluate":
        return ["evaluate", str(run), data]
    if verb == "export":
        return ["export", str(run), "--to", "merged", "-o", str(output)]
    if verb in ("check", "prepare"):
        return [verb, str(case.config), f"output={output}"]
    return ["verify", str(run)]


def _signalled(command: list[str], after: float, chance: random.Random) -> tuple[str, float, float, int, str]:
    """(phase, seconds to the answer, seconds to the end, exit code, what was printed on stderr)."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", *command],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    at: dict[str, float] = {}

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if line.startswith("stopping: "):
                at.setdefault("answered", time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        sent = time.monotonic()
        process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
        code = process.wait()
        ended = time.monotonic() - sent
        reader.join()
        phase = next(
            (line.removeprefix(PHASE).strip() for line in lines if line.startswith(PHASE)),
            "before the first line of ours",
        )
        if code < 0:  # Python itself was still starting
            code = 128 - code
            at.setdefault("answered", sent)
        return phase, at.get("answered", float("inf")) - sent, ended, code, "".join(lines)
    reader.join()
    return "over already", 0.0, 0.0, process.returncode, "".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(child() if sys.argv[1:2] == ["--child"] else main())
