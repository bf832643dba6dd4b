"""The requirements that tests/versions.sh installs, read from pyproject.toml.

    python tests/versions.py lowest     accelerate==1.10.0 … onnx==1.19.0 …     each at its declared lower bound
    python tests/versions.py newest     accelerate … transformers<6 …           each as the index has it, below a declared limit
    python tests/versions.py tested     what is newer in this environment than the package says it was tested with; exit code 1

torch is left out: it is taken from constraints.txt, in the build for a CPU.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("demo", "track", "onnx")
RUNNERS = ("pytest", "pytest-xdist", "hypothesis", "seqeval", "jsonschema")
"""Of the extra `dev`: what the tests need to run, always at their newest."""
_DECLARED = re.compile(r"(?P<name>[\w.-]+)>=(?P<lowest>[\w.]+)(?:,<(?P<limit>[\w.]+))?")


def declared(extras: tuple[str, ...] = EXTRAS) -> dict[str, tuple[str, str | None]]:
    """Package -> (its lower bound, the version it stays below). ValueError for a requirement without a lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    found = {}
    for requirement in wanted:
        matched = _DECLARED.fullmatch(requirement.replace(" ", ""))
        if matched is None:
            raise ValueError(f"{requirement}: expected name>=version, or name>=version,<version")
        found[matched["name"]] = (matched["lowest"], matched["limit"])
    return found


def requirements(which: str) -> list[str]:
    """Words for `pip install`: `lowest` or `newest`."""
    bounds = {name: bound for name, bound in declared().items() if name != "torch"}
    if which == "lowest":
        return [*(f"{name}=={lowest}" for name, (lowest, _) in bounds.items()), *RUNNERS]
    return [*(f"{name}<{limit}" if limit else name for name, (_, limit) in bounds.items()), *RUNNERS]


def beyond_tested() -> list[str]:
    """`transformers 5.25.0 (tested up to 5.24)` for each that tests/versions.sh has just tried and the package does not know yet."""
    from tunewright.runs.environment import newer_than_tested

    return newer_than_tested()


def main() -> None:
    which = sys.argv[1]
    if which != "tested":
        print("\n".join(requirements(which)))
        return
    for line in beyond_tested():
        print(f"{line}: raise it in src/tunewright/runs/environment.py")
    sys.exit(bool(beyond_tested()))


if __name__ == "__main__":
    main()
