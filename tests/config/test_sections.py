"""The types of the keyword arguments are those of the config's fields."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tunewright.config import sections

ROOT = Path(__file__).parents[2]


def test_the_sections_are_written_from_the_fields():
    spec = spec_from_file_location("sections", ROOT / "docs" / "sections.py")
    if spec is None or spec.loader is None or not (ROOT / "docs" / "sections.py").is_file():
        pytest.skip("no docs beside the tests")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path(sections.__file__).read_text(encoding="utf-8") == module.sections(), "run: python docs/generate.py"
