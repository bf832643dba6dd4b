"""What the documents say is there: files, modules, links, config keys; and generated pages are what the code says."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tunewright.config.renamed import KEYS, VALUES

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "tunewright"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
SUFFIXES = {"csv", "jsonl", "tsv", "safetensors"}
ROOMS = {path.name for path in SOURCES.iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", ["reference/commands.md", "reference/keys.md", "reference/python.md", "architecture.md"]
)
def test_what_is_generated_is_what_the_code_says(generate, page):
    assert text_of(ROOT / "docs" / page) == generate.PAGES[page](), "run: python docs/generate.py"


def test_a_room_imports_only_from_floors_above_it(generate):
    imports = {"errors": set(), "files": {"errors"}, "reading": {"files", "errors"}}
    assert generate.floors(imports) == [["errors"], ["files"], ["reading"]]
    assert generate.direct("reading", imports) == ["files"]
    with pytest.raises(AssertionError, match="circle of imports between a, b"):
        generate.floors({"a": {"b"}, "b": {"a"}})


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_modules_named_in_a_document_exist(page):
    text = text_of(page)
    for link in re.findall(r"\]\(([^)#]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for room, path in re.findall(r"`(\w+)/([\w/.]*)`", text):
        if room in ROOMS and "NAME" not in path:
            found = SOURCES / room / path
            assert found.exists() or found.with_suffix(".py").exists(), f"{room}/{path}"
    for program in re.findall(r"benchmarks/\w+\.py", text):
        assert (ROOT / program).exists(), program


def test_the_changelog_names_every_renamed_key_and_value():
    rows = [line for line in text_of(ROOT / "CHANGELOG.md").splitlines() if line.startswith("| `")]
    pairs = [[re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")] for line in rows]
    moved = {old: new for olds, news in pairs if len(olds) == len(news) for old, new in zip(olds, news, strict=True)}
    assert {one.old: one.new for one in KEYS}.items() <= moved.items()
    for key, names in VALUES.items():
        assert [[key, *names], list(names.values())] in pairs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_config_keys_named_in_a_document_exist(page):
    keys = re.findall(r"^\| `((?:\w+\.)*\w+)` \|", text_of(ROOT / "docs" / "reference" / "keys.md"), re.MULTILINE)
    old = {one.old for one in KEYS} if page.name == "CHANGELOG.md" else set()
    sections = {key.split(".")[0] for key in keys if "." in key}
    for section, key in re.findall(r"`(\w+)\.([a-z_]+)(?=[=:`])", text_of(page)):
        if section in sections and key not in SUFFIXES and f"{section}.{key}" not in old:
            assert f"{section}.{key}" in keys, f"{section}.{key}"
