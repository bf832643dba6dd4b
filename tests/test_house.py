"""The house keeps its order: each room imports only from those before it, and nothing does what we never do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import tunewright

ROOT = Path(tunewright.__file__).parent
ROOMS = [
    [
        "errors",
        "paths",
        "hints",
        "records",
        "section",
        "atomic",
        "environment",
        "value_types",
        "yaml_words",
        "manifests",
        "run_files",
    ],
    ["plugins"],
    ["reading"],
    ["text"],
    ["models.rows", "models.shapes", "models.foreign", "models.source", "models.memory", "models.presets"],
    ["tokens"],
    ["models"],
    ["adapters"],
    ["losses"],
    ["metrics"],
    ["writing"],
    ["tasks"],
    ["training.config"],
    ["config"],
    ["prepare"],
    ["training"],
    ["best_metric", "fit", "baseline"],
    ["decision", "evaluation", "read_again", "explain", "findings", "guess", "origin", "resume"],
    ["saved", "ready", "golden", "adapted"],
    ["report"],
    ["predict"],
    ["assembly", "events"],
    ["run", "scoring", "export", "verify"],
    ["flow"],
    ["demos", "cli", "__main__"],
]


def floor(module: str) -> int:
    """The place of a module in the order; a longer name wins (`models.rows` before `models`)."""
    matches = [
        (len(name), number)
        for number, names in enumerate(ROOMS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert matches, f"{module} has no place in the house: add it to ROOMS"
    return max(matches)[1]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tunewright"):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {
                name
                if (ROOT / Path(*name.split(".")[1:]).with_suffix(".py")).exists()
                or (ROOT / Path(*name.split(".")[1:])).is_dir()
                else node.module
                for name in inner
            }
    return {name.removeprefix("tunewright").lstrip(".") for name in found} - {""}


def test_rooms_import_only_from_rooms_before_them():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "__init__":
            continue
        wrong += [f"{module} imports {other}" for other in imports_of(path) if floor(other) > floor(module)]
    assert not wrong, "\n".join(wrong)


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
