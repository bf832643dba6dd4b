"""Write `src/tunewright/config/sections.py`, the types of the keyword arguments of `tw.train`, from the config's own fields.

Called by docs/generate.py; a test compares the file with what this writes.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

BEGIN = '''"""The types of a config's sections as dicts: what a type checker knows of `tw.train(data, train={"epochs": 3})`.

    keys: TrainKeys = {"epochs": 3, "learning_rate": 2e-5}

Written by `python docs/generate.py` from the fields of the config; the values themselves are checked there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from tunewright.reading.tables import TableLike

Files = (
    str
    | Path
    | Sequence[str]
    | Sequence[Path]
    | TableLike
    | Sequence[Mapping[str, object]]
    | Mapping[str, Sequence[object]]
)
"""The files of a split, or its rows in memory."""
'''


def sections() -> str:
    """The module, as it is written."""
    from tunewright.adapters.config import AdapterOptions, adapter_options
    from tunewright.config.run_config import DataConfig, ModelConfig, task_options
    from tunewright.plugins import names
    from tunewright.tasks.base import TaskOptions
    from tunewright.training.config import EvaluateConfig, TrainConfig

    found = [
        ("TaskKeys", "Keys of `task`: its name, and those that this task has.", [TaskOptions, *map(task_options, names("tasks"))]),
        ("ModelKeys", "Keys of `model`.", [ModelConfig]),
        ("DataKeys", "Keys of `data`. train, validation and test are paths, or rows in memory.", [DataConfig]),
        ("AdapterKeys", "Keys of `adapter`: its name, and those that this adapter has.", [AdapterOptions, *map(adapter_options, names("adapters"))]),
        ("TrainKeys", "Keys of `train`.", [TrainConfig]),
        ("EvaluateKeys", "Keys of `evaluate`.", [EvaluateConfig]),
    ]  # fmt: skip
    return "\n\n".join([BEGIN, *(_typed_dict(*one) for one in found)])


def _typed_dict(name: str, place: str, kinds: Iterable[Any]) -> str:
    keys: dict[str, list[str]] = {}
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        for key in kind.model_fields:
            keys.setdefault(key, []).extend(_parts(hints[key]))
    lines = [f"class {name}(TypedDict, total=False):", f'    """{place}"""', ""]
    for key, parts in keys.items():
        if name == "DataKeys" and key in ("train", "validation", "test"):
            parts = ["Files"] if key == "train" else ["Files", "None"]
        distinct = sorted(dict.fromkeys(parts), key="None".__eq__)  # None last
        lines.append(f"    {key}: {' | '.join(distinct)}")
    return "\n".join(lines) + "\n"


def _parts(kind: Any) -> list[str]:
    """A type as it is written, one text for each type of a union."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        return [part for one in get_args(kind) for part in _parts(one)]
    if get_origin(kind) is Literal:
        return [f"Literal[{', '.join(_quoted(one) for one in get_args(kind))}]"]
    if get_origin(kind) is not None:
        inner = (" | ".join(_parts(one)) for one in get_args(kind))
        return [f"{get_origin(kind).__name__}[{', '.join(inner)}]"]
    return ["None" if kind is type(None) else "object" if kind is Any else kind.__name__]


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
