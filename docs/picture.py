"""The picture of a terminal at work, for the README: a real run in a terminal of its own, drawn by rich.

python docs/picture.py        writes docs/_static/terminal.svg: the run as it stood after two thirds of its steps, and as it ended
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunewright.cli.demo import copied

COLUMNS = 118
COMMAND = ["train", "messages.csv"]
TARGET = Path(__file__).parent / "_static" / "terminal.svg"
_ERASED = re.compile(r".*(?:\x1b\[2K|\r(?!\n))", re.DOTALL)
_TAKEN_AWAY = re.compile(r"[^\n]*\r?\n\r?\x1b\[1A\x1b\[2K")
_MOVED = re.compile(r"\x1b\[\d*[A-HJ]|\x1b\[\?25[lh]")
_STEP = re.compile(r"training.* (\d+)/(\d+) steps")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        meanwhile, end = recorded(folder)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi("\n".join([f"$ tunewright {' '.join(COMMAND)}", *meanwhile, "  …", *end])))
    TARGET.parent.mkdir(exist_ok=True)
    drawn = re.sub(
        r"@font-face \{.*?\}", "", console.export_svg(title="tunewright"), flags=re.DOTALL
    )  # fonts of another host
    TARGET.write_text(drawn, encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


def recorded(folder: str) -> tuple[list[str], list[str]]:
    """(the lines on the screen after two thirds of the steps, the lines that came after the last step)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tunewright", *COMMAND],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment,
    )
    os.close(theirs)
    screen, meanwhile = "", ""
    while True:
        try:
            read = os.read(ours, 65536).decode(errors="replace")
        except OSError:  # the terminal is closed once nobody holds it
            break
        screen += read
        step = _STEP.findall(read)
        if step and not meanwhile and int(step[-1][0]) * 3 >= int(step[-1][1]) * 2:
            meanwhile = screen
    assert process.wait() == 0, screen
    end = lines_of(screen)
    last = max(number for number, line in enumerate(end) if _STEP.search(line))
    return lines_of(meanwhile), end[last:]


def lines_of(screen: str) -> list[str]:
    """What is left on a screen whose last line is redrawn in place."""
    screen = _TAKEN_AWAY.sub("", screen)
    lines = [_MOVED.sub("", _ERASED.sub("", line.rstrip("\r"))) for line in screen.split("\n")]
    return [line.rstrip() for line in lines if line.strip()]


if __name__ == "__main__":
    main()
