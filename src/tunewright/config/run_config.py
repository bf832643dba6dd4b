"""RunConfig: every decision of a run in one strict, composed record, from a YAML file and `key=value` words.

    config = RunConfig(data="reviews.csv", train={"epochs": 5})
    config.train.epochs, config.run_folder          # 5.0, Path("runs/reviews-3f9a1c")

Sections live beside their owners. `load.py` reads files and words, `problems.py` says what is wrong in them, `renamed.py` knows
the names that keys had before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SerializeAsAny, field_validator, model_validator

from tunewright import hints
from tunewright.adapters.config import NONE, AdapterOptions, adapter_options
from tunewright.config.renamed import as_before, tell_renamed, upgraded
from tunewright.errors import UserError
from tunewright.files.atomic import json_sha256
from tunewright.plugins import find
from tunewright.pretrained.hub import DEFAULT_ENCODER
from tunewright.pretrained.model_files import ModelFolder, locate_model
from tunewright.reading.config import ReadConfig
from tunewright.settings import Section, UserPath
from tunewright.tasks.base import TaskOptions
from tunewright.tokenization.config import EncodeConfig
from tunewright.training.config import EvaluateConfig, TrainConfig

SCHEMA = 2
"""Of the config.yaml that a run writes; 1: as version 0.1 wrote it, without saying so."""
DEFAULT_MODEL = DEFAULT_ENCODER
PREVIOUS = "previous"
"""Stands for the run before, where several configs run in turn: `runs/sequence.py`."""


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


class DataConfig(ReadConfig, EncodeConfig):
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
    _opened: Mapping[Any, Any] = PrivateAttr(default_factory=dict)
    _found_by: str = PrivateAttr("")
    """How task and columns were found, where `runs/autoconfig.py` found them and wrote them into this config. Said, never saved."""

    @model_validator(mode="before")
    @classmethod
    def _under_todays_names(cls, values: Any) -> Any:
        """Keys by the names of version 0.1 are understood, and told. UserError for a key by both names."""
        if not isinstance(values, Mapping):
            return values
        found, moved = upgraded(values)
        tell_renamed(moved)
        return found

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        """The options of the task that is named; of `auto` there are none yet."""
        return _options_by_name(value, task_options, "auto")

    @field_validator("adapter", mode="before")
    @classmethod
    def _adapter_by_name(cls, value: Any) -> Any:
        """The options of the adapter that is named."""
        return _options_by_name(value, adapter_options, NONE)

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

    @property
    def opened(self) -> Mapping[Any, Any]:
        """The sources that were opened to find them, which `preparation.open_inputs` goes on with."""
        return self._opened

    def as_found(self, reason: str, opened: Mapping[Any, Any]) -> RunConfig:
        """This config, its task and columns known to be found in this way. opened: the sources that were looked at."""
        found = self.model_copy()
        found._found_by, found._opened = reason, opened
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
        return json_sha256(as_before({**self.as_dict(), "output": None}))[:6]


def _options_by_name(value: Any, options_of: Callable[[str], type[Section]], default: str) -> Any:
    """A section given as a name or as keys -> the options of what it names; anything else as it is."""
    values = {"name": value} if isinstance(value, str) else value
    return options_of(values.get("name", default)).model_validate(values) if isinstance(values, Mapping) else values


def task_options(name: str) -> type[TaskOptions]:
    """The settings that the task `name` has. UserError when there is no such task."""
    return TaskOptions if name == "auto" else getattr(find("tasks", name), "Options", TaskOptions)
