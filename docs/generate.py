"""Write what the documents say of the code from the code itself: the commands, the config keys, and the picture in docs/architecture.md.

python docs/generate.py            tests compare the files with what this writes
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.config.keys import Setting

DOCS = Path(__file__).parent
SOURCES = DOCS.parent / "src" / "tunewright"
COMMANDS_BEGIN = """Written by `python docs/generate.py` from the help of each command. Any [config key](keys.md) is also a `key=value` word of
`train`, `check`, `prepare`, `explain` and `config`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | done, but the result needs attention: findings of `check`, a failed check of `verify`, scores of `demo` that are too low |
| 2 | nothing was done: the input, the config or a file is wrong; the message says where, what was found, and what to do |
| 130, 143 | stopped by Ctrl-C or SIGTERM; the same command continues where it stopped |"""
KEYS_BEGIN = """Written by `python docs/generate.py` from the code. A key is written in YAML below its section, or as a `key=value` word on the command line
(`train.epochs=5`). `tunewright config --all` prints the same, `tunewright config --schema` a JSON Schema for editors. A key that the
chosen task, adapter or optimizer does not read is refused."""
WIDEST = 100
PYTHON_BEGIN = """Written by `python docs/generate.py` from the code. `import tunewright as tw`; names are imported when they are first used."""
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


def commands() -> str:
    """docs/reference/commands.md: the help of every verb."""
    parts = ["# Commands", "", COMMANDS_BEGIN, ""]
    for verb in verbs():
        parts += [f"## tunewright {verb}", "", "```text", output_of(*verb.split(), "--help"), "```", ""]
    return "\n".join(parts)


def keys() -> str:
    """docs/reference/keys.md: a table of the keys of each section."""
    from tunewright.config.keys import all_keys

    sections: dict[str, list[str]] = {}
    for key, settings in all_keys().items():
        section = key.rpartition(".")[0]
        sections.setdefault(section, []).extend(_row_of(key, setting) for setting in settings)
    parts = ["# Config keys", "", KEYS_BEGIN, ""]
    for section, rows in sorted(sections.items(), key=lambda item: item[0] == ""):
        parts += [f"## {section}" if section else "## Beside the sections", ""]
        parts += ["| key | default | values | read by | meaning |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(parts)


def _row_of(key: str, setting: Setting) -> str:
    from tunewright.config.schema import key_schema, values_in_words
    from tunewright.plugins import names

    field, owners = setting
    default = "required" if field.is_required() else field.get_default(call_default_factory=True)
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    values = {
        "task.name": ", ".join(["auto", *names("tasks")]), "adapter.name": ", ".join(["none", *names("adapters")])
    }.get(key) or values_in_words(key_schema(setting))  # fmt: skip
    reads = ", ".join(owners) or (
        "every run" if not key.startswith(("task.", "adapter.")) else f"every {key.split('.')[0]}"
    )
    meaning = str(field.description).replace("|", "\\|").replace("<", "&lt;")
    return f"| `{key}` | {shown} | {values} | {reads} | {meaning} |"


def python() -> str:
    """docs/reference/python.md: every public name with its signature and docstring."""
    import tunewright

    parts = ["# Python", "", PYTHON_BEGIN, ""]
    for name in sorted(tunewright.__all__, key=lambda one: (one[0].isupper(), one.lower())):
        found = getattr(tunewright, name)
        parts += [f"## tw.{name}", "", "```text", *_described(found), "```", ""]
    return "\n".join(parts)


def _described(found: Any) -> list[str]:
    """A function as it is written down, with its docstring; of a class its fields, public methods and properties too."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(found))).body[0]
    except (OSError, TypeError):  # a type alias
        return [str(found).replace("tunewright.", "")]
    if not isinstance(node, ast.ClassDef):
        return [*_written(node), "", *(inspect.getdoc(found) or "").splitlines()]
    lines = [f"class {node.name}", "", *(inspect.getdoc(found) or "").splitlines()]
    fields = [
        ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign) and not ast.unparse(one).startswith("_")
    ]
    lines += ["", *fields] if fields else []
    for one in node.body:
        doc = ast.get_docstring(one) if isinstance(one, ast.FunctionDef) else None
        if isinstance(one, ast.FunctionDef) and doc and not one.name.startswith("_"):
            is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
            result = f": {ast.unparse(one.returns)}" if one.returns else ""
            lines += ["", *([f".{one.name}{result}"] if is_property else _written(one, "."))]
            lines += [f"    {line}".rstrip() for line in doc.splitlines()]
    return lines


def _written(node: Any, before: str = "") -> list[str]:
    """A signature, a parameter a line where it is long."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    short = f"{before}{node.name}({ast.unparse(node.args)}){result}"
    if len(short) <= WIDEST:
        return [short]
    parameters = re.split(r", (?=\*?\*?\w+:|\*,)", ast.unparse(node.args))
    return [f"{before}{node.name}(", *(f"    {one}," for one in parameters), f"){result}"]


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


PAGES = {
    "reference/commands.md": commands,
    "reference/keys.md": keys,
    "reference/python.md": python,
    "architecture.md": architecture,
}
"""Path under docs -> what writes it."""

if __name__ == "__main__":
    from sections import sections

    (SOURCES / "config" / "sections.py").write_text(sections(), encoding="utf-8")
    for name, written in PAGES.items():
        (DOCS / name).write_text(written(), encoding="utf-8")
