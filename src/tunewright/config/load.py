"""A YAML file and `key=value` words -> RunConfig, or all that is wrong with them in one UserError.

config = load_config("config.yaml", ["train.epochs=5"])
config.train.epochs          # 5.0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright import hints
from tunewright.config.problems import explained, refuse, shortly, unknown_keys, unread
from tunewright.config.renamed import other_names, tell_renamed, upgraded
from tunewright.config.run_config import SCHEMA, RunConfig
from tunewright.config.yaml_words import MAX_CHARACTERS, read_values, value_of_word
from tunewright.errors import UserError, quoted, suggestion
from tunewright.files.paths import expanded
from tunewright.plugins import trust, untrusted

_OF_RUNS = ("ledger.json", "scores.json", "metrics.jsonl", "model/tunewright.json")
"""Files next to the config.yaml that a run wrote; a user's own config has none of them."""
_SHORTHANDS = {"data": "train", "model": "name", "task": "name", "adapter": "name"}
"""What a text or list stands for where a section is expected: `data: train.csv`."""


def parse_config(values: Mapping[str, Any], *, where: str = "config", of_run: bool = False) -> RunConfig:
    """Validate nested values. UserError lists every unknown key and wrong value at once.

    of_run: they were found in a run folder, which anybody may have made: its `plugins` are names, not a permission.
    """
    values = {key: value for key, value in values.items() if value is not None}  # `train:` with all lines commented out
    _refuse_newer(values.pop("schema", SCHEMA), where)
    _heed_plugins(values.get("plugins"), where=where, of_run=of_run)
    values, moved = upgraded(values, of_run=of_run)
    tell_renamed(moved, where=where)
    problems = list(unknown_keys(values))
    try:
        config = RunConfig.model_validate(values)
        problems += unread(config, config.task.name)
    except ValidationError as error:
        problems += explained(error.errors())
    refuse(problems, where=where)
    return config


def _refuse_newer(schema: Any, where: str) -> None:
    """UserError for a config of a later version, whose keys may mean something else."""
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise UserError(
            "the config of a run is of another version", where=where, found=f"schema {shortly(schema)}", expected=f"at most {SCHEMA}",
            hint="Update tunewright.",
        )  # fmt: skip


def _heed_plugins(modules: Any, *, where: str, of_run: bool) -> None:
    """Trust the modules that the user's own config names. UserError for one that a run folder names and the user does not."""
    named = [modules] if isinstance(modules, str) else modules
    if not isinstance(named, list):
        return  # nothing is named, or the wrong value is reported elsewhere
    if not of_run:
        trust(named)
    elif unknown := untrusted(named):
        raise UserError(
            f"this run names code of its own, and code named by a folder is not run without your consent: {quoted(unknown)}",
            where=where,
            hint=f"If you trust it, give --plugin {unknown[0]} (tw.load(…, plugins={unknown!r})).",
        )


def load_config(
    path: str | Path | None,
    overrides: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    of_run: bool = False,
) -> RunConfig:
    """Read a YAML config and lay `key=value` words over it. UserError on a missing file, bad YAML or bad values.

    of_run: it stands in a run folder that was opened; a config beside what a run writes is taken for one.
    """
    values: dict[str, Any] = dict(base or {})
    user_pattern: dict[str, Any] = {}
    for word in overrides:
        if word.partition("=")[0] == "plugins":
            _override(user_pattern, word)
    _heed_plugins(user_pattern.get("plugins"), where="plugins", of_run=False)
    if path is not None:
        path = expanded(str(path))
        values = _read_yaml(Path(path))
        folder = Path(path).parent
        if of_run or (folder / "ledger.json").is_file():  # a run's own: it may have been moved since
            values["output"] = str(folder if folder.name else folder.absolute())
        of_run = of_run or any((folder / name).exists() for name in _OF_RUNS)
    for word in overrides:
        _drop_other_names(values, word.partition("=")[0])
    for word in overrides:
        _override(values, word)
    return parse_config(values, where=str(path) if path is not None else "config", of_run=of_run)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise UserError(
            "no such config file",
            where=str(path),
            hint=suggestion(path.name, [p.name for p in path.parent.glob("*.y*ml")], f"`{hints.init()}` writes one."),
        ) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error})", where=str(path), hint="Give a YAML file.") from None
    if len(content) > MAX_CHARACTERS:
        raise UserError(
            "not a config", where=str(path), found=f"more than {MAX_CHARACTERS:,} bytes", hint="Give a YAML file."
        )
    values = read_values(content, where=str(path))
    if not isinstance(values, dict):
        raise UserError(
            "not a config",
            where=str(path),
            found=type(values).__name__,
            expected="sections such as `data:` and `train:`",
        )
    return values


def _drop_other_names(values: dict[str, Any], key: str) -> None:
    """A word on the command line stands for the same key in the file, whichever of its names either uses."""
    for other in other_names(key):
        section, _, last = other.partition(".")
        if isinstance(values.get(section), Mapping):
            values[section] = {name: value for name, value in values[section].items() if name != last}


def _override(values: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
        raise UserError("not a key=value word", where=word, hint="Write train.epochs=5, for example.")
    value = value_of_word(text) if text else None
    *sections, last = key.split(".")
    place = values
    for section in sections:
        inner = place.get(section)
        if place is values and section in _SHORTHANDS and isinstance(inner, (str, list)):
            inner = {_SHORTHANDS[section]: inner}
        if inner is not None and not isinstance(inner, Mapping):
            raise UserError(f"{section!r} is a value and has no keys", where=word, found=shortly(inner))
        place[section] = inner = dict(inner or {})
        place = inner
    if not sections and last in _SHORTHANDS and isinstance(place.get(last), Mapping) and isinstance(value, (str, list)):
        place[last] = {**place[last], _SHORTHANDS[last]: value}
    else:
        place[last] = value
