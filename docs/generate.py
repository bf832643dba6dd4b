"""Write docs/reference.md: the help of every verb and every config key, from the code itself.

python docs/generate.py            a test compares the file with what this prints
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def verbs() -> list[str]:
    """Every verb of the command line, in the order of its help; `tokenizer` by its own verbs."""
    from typer.main import get_command

    from tunewright.cli.main import app

    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"{name} {verb}" for verb in inner] if inner else [name]
    return found


def output_of(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tunewright.cli.main", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return done.stdout.replace("python -m tunewright.cli.main", "tunewright").rstrip()


def reference() -> str:
    parts = [
        "# Reference",
        "",
        "Written by `python docs/generate.py`. Any config key is also a `key=value` word on the command line.",
        "",
    ]
    for verb in verbs():
        parts += [f"## tunewright {verb}", "", "```text", output_of(*verb.split(), "--help"), "```", ""]
    parts += ["## Config keys", "", "```text", output_of("config", "--all"), "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("reference.md").write_text(reference(), encoding="utf-8")
