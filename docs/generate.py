"""Write what the documents say of the code, from the code itself: docs/reference.md, and the picture in docs/architecture.md.

python docs/generate.py            tests compare both files with what this writes
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
SOURCES = DOCS.parent / "src" / "tunewright"
BEGIN, END = "<!-- begin: written by docs/generate.py -->", "<!-- end -->"


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


def room_of(path: Path) -> str:
    """`reading` for reading/split.py, `errors` for errors.py."""
    return path.relative_to(SOURCES).parts[0].removesuffix(".py")


def room_imports() -> dict[str, set[str]]:
    """Each folder or loose file of the package -> those that a file of it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        if path == SOURCES / "__init__.py":
            continue
        others = found.setdefault(room_of(path), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "tunewright":
                others |= {alias.name for alias in node.names if not alias.name.startswith("_")}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tunewright."):
                others.add(str(node.module).split(".")[1])
    return {room: others - {room} for room, others in found.items()}


def floors(imports: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by floors: each imports only from floors before its own, and from the one right before it. AssertionError for a circle."""
    left, below, found = dict(imports), set[str](), list[list[str]]()
    while left:
        floor = sorted(room for room, others in left.items() if others <= below)
        assert floor, f"a circle of imports between {', '.join(sorted(left))}"
        found.append(floor)
        below |= set(floor)
        for room in floor:
            del left[room]
    return found


def direct(room: str, imports: dict[str, set[str]]) -> list[str]:
    """What a room imports, without what those import too."""

    def reached(one: str) -> set[str]:
        return imports[one].union(*map(reached, imports[one]))

    return sorted(other for other in imports[room] if not any(other in reached(one) for one in imports[room]))


def sentence(room: str) -> str:
    """The first sentence of a room's docstring."""
    path = SOURCES / room / "__init__.py"
    text = ast.get_docstring(ast.parse((path if path.exists() else SOURCES / f"{room}.py").read_text(encoding="utf-8")))
    return re.split(r"(?<=\.)\s", (text or "").split("\n\n")[0].replace("\n", " "))[0]


def picture() -> str:
    """A table of the rooms, floor by floor: a room imports from the rooms of its last column, and from whatever those import."""
    imports = room_imports()
    lines = ["| floor | room | what it does | imports from |", "|---|---|---|---|"]
    for number, floor in enumerate(floors(imports)):
        for room in floor:
            name = f"`{room}/`" if (SOURCES / room).is_dir() else f"`{room}.py`"
            lines.append(f"| {number} | {name} | {sentence(room)} | {', '.join(direct(room, imports))} |")
    return "\n".join(lines)


def architecture() -> str:
    """docs/architecture.md with the picture as the code stands."""
    before, rest = (DOCS / "architecture.md").read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n\n{picture()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    (DOCS / "reference.md").write_text(reference(), encoding="utf-8")
    (DOCS / "architecture.md").write_text(architecture(), encoding="utf-8")
