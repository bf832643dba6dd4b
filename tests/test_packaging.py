"""What pyproject.toml declares is what tests/versions.sh tests, and what the package's files say."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tests import versions
from tunewright.runs.environment import TESTED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_lowest_and_newest_are_read_from_pyproject():
    lowest, newest = versions.requirements("lowest"), versions.requirements("newest")
    bounds = versions.declared()
    assert f"transformers=={bounds['transformers'][0]}" in lowest and "transformers<6" in newest
    assert len(lowest) == len(newest) == len(bounds) - 1 + len(versions.RUNNERS)
    assert not any(word.startswith("torch") for word in [*lowest, *newest])
    assert TESTED.keys() <= versions.declared(()).keys()


def test_the_tests_of_versions_sh_exist():
    listed = [line for line in (ROOT / "tests" / "versions.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed and all((ROOT / line).exists() for line in listed)
    usage = subprocess.run(["bash", str(ROOT / "tests" / "versions.sh"), "oldest"], capture_output=True, text=True)
    assert usage.returncode == 2 and "[lowest|newest]" in usage.stderr


def test_every_extra_is_explained_where_people_install():
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    assert [extra for extra in PROJECT["optional-dependencies"] if f"`{extra}`" not in page] == []


def test_the_hooks_run_what_lint_and_types_run():
    import yaml

    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make types"]


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "tunewright", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--install-completion" in done.stdout
