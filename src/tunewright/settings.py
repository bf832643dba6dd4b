"""What every config section is made of: strict pydantic models and the small value types they share.

class TrainConfig(Section):
    epochs: float = Field(3, gt=0, description="Passes over the training rows.")
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from tunewright.errors import UserError, did_you_mean
from tunewright.files.paths import expanded
from tunewright.plugins import OURS, known, names


@dataclass(frozen=True)
class named_plugin:
    """A text that names one of ours, or a plug-in of this kind."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        plugin = {"type": "string", "title": "the name of a plug-in"}
        return {"anyOf": [{"enum": list(OURS[self.kind])}, plugin]} if OURS[self.kind] else plugin

    def _known(self, name: str) -> str:
        if known(self.kind, name):
            return name
        near = did_you_mean(name, names(self.kind))
        expected = ", ".join(names(self.kind)) or "the name of a plug-in"
        raise ValueError(f"expected {expected}" + (f"; did you mean {near}?" if near else ""))


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _written_out(path: str) -> str:
    try:
        return expanded(path)
    except UserError as error:
        raise ValueError(f"{error.problem} ({error.where})") from None


UserPath = Annotated[str, AfterValidator(_written_out)]
"""A path (or a name that may be one): `~` and variables are written out."""


class Section(BaseModel):
    """A config section: unknown keys are errors, values do not change after validation, a label or column may look like a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Cadence:
    """How often something happens: parsed from `epoch`, a number of steps, or a time such as `10m`."""

    kind: Literal["epoch", "steps", "seconds", "never"]
    amount: int = 1

    @classmethod
    def parse(cls, value: str | int) -> Cadence:
        text = str(value).strip().lower()
        if text in ("epoch", "never"):
            return cls(text)  # type: ignore[arg-type]
        if text.isdecimal() and int(text) > 0:
            return cls("steps", int(text))
        found = re.fullmatch(r"(\d+)\s*([smh])", text)
        if found and int(found[1]) > 0:
            return cls("seconds", int(found[1]) * _SECONDS[found[2]])
        raise ValueError("expected `epoch`, a number of steps (500), a time (90s, 10m, 1h) or `never`")


def _cadence(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("expected `epoch`, a number of steps (500), a time (90s, 10m, 1h) or `never`")
    Cadence.parse(value)
    return value


_EVERY_SCHEMA = {
    "anyOf": [
        {"enum": ["epoch", "never"]},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*\d+\s*[smhSMH]\s*$", "examples": ["10m"]},
    ]
}
Every = Annotated[str | int, BeforeValidator(_cadence), WithJsonSchema(_EVERY_SCHEMA)]
