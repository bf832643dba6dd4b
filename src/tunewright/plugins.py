"""Find a plugin by its kind and name: a module of ours, an entry point of an installed package, or a module the user trusts.

    find("tasks", "classification")            tunewright/tasks/classification.py
    [project.entry-points."tunewright.tasks"]  in another package's pyproject.toml
    trust(["my_package.my_task"])              of `plugins:` in one's own config, --plugin, tw.load(…, plugins=[…])
    find("tasks", "my_package.my_task")        then, and only then, that module

A plugin is a module that holds a class (or function) called what its kind calls it (`_HOLDS`); nothing is registered, nothing listed.
Names also come from folders that somebody else made (`tunewright.json`, a run's config.yaml): a name alone imports nothing that
is neither ours, nor installed as a plugin, nor named by the user.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from importlib.metadata import entry_points
from types import ModuleType

from tunewright.errors import UserError, did_you_mean, quoted

_NOT_PLUGINS = {"base", "config", "pairwise"}
OURS: dict[str, tuple[str, ...]] = {
    "optimizers": ("adamw", "adam", "sgd", "adafactor", "rmsprop"),
    "schedules": ("linear", "cosine", "constant"),
    "metrics": (),
    "readers": (),
    "templates": (),
}
"""What we have ourselves of a kind that is not a module each: their users know them. The modules of other kinds are in the folder that is
called like the kind."""
_HOLDS = {
    "tasks": "Task",
    "adapters": "Adapter",
    "exporters": "write",
    "optimizers": "build",
    "schedules": "factor",
    "metrics": "score",
    "readers": "rows",
    "templates": "TEMPLATE",
}
"""What a module of the kind must hold."""
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_TRUSTED: set[str] = set()
"""Modules that the user named in this process."""


def trust(modules: Iterable[str]) -> None:
    """Allow these modules to be found by name in this process. Only for names given by the user, never by a folder.

    UserError for an invalid module name.
    """
    for module in modules:
        if not isinstance(module, str) or not _MODULE.fullmatch(module):
            raise UserError(
                "not the name of a module", where="plugins", found=repr(module), expected="a name such as my_package.my_task"
            )  # fmt: skip
        _TRUSTED.add(module)


def untrusted(modules: Iterable[object]) -> list[str]:
    """The names that the user has not trusted."""
    return [str(module) for module in modules if module not in _TRUSTED]


def names(kind: str) -> list[str]:
    """All plugins of a kind that can be named without a dot, ours first."""
    return [*_ours(kind), *installed(kind)]


def installed(kind: str) -> list[str]:
    """The plugins of a kind that other packages offer."""
    return [point.name for point in entry_points(group=f"tunewright.{kind}")]


def _ours(kind: str) -> list[str]:
    if kind in OURS:
        return list(OURS[kind])
    package = importlib.import_module(f"tunewright.{kind}")
    others = _NOT_PLUGINS | getattr(package, "NOT_PLUGINS", frozenset())
    return [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in others]


def known(kind: str, name: str) -> bool:
    """Whether the name is one of ours, of an installed package, or of a module that the user trusts. Imports no plugin."""
    return name in _TRUSTED or name in names(kind)


def check_name(kind: str, name: str) -> None:
    """UserError that lists the known plugins when there is none of that name, or it is not trusted. Imports no plugin."""
    if not isinstance(name, str):
        raise UserError(f"no {kind.rstrip('s')} {name!r}", expected="a name", found=type(name).__name__)
    if known(kind, name):
        return
    also_called = {} if kind in OURS else getattr(importlib.import_module(f"tunewright.{kind}"), "ALSO_CALLED", {})
    near = also_called.get(name.lower()) or did_you_mean(name, names(kind))
    own = (
        f"Your own module runs only if you name it: `plugins: [{name}]` in your own config, --plugin {name}, "
        f'or tw.load(…, plugins=["{name}"]).'
    )
    raise UserError(
        f"no {kind.rstrip('s')} {name!r}",
        found=quoted(names(kind)),
        hint=" ".join(filter(None, [near and f"Did you mean {near}?", own if _MODULE.fullmatch(name) else None]))
        or None,
    )


def find(kind: str, name: str) -> ModuleType:
    """Import the plugin `name`. UserError when there is none, it is not trusted, or it holds no plugin of this kind."""
    check_name(kind, name)
    points = {point.name: point.value for point in entry_points(group=f"tunewright.{kind}")}
    path = points.get(name) or (name if name in _TRUSTED else f"tunewright.{kind}.{name}")
    try:
        module = importlib.import_module(path)
    except UserError:
        raise
    except Exception as error:  # a plugin's own code may raise anything
        if path.startswith("tunewright.") and not isinstance(error, ModuleNotFoundError):
            raise
        raise UserError(
            f"{path} cannot be imported ({type(error).__name__}: {error})",
            hint="Install what it needs, or put its folder on PYTHONPATH"
            + (f"; or use one of {quoted(names(kind))}." if names(kind) else "."),
        ) from None
    wanted = _HOLDS.get(kind)
    if wanted is not None and not hasattr(module, wanted):
        raise UserError(
            f"{path} has no {wanted}", where=f"{kind.rstrip('s')} {name}", expected=f"a module that defines {wanted}",
            hint=f"Use one of {quoted(names(kind))}." if names(kind) else None,
        )  # fmt: skip
    return module
