"""Every config key there is, and to which tasks or adapters it belongs: what help, docs/reference/keys.md and error messages go by.

all_keys()["train.epochs"]          (Setting(field, owners=()),)                       every run has it
all_keys()["adapter.targets"]       (Setting(field, ("lora",)), Setting(field, ("ia3",)))    each with its own text
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from tunewright.adapters.config import AdapterOptions, adapter_options
from tunewright.config.run_config import RunConfig, task_options
from tunewright.plugins import names
from tunewright.settings import Section
from tunewright.tasks.base import TASK_SPECIFIC, TaskOptions

_KINDS: dict[str, tuple[type[Section], Callable[[str], type[Section]]]] = {
    "task": (TaskOptions, task_options),
    "adapter": (AdapterOptions, adapter_options),
}


class Setting(NamedTuple):
    """A config key. owners: the tasks or adapters that read it, none where every run does."""

    field: Any
    owners: tuple[str, ...] = ()


@lru_cache(maxsize=1)  # it looks through the installed packages
def all_keys() -> dict[str, tuple[Setting, ...]]:
    """Dotted key -> its settings, for every key there is: several where tasks or adapters mean different things by one name."""
    found: dict[str, tuple[Setting, ...]] = {}
    for name, field in RunConfig.model_fields.items():
        if name in _KINDS:
            found |= _keys_of_plugins(name)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found |= {
                f"{name}.{key}": (Setting(inner, readers_of(f"{name}.{key}")),)
                for key, inner in field.annotation.model_fields.items()
            }
        else:
            found[name] = (Setting(field),)
    return found


def readers_of(key: str) -> tuple[str, ...]:
    """The tasks that read a key outside of the `task` section which not all of them read; none where all do."""
    if key not in TASK_SPECIFIC:
        return ()
    return tuple(name for name in names("tasks") if key in task_options(name).reads)


def _keys_of_plugins(section: str) -> dict[str, tuple[Setting, ...]]:
    """The keys of a section that all have, then those of each task or adapter; one Setting for all that mean the same."""
    base, options = _KINDS[section]
    found: dict[str, tuple[Setting, ...]] = {
        f"{section}.{key}": (Setting(field),) for key, field in base.model_fields.items()
    }
    for name in names(f"{section}s"):
        for key, field in options(name).model_fields.items():
            if key not in base.model_fields:
                found[f"{section}.{key}"] = _with(found.get(f"{section}.{key}", ()), field, name)
    return found


def _with(settings: tuple[Setting, ...], field: Any, name: str) -> tuple[Setting, ...]:
    """The settings with one more owner: of the one that says the same, or of a further one."""
    for number, one in enumerate(settings):
        if (one.field.description, one.field.default) == (field.description, field.default):
            joined = Setting(one.field, (*one.owners, name))
            return (*settings[:number], joined, *settings[number + 1 :])
    return (*settings, Setting(field, (name,)))
