"""The house keeps its order: each room imports only from those before it, and nothing does what we never do."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import tunewright

ROOT = Path(tunewright.__file__).parent
ROOMS = [
    "errors",
    "reporting",
    "hints",
    "records",
    "plugins",
    "files",
    "settings",
    "reading",
    "pretrained",
    "chat",
    "annotations",
    "tokenization",
    "tokenizer_tools",
    "batching",
    "encoding",
    "execution",
    "models",
    "losses",
    "metrics",
    "adapters",
    "generation",
    "tasks",
    "training",
    "config",
    "preparation",
    "artifacts",
    "exporters",
    "prediction",
    "evaluation",
    "runs",
    "verification",
    "cli",
    "demos",
    "testing",
    "__main__",
]
"""Each folder or file of the package once: it imports only from those before it."""


def floor(module: str) -> int:
    """The place of a module's folder in the order."""
    room = module.split(".")[0]
    assert room in ROOMS, f"{room} has no place in the house: add it to ROOMS"
    return ROOMS.index(room)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    modules = {name_of(other) for other in ROOT.rglob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tunewright":
            base = (node.module or "").removeprefix("tunewright").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in modules else base)
        elif isinstance(node, ast.Import):
            names = (alias.name.removeprefix("tunewright.") for alias in node.names)
            found |= {name for name in names if name in modules}
    return found - {""}


@cache
def graph() -> dict[str, set[str]]:
    return {name_of(path): imports_of(path) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The names of one circle; empty where there is none."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        found = next(filter(None, (search(other, [*path, name]) for other in sorted(edges.get(name, ())))), [])
        done.add(name)
        return found

    return next(filter(None, (search(name, []) for name in sorted(edges))), [])


def test_no_room_is_listed_twice_and_each_exists():
    assert len(set(ROOMS)) == len(ROOMS)
    there = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert there - {"__init__"} == set(ROOMS)


def test_at_most_ten_files_are_loose():
    assert len(list(ROOT.glob("*.py"))) <= 10


def test_rooms_import_only_from_rooms_before_them():
    wrong = [
        f"{name} imports {other}" for name, others in graph().items() for other in others if floor(other) > floor(name)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_circle_of_imports_between_files_or_folders():
    files = graph()
    assert not circle(files)
    rooms: dict[str, set[str]] = {}
    for name, others in files.items():
        room = name.split(".")[0]
        rooms.setdefault(room, set()).update({other.split(".")[0] for other in others} - {room})
    assert not circle(rooms)


def test_the_fast_path_of_a_cpu_is_imported_by_its_door_alone():
    inside = "execution.cpu"
    users = {
        name: {other for other in others if (other + ".").startswith(inside + ".")}
        for name, others in graph().items()
        if not (name + ".").startswith(inside + ".")
    }
    assert {name: others for name, others in users.items() if others} == {"execution": {inside}}


def test_every_module_opens_with_its_place():
    without = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not without


def test_no_pickle_no_remote_code_no_unsafe_loading():
    forbidden = re.compile(
        r"import pickle|pickle\.load|torch\.load\(|torch\.save\(|trust_remote_code=True|yaml\.load\("
    )
    assert not [str(path) for path in ROOT.rglob("*.py") if forbidden.search(path.read_text(encoding="utf-8"))]
