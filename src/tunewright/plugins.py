"""Find a plugin by its kind and name: a module of ours, a dotted path, or an entry point of another package.

    find("tasks", "classification")            tunewright/tasks/classification.py
    find("tasks", "my_package.my_task")        any importable module
    [project.entry-points."tunewright.tasks"]  in another package's pyproject.toml

A plugin is a module that holds a class (or function) called what its kind calls it; nothing is registered, nothing listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from tunewright.errors import UserError, did_you_mean, quoted

_NOT_PLUGINS = {"base", "compared", "config"}


def names(kind: str) -> list[str]:
    """All plugins of a kind that can be named without a dot, ours first."""
    package = importlib.import_module(f"tunewright.{kind}")
    others = _NOT_PLUGINS | getattr(package, "NOT_PLUGINS", frozenset())
    ours = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in others]
    return ours + [point.name for point in entry_points(group=f"tunewright.{kind}")]


def check_name(kind: str, name: str) -> None:
    """UserError that lists the known plugins when there is none of that name. Imports none."""
    if "." not in name and name not in names(kind):
        also_called = getattr(importlib.import_module(f"tunewright.{kind}"), "ALSO_CALLED", {})
        near = also_called.get(name.lower()) or did_you_mean(name, names(kind))
        raise UserError(
            f"no {kind.rstrip('s')} {name!r}", found=quoted(names(kind)), mend=f"Did you mean {near}?" if near else None
        )


def find(kind: str, name: str) -> ModuleType:
    """Import the plugin `name`. UserError that lists the known ones when there is none."""
    for point in entry_points(group=f"tunewright.{kind}"):
        if point.name == name:
            return importlib.import_module(point.value)
    check_name(kind, name)
    path = name if "." in name else f"tunewright.{kind}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} cannot be imported ({error})", mend=f"Install what it needs, or use one of {quoted(names(kind))}."
        ) from None
