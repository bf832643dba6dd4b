"""IA3 (Liu et al. 2022): keys, values and the inner states of the feed-forward layers are stretched, feature by feature.

    adapter: ia3        key = l_k · (W_k x),  value = l_v · (W_v x),  output = W_o (l_f · h);  every l starts at 1

The fewest parameters of all, some vectors a layer, and merged without a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tunewright.adapters.base import BaseAdapter, unmatched
from tunewright.adapters.config import AdapterOptions

_KEYS_AND_VALUES = (
    "key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "key_proj", "value_proj", "query_key_value", "c_attn", "Wqkv",
    "attention.k", "attention.v", "attn.k", "attn.v",
)  # fmt: skip
_FEED_FORWARD = ("output.dense", "down_proj", "fc2", "lin2", "mlp.c_proj", "dense_4h_to_h", "mlp.Wo", "ffn_output")
_ATTENTION = "attention.output.dense"


class Options(AdapterOptions):
    name: str = "ia3"
    targets: list[str] | None = Field(None, description="Layers whose outputs are scaled. Default: keys and values.")
    feed_forward: list[str] | None = Field(
        None, description="Layers whose inputs are scaled. Default: the last one of each feed-forward part."
    )


class Adapter(BaseAdapter):
    rate_factor = 50.0  # factors that start at 1 and multiply: at the rate of weights they would hardly move

    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        from peft import IA3Config

        from tunewright.models.linear import linear_layers, named_layers

        layers = linear_layers(model, heads)
        stretched = {}
        for key, usual in (("targets", _KEYS_AND_VALUES), ("feed_forward", _FEED_FORWARD)):
            wanted = getattr(self.options, key) or usual
            stretched[key] = [
                name for name in named_layers(layers, wanted) if wanted is not usual or _ATTENTION not in name
            ]
            if not stretched[key]:
                raise unmatched(wanted, list(layers), where=f"adapter.{key}", or_all=False)
        return IA3Config(
            task_type=kind,
            target_modules=stretched["targets"] + stretched["feed_forward"],
            feedforward_modules=stretched["feed_forward"],
            modules_to_save=list(heads) or None,
            fan_in_fan_out=all(type(layers[name]).__name__ == "Conv1D" for name in stretched["targets"]),
        )
