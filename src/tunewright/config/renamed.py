"""Config keys and values that had other names in version 0.1: still accepted, with a line that gives the new name.

    upgraded({"data": {"train": "a.csv", "stride": 32}, "task": "ner"})
        ({"data": {"train": "a.csv"}, "task": {"name": "ner", "window_overlap": 32}}, ["data.stride is now task.window_overlap"])

KEYS and VALUES are the whole list. Everything that reads a config asks here first: YAML files, `key=value` words, the config.yaml of a
run, a checkpoint's copy of it, and `RunConfig(…)` in Python.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.errors import UserError
from tunewright.pretrained.hub import DEFAULT_ENCODER, PACKAGED_ENCODER


class Renamed(NamedTuple):
    """A key that had another name. tasks: those that have it now, all where none is named. unset: its default in version 0.1."""

    old: str
    new: str
    tasks: tuple[str, ...] = ()
    unset: Any = None


KEYS = (
    Renamed("train.keep", "train.keep_checkpoints", unset=2),
    Renamed("adapter.keep", "adapter.continue_training", unset=False),
    Renamed("data.overlaps", "task.overlaps", ("ner",), "refuse"),
    Renamed("data.align", "task.align", ("ner",), "expand"),
    Renamed("data.annotator", "task.annotator", ("ner",)),
    Renamed("data.long_texts", "task.long_texts", ("ner",), "windows"),
    Renamed("data.window", "task.window", ("ner",), "auto"),
    Renamed("data.stride", "task.window_overlap", ("ner",), "auto"),
    Renamed("data.rendered", "task.rendered", ("sft",)),
    Renamed("task.legal", "task.constrained_decoding", ("ner",), True),
    Renamed("task.stride", "task.eval_stride", ("clm",)),
    Renamed("task.compare", "evaluate.num_generated", ("sft",), 32),
)
VALUES = {
    "task.too_long": {"cut_prompt": "truncate_prompt", "set_aside": "reject"},
    "train.dropout": {"fast": "row_keyed", "stock": "pytorch"},
}
"""Key -> old value -> new value."""
_UNSET_VALUES = {"task.too_long": "cut_prompt"}
"""Those of them that version 0.1 had by default."""
STATES = {
    "ner": {"stride": "window_overlap", "legal": "constrained_decoding"},
    "clm": {"stride": "eval_stride"},
    "sft": {"num_compared": "num_generated"},
}
"""Task -> keys of its state in `tunewright.json` and in the manifest of a store, old -> new."""
_NEW = {"plugins": [], "train": {"execution": "auto"}, "evaluate": {"metrics": []}}
"""Keys that version 0.1 had not, with what it did without them."""
_OWN_TASKS = {task for renamed in KEYS for task in renamed.tasks} | {"auto"}
"""Tasks whose `task` section had the old keys; another task's key of such a name is its own."""


def upgraded(values: Mapping[str, Any], *, of_run: bool = False) -> tuple[dict[str, Any], list[str]]:
    """(the values under today's names, a line for each that had another one). UserError where a key is given by both names.

    of_run: written by a run, with every key: what its task never read is left out, and what is as it was by default moves in silence.
    """
    out = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    moved = [line for renamed in KEYS if (line := _move(out, renamed, of_run=of_run))]
    for key, names in VALUES.items():
        section, _, last = key.partition(".")
        inner = out.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(last), str) and inner[last] in names:
            if not (of_run and inner[last] == _UNSET_VALUES.get(key)):
                moved.append(f"{key}={inner[last]} is now {key}={names[inner[last]]}")
            inner[last] = names[inner[last]]
    return out, moved


def _move(values: dict[str, Any], renamed: Renamed, *, of_run: bool) -> str | None:
    """Move one key to its place today; returns the line that says so, None where nothing moved."""
    (old_section, old), (new_section, new) = renamed.old.split("."), renamed.new.split(".")
    task = _task_of(values)
    inner = values.get(old_section)
    if not isinstance(inner, dict) or old not in inner:
        return None
    if renamed.tasks and task not in renamed.tasks:
        if old_section == "task" and task not in _OWN_TASKS:
            return None
        if inner[old] == renamed.unset or (of_run and task != "auto"):  # no task has read it
            del inner[old]
            return None
        if task != "auto":
            return None  # an unknown key, see `now_elsewhere`
        task = renamed.tasks[0]
    value = inner.pop(old)
    section = values.get(new_section)
    target = section if isinstance(section, dict) else {} if section is None else {"name": section}
    if new in target:
        raise UserError(
            f"{renamed.old} and {renamed.new} are both given: they are one key", where=renamed.old,
            hint=f"Leave out {renamed.old}, its name in version 0.1.",
        )  # fmt: skip
    values[new_section] = target
    target[new] = value
    if of_run and value == renamed.unset:
        return None
    line = f"{renamed.old} is now {renamed.new}"
    if renamed.tasks and _task_of(values) == "auto":
        values["task"] = {**(values["task"] if isinstance(values.get("task"), dict) else {}), "name": task}
        line += f" (so the task is {task})"
    return line


def as_before(values: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a config as version 0.1 would have held them: runs without an `output` are named by the hash of these.

    So the same config finds the run that it began before, and a run is called the same by every version. Its default model was the
    packaged copy of today's.
    """
    out = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for renamed in KEYS:
        (old_section, old), (new_section, new) = renamed.old.split("."), renamed.new.split(".")
        is_read = not renamed.tasks or _task_of(out) in renamed.tasks
        value = out[new_section].pop(new, renamed.unset) if is_read or new_section != "task" else renamed.unset
        if is_read or old_section != "task":
            out[old_section][old] = value
    for key, names in VALUES.items():
        section, _, last = key.partition(".")
        before = {new: old for old, new in names.items()}
        if last in out[section]:
            out[section][last] = before.get(out[section][last], out[section][last])
    if out["model"].get("name") == DEFAULT_ENCODER:
        out["model"]["name"] = PACKAGED_ENCODER
    for key, default in _NEW.items():
        if isinstance(default, dict):
            out[key] = {
                name: value for name, value in out[key].items() if name not in default or value != default[name]
            }
        elif out[key] == default:
            del out[key]
    return out


def _task_of(values: Mapping[str, Any]) -> str:
    section = values.get("task")
    name = section.get("name", "auto") if isinstance(section, Mapping) else section
    return name if isinstance(name, str) else "auto"


class RenamedKeys(FutureWarning):
    """Says which keys of a config have new names; the command line prints it as a notice."""


def tell_renamed(moved: Sequence[str], *, where: str = "config") -> None:
    """One line for all keys of a config that have new names."""
    if moved:
        warnings.warn(RenamedKeys(f"{where}: {', '.join(moved)}. Old names are still understood."), stacklevel=3)


def now_elsewhere(key: str) -> str | None:
    """What to say of a key that another task reads today; None where the key had no such name."""
    found = next((renamed for renamed in KEYS if renamed.old == key and renamed.tasks), None)
    return None if found is None else f"it is now {found.new}, which only task={' and '.join(found.tasks)} reads"


def other_names(key: str) -> Iterable[str]:
    """The old names of a key, or its new one."""
    return [
        other
        for renamed in KEYS
        for one, other in ((renamed.old, renamed.new), (renamed.new, renamed.old))
        if one == key
    ]


def upgraded_state(task: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A task's state as version 0.1 wrote it, under today's names."""
    return _state(task, state, STATES, VALUES["task.too_long"])


def manifests_of(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A token store's manifest as it is, and as version 0.1 would have written it: checkpoints hold hashes of either."""
    names = {name: {new: old for old, new in keys.items()} for name, keys in STATES.items()}
    too_long = {new: old for old, new in VALUES["task.too_long"].items()}
    return [manifest, {**manifest, "task_state": _state(manifest["task"], manifest["task_state"], names, too_long)}]


def _state(
    task: str, state: Mapping[str, Any], names: Mapping[str, Mapping[str, str]], too_long: Mapping[str, str]
) -> dict[str, Any]:
    out = {names.get(task, {}).get(key, key): value for key, value in state.items()}
    if isinstance(out.get("too_long"), str):
        out["too_long"] = too_long.get(out["too_long"], out["too_long"])
    if isinstance(out.get("chat"), Mapping):  # tasks that compare answers hold the state of a chat
        out["chat"] = _state("sft", out["chat"], names, too_long)
    return out
