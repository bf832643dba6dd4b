"""What a Python user hands to `train`, `check` and `prepare` -> what the config is made from: values or paths, and words.

    config_of(frame, task="ner", train={"epochs": 3})     ("run:data/train-3fa9c1d2e4f5.parquet", ['task.name="ner"', 'train.epochs=3'])

Rows in memory become files of the run (`reading/in_memory.py`); keyword arguments become the words of the command line, so both are
checked in the same place and told in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.config.run_config import RunConfig
from tunewright.config.sections import AdapterKeys, DataKeys, EvaluateKeys, ModelKeys, TaskKeys, TrainKeys
from tunewright.errors import UserError, quoted
from tunewright.reading.in_memory import Readable, kept_for_run, paths_in
from tunewright.reading.names import SPLIT_NAMES
from tunewright.reading.tables import class_of, holds_rows, splits_in

AnyConfig = RunConfig | Readable | Mapping[str, Readable] | Mapping[str, object]
"""A config as an object, its values, the path of a YAML file; or the data alone: readable, or a dict (a DatasetDict) of splits."""

_SECTIONS = frozenset(RunConfig.model_fields) | {"schema"}


def words_of(
    *, task: str | TaskKeys | None = None, model: str | Path | ModelKeys | None = None, data: DataKeys | None = None,
    adapter: str | AdapterKeys | None = None, train: TrainKeys | None = None, evaluate: EvaluateKeys | None = None,
    plugins: Sequence[str] | None = None, output: str | Path | None = None,
) -> list[str]:  # fmt: skip
    """`train={"epochs": 3}` -> `train.epochs=3`. UserError for a section that is not a dict, or a value that no config could hold."""
    words = []
    named = {"task": task, "model": model, "adapter": adapter}
    for section, value in {**named, "data": data, "train": train, "evaluate": evaluate}.items():
        if value is None:
            continue
        if section in named and isinstance(value, str | Path):
            value = {"name": str(value)}
        if not isinstance(value, Mapping):
            raise UserError(
                "a section is a dict", where=section, found=repr(value)[:80], hint=f'Write {section}={{"key": value}}.'
            )
        words += [f"{section}.{key}={_written(one, f'{section}.{key}', str(key))}" for key, one in value.items()]
    words += [f"plugins={json.dumps(list(plugins))}"] if plugins else []
    return words + ([f"output={_written(output, 'output', 'output')}"] if output is not None else [])


def _written(value: Any, where: str, name: str) -> str:
    if where.startswith("data.") and name in SPLIT_NAMES:
        value = _in_config(value, name)
    try:
        return json.dumps(value, default=_plain)
    except TypeError as error:
        raise UserError(
            "not a value of a config", where=where, found=str(error), expected="a text, number, list or dict"
        ) from None


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__}")


def config_of(
    given: AnyConfig, words: Sequence[str]
) -> tuple[RunConfig | Mapping[str, object] | str | list[str], list[str]]:
    """(what the config is made from: a config, its values, a path or several; the words laid over it). UserError for anything else."""
    words = list(words)
    if isinstance(given, RunConfig):
        return given, words
    if isinstance(given, str | Path):
        return str(given), words
    if splits := _splits_of(given):
        words += [
            f"data.{split}={json.dumps(_in_config(one, split))}" for split, one in splits.items() if split != "train"
        ]
        return _in_config(splits["train"], "train"), words
    if isinstance(given, Mapping) and _is_config(given):
        return _with_rows_as_files(given), words
    if holds_rows(given):
        return kept_for_run(given, "train"), words
    if isinstance(given, Mapping):
        return given, words  # a config without data, or with unknown sections: told by who checks it
    if paths := paths_in(given):
        return paths, words
    if isinstance(given, Sequence) and given and all(isinstance(one, str) for one in given):
        return kept_for_run([{"text": text} for text in given], "train"), words
    raise UserError(
        "neither data nor a config", found=f"{type(given).__module__}.{type(given).__name__}",
        expected="a path, a DataFrame, a Table, a Dataset, a list or dict of dicts, a dict of splits, or a config",
        hint="Give rows as a list of dicts: [{'text': …, 'label': …}, …].",
    )  # fmt: skip


def _is_config(given: Mapping[Any, Any]) -> bool:
    """Whether a dict has sections, and is no dict of columns."""
    has_sections = any(key in _SECTIONS for key in given)
    return has_sections and (
        ("data" in given and holds_rows(given["data"])) or not holds_rows(given) or _are_dicts(given)
    )


def _are_dicts(given: Mapping[Any, Any]) -> bool:
    return all(isinstance(one, Mapping) for one in given.values())


def _in_config(value: Any, split: str) -> Any:
    """The files of a split, as a config names them: rows in memory become one."""
    if value is None or isinstance(value, str | Path):
        return None if value is None else str(value)
    if isinstance(value, Sequence) and value and all(isinstance(one, str | Path) for one in value):
        return [str(one) for one in value]
    return kept_for_run(value, split) if holds_rows(value) else value


def _with_rows_as_files(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config, rows in its `data` section as files of the run."""
    if "data" not in values:
        return dict(values)
    data = values["data"]
    if isinstance(data, Mapping) and not holds_rows(data):
        data = {key: _in_config(value, key) if key in SPLIT_NAMES else value for key, value in data.items()}
    elif splits := _splits_of(data):
        data = {split: _in_config(one, split) for split, one in splits.items()}
    else:
        data = _in_config(data, "train")
    return {**values, "data": data}


def _splits_of(given: object) -> dict[str, Any]:
    """The splits of a DatasetDict or a dict of splits; none for anything else. UserError without a training split."""
    found = splits_in(given)
    is_dict_of_sets = class_of(given) == ("datasets", "DatasetDict")
    if (found or is_dict_of_sets) and "train" not in found:
        assert isinstance(given, Mapping)
        raise UserError(
            "which split is the training split?", found=quoted(map(str, given)), expected="train",
            hint="Give it alone, or name it: {'train': data['…']}.",
        )  # fmt: skip
    return found
