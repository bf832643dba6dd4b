"""The `adapter` section: which adapter is trained. Its own settings stand beside each adapter."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tunewright.plugins import find
from tunewright.settings import Section

NONE = "none"


class AdapterOptions(Section):
    """The `adapter` section without settings; adapters extend it as their `Options`."""

    name: str = Field(
        NONE,
        description="What learns instead of the whole model: lora, prefix, prompt or ia3. none: every weight. "
        "`adapter: NAME` is enough.",
    )
    continue_training: bool = Field(
        False,
        description="Where model is a run with such an adapter: go on with it on its own base. Otherwise it is merged, and a new one "
        "begins.",
    )
    train_added_tokens: bool = Field(
        False,
        description="With lora: also train the rows of `model.add_tokens` in the embeddings and, where the model has a separate one, in the "
        "output layer. Otherwise they stay at the mean of the pieces that they replace.",
    )


def adapter_options(name: str) -> type[AdapterOptions]:
    """The settings that the adapter `name` has. UserError when there is no such adapter."""
    return AdapterOptions if name == NONE else getattr(find("adapters", name), "Options", AdapterOptions)


def adapter_of(options: Any) -> Any:
    """The adapter that a config's section describes, None where every weight learns."""
    return None if options.name == NONE else find("adapters", options.name).Adapter(options)
