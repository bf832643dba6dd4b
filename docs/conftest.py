"""Every code block of these pages runs: `make docs-test`.

A page has a folder of its own with the files that its first lines name. Blocks run in order:

    ```console   each line is a command; `tunewright` is this installation's. Exit codes other than 0 are said in the block: `# exit code 1`
    ```python    shares its names with the page's other Python blocks
    ```yaml, ```csv, ```json, …   below a line that is only a file's name in backticks and a colon (`rows.csv`:): the file is written

A block below `<!-- skip: next -->` is only shown. Three more lines that the site does not show: `<!-- samples: reviews.csv=stars.csv -->`
copies sample data of the package, `<!-- before: tunewright train reviews.csv output=runs/mine -->` runs a command that the page takes as done,
`<!-- with: model=scratch:bert-tiny … -->` adds these words to every `tunewright train` below that names no model: pages about files need no large one.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

DATA_LANGUAGES = ("csv", "json", "jsonl", "yaml", "text", "conll", "tsv", "xml", "python")
_BLOCK = re.compile(r"^```(?P<language>[\w+-]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^`(?P<name>[\w./-]+)`:\n\n```(?P<language>[\w+-]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SAMPLES = re.compile(r"^<!-- samples: (?P<pairs>.*?) -->$", re.MULTILINE)
_BEFORE = re.compile(r"^<!-- before: (?P<command>.*?) -->$", re.MULTILINE)
_WITH = re.compile(r"^<!-- with: (?P<words>.*?) -->$", re.MULTILINE)
_ADDED = "words to add to a command that trains"
_EXPECTED = re.compile(r"#\s*exit code (\d+)\s*$")


def commands(document: Document) -> Iterable[Region]:
    for match in _BLOCK.finditer(document.text):
        if match["language"] == "console":
            yield Region(match.start(), match.end(), match["body"], run_commands)


def named_files(document: Document) -> Iterable[Region]:
    for match in _NAMED.finditer(document.text):
        assert match["language"] in DATA_LANGUAGES, match["language"]
        # The line with the name is the region: a Python block below it is still run.
        yield Region(match.start(), match.start() + match[0].index("\n"), (match["name"], match["body"]), write_file)


def sample_files(document: Document) -> Iterable[Region]:
    for match in _SAMPLES.finditer(document.text):
        yield Region(match.start(), match.end(), match["pairs"], copy_samples)


def commands_before(document: Document) -> Iterable[Region]:
    for match in _BEFORE.finditer(document.text):
        yield Region(match.start(), match.end(), match["command"], run_commands)


def words_to_add(document: Document) -> Iterable[Region]:
    for match in _WITH.finditer(document.text):
        yield Region(match.start(), match.end(), match["words"], add_words)


def add_words(example: Example) -> None:
    example.namespace[_ADDED] = example.parsed


def copy_samples(example: Example) -> None:
    for pair in example.parsed.split():
        name, _, sample = pair.partition("=")
        shutil.copyfile(samples() / (sample or name), name)


@cache
def samples() -> Path:
    """A folder with what `tunewright demo --data` copies."""
    from tunewright.cli.demo import copied

    folder = Path(tempfile.mkdtemp(prefix="samples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copied(folder)
    return folder


def write_file(example: Example) -> None:
    name, body = example.parsed
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(body, encoding="utf-8")


def run_commands(example: Example) -> str | None:
    """Run a block line by line; a line that ends in a backslash goes on in the next. What is wrong, or None."""
    lines = example.parsed.replace("\\\n", " ").splitlines()
    for line in filter(None, map(str.strip, lines)):
        expected = int(found[1]) if (found := _EXPECTED.search(line)) else 0
        command = re.sub(r"\s+#\s.*$", "", line)
        if command.startswith("tunewright train ") and " model=" not in command:
            command = f"{command} {example.namespace.get(_ADDED, '')}"
        code, said = run_line(command)
        if code != expected:
            return f"{line}\nexit code {code}, expected {expected}\n{said}"
    return None


def run_line(line: str) -> tuple[int, str]:
    """(exit code, what it printed). A plain `tunewright` command runs in this process: importing torch takes seconds."""
    words = shlex.split(line)
    if words[:1] == ["tunewright"] and not set("|<>;&*") & set(line.replace("->", "")) and "$" not in line:
        return in_this_process(words)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, capture_output=True, text=True, env={**os.environ, "PATH": path}, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def in_this_process(words: list[str]) -> tuple[int, str]:
    from tunewright.cli.main import main

    said, before = io.StringIO(), sys.argv
    sys.argv = words
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main()
            code: int | str | None = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        code = 1
        said.write(traceback.format_exc())
    finally:
        sys.argv = before
    return code if isinstance(code, int) else int(bool(code)), said.getvalue()


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Path]:
    """The folder of a page, which is the current one while its blocks run."""
    folder, before = tmp_path_factory.mktemp("page"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


pytest_collect_file = Sybil(
    parsers=[sample_files, commands_before, words_to_add, named_files, commands, PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    fixtures=["own_folder"],
    excludes=[
        "new-task.md",
        "architecture.md",
        "benchmarks.md",
        "decisions/*.md",
        "reference/keys.md",
        "reference/commands.md",
        "reference/python.md",
        "_build/*",
    ],
).pytest()
