"""Whatever stands in a config file: values, or a UserError with the line, in less than a second and without much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.config.load import load_config
from tunewright.config.yaml_words import value_of_word
from tunewright.errors import UserError

HEAD = "data: a.csv\ntask:\n  name: sft\n"
TEN = ["x"] * 10


def laughs(first: str, merge: str = "") -> str:
    """Ten times ten times ten …: 10^9 values in 500 bytes."""
    lines = [f"  a: &a {first}"]
    for letter, before in zip("bcdefgh", "abcdefg", strict=True):
        parts = ",".join([f"*{before}"] * 10)
        lines.append(f"  {letter}: &{letter} " + (f"{{<<: [{parts}], {letter}: 1}}" if merge else f"[{parts}]"))
    return HEAD + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (laughs("[x,x,x,x,x,x,x,x,x,x]"), 8, "more than 100,000 values, with its aliases written out"),
        (laughs("{x: 1}", merge="<<"), 9, "more than 100,000 values, with its aliases written out"),
        (HEAD + "  kwargs: &a [*a]\n", 4, "unhashable|found undefined alias|an alias refers to itself"),
        (HEAD + "  a: &a {b: *a}\n", 4, "found undefined alias|an alias refers to itself"),
        ("[" * 20_000, 1, "nested deeper than 40 levels"),
        (HEAD + "  a: " + "{a: " * 900 + "1" + "}" * 900 + "\n", 4, "nested deeper than 40 levels"),
        ("- " * 20_000, 1, "nested deeper than 40 levels"),
        (HEAD + "train: {gradient_checkpointing: !!bool maybe}\n", 4, "'maybe' is no bool"),
        (HEAD + "train: {seed: !!int x7}\n", 4, "'x7' is no int"),
        (HEAD + "train: {seed: !!float high}\n", 4, "'high' is no float"),
        (HEAD + "train: {seed: !!timestamp soon}\n", 4, "'soon' is no timestamp"),
        (HEAD + "train: {seed: !!binary '\xe9'}\n", 4, "base64|ascii|is no binary"),
        (HEAD + "train: {seed: !!python/object/apply:os.system [ls]}\n", 4, "could not determine a constructor"),
        (HEAD + "train: {seed: !!python/name:os.system }\n", 4, "could not determine a constructor"),
        (HEAD + "train: {seed: " + "9" * 30 + "}\n", 4, "a whole number of more than 63 bits"),
        (HEAD + "train: {seed: " + "9" * 5_000 + "}\n", 4, "is no int"),
        (HEAD + "train: {seed: !!int 0x" + "f" * 5_000 + "}\n", 4, "a whole number of more than 63 bits"),
        (HEAD + "train:\n\tseed: 5\n", 5, "cannot start any token"),
        (HEAD + "train: {seed: 1, seed: 2}\n", 4, "'seed' is given twice here"),
        (HEAD + "? [a, b]\n: c\n", 4, "unhashable"),
        (HEAD + "train: \0\n", 4, "the character .* is in it"),
        (HEAD + "train: {<<: 5}\n", 4, "expected a mapping or list of mappings"),
        (HEAD + "--- \ndata: b.csv\n", 4, "another document"),
        (HEAD + 'output: "a\\ud800"\n', 4, "half of a surrogate pair"),
        (HEAD + 'data: {text: "\\0"}\n', 4, "a NUL|is given twice here"),
        (HEAD + "train: *nobody\n", 4, "undefined alias"),
    ],
)
def test_what_is_no_config_is_told_with_its_line(tmp_path, text, line, problem):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(UserError, match=rf"(?s)not valid YAML.*({problem})") as caught:
        load_config(path)
    assert caught.value.where == f"{path}:{line}" and len(str(caught.value)) < 500
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("content", [b"data: a.csv\ntask: caf\xe9\n", "data: a.csv\n".encode("utf-16")])
def test_what_is_not_utf8_is_told_with_its_line(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"is not UTF-8") as caught:
        load_config(tmp_path / "c.yaml")
    assert caught.value.where == f"{tmp_path / 'c.yaml'}:{1 + content.startswith(b'data')}"


def test_a_large_file_is_no_config(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"data: a.csv\n" * 100_000)
    with pytest.raises(UserError, match="not a config; found more than 524,288 bytes"):
        load_config(tmp_path / "c.yaml")


def test_dates_numbers_and_merged_keys_are_what_they_look_like(tmp_path):
    (tmp_path / "c.yaml").write_text("x: &x {text: 2024-01-01, label: 007}\ndata: {<<: *x, train: a.csv, label: no}\n")
    with pytest.raises(UserError, match="unknown key 'x'"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("data: &x {text: 2024-01-01, train: a.csv}\n")
    assert load_config(tmp_path / "c.yaml").data.text == "2024-01-01"


@pytest.mark.parametrize(
    "value", [".nan", ".inf", "-.inf", "9" * 400, "9" * 5_000, "1e999", "[" * 500, "&a [*a]", "\0", "\x85"]
)
@pytest.mark.parametrize(
    "key", ["train.epochs", "train.learning_rate", "train.seed", "data.limit", "train.class_weights"]
)
def test_a_word_of_any_value_is_a_config_or_a_user_error(key, value):
    begun = time.process_time()
    try:
        load_config(None, ["data=a.csv", f"{key}={value}"])
    except UserError as error:
        assert len(str(error)) < 2_000
    assert time.process_time() - begun < 1


def test_a_word_that_is_no_yaml_is_a_text():
    many = "[" + ",".join(["&a [x,x,x,x,x,x,x,x,x,x]"] + ["[" + ",".join(["*a"] * 10) + "]"] * 3) + "]"
    assert value_of_word("[1, 2]") == [1, 2] and value_of_word("!!bool maybe") == "!!bool maybe"
    assert value_of_word("[" * 500) == "[" * 500 and len(value_of_word(many)) == 4


def test_a_bomb_costs_no_memory(tmp_path):
    (tmp_path / "c.yaml").write_text(laughs("[x,x,x,x,x,x,x,x,x,x]"))
    program = (
        "import resource, sys; from tunewright.config.load import load_config; from tunewright.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    load_config('c.yaml')\nexcept UserError:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert int(done.stdout) < 20_000, done.stderr
