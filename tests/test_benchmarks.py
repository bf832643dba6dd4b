"""Benchmarks name functions of the package: a renamed one is found here, and not in the middle of an hour's run."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def signals(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("signals")
    for name in ("signals", "interrupted"):
        sys.modules.pop(name, None)


def test_what_signals_aims_at_exists(signals):
    for place in signals.AIMS.values():
        module, _, names = place.partition(":")
        found = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
        assert callable(found)


def test_the_phases_of_signals_are_modules_and_functions_of_ours(signals):
    for places in signals.PHASES.values():
        for place in filter(lambda one: one != "importlib", places.split()):
            module, _, name = place.partition(":")
            tree = ast.parse(inspect.getsource(importlib.import_module(f"tunewright.{module}")))
            functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert not name or name in functions, place
