"""LoRA (Hu et al. 2021): beside every chosen linear layer W a product B·A of rank r learns, W stays.

    adapter: {name: lora, rank: 16, alpha: 32}      y = W x + (alpha / rank) · B A dropout(x),  A random, B = 0

rsLoRA (Kalajdzievski 2023) divides by the root of the rank instead; DoRA (Liu et al. 2024) learns the length of W's columns too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from tunewright.adapters.base import BaseAdapter, unmatched
from tunewright.adapters.config import AdapterOptions

_VLLM_RANK = 16  # vLLM's default --max-lora-rank
ALL = "all-linear"


class Options(AdapterOptions):
    name: str = "lora"
    rank: PositiveInt = Field(16, description="Rank of the products: how much each layer can change.")
    alpha: PositiveFloat | None = Field(
        None, description="The product counts alpha / rank times. Default: twice the rank."
    )
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout before the product, masks keyed by row.")
    targets: str | list[str] = Field(
        ALL, description="all-linear: every linear layer of the body; or names of layers, such as [query, value]."
    )
    rslora: bool = Field(False, description="Divide by the root of the rank: for large ranks.")
    dora: bool = Field(False, description="Also train the norm of each column (DoRA); slower, better at small ranks.")


class Adapter(BaseAdapter):
    trains_added_tokens = True
    rate_factor = 4.0
    """Ten, the rule for large decoders, is too much for a small encoder."""

    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        from peft import LoraConfig

        from tunewright.models.linear import linear_layers, named_layers, shortest_names

        options = self.options
        layers = linear_layers(model, heads)
        wanted = [options.targets] if isinstance(options.targets, str) else options.targets
        targets = list(layers) if wanted == [ALL] else named_layers(layers, wanted)
        if not targets:
            raise unmatched(wanted, list(layers), or_all=True)
        return LoraConfig(
            task_type=kind,
            r=options.rank,
            lora_alpha=options.alpha or 2 * options.rank,
            lora_dropout=options.dropout,
            target_modules=shortest_names(model, targets),
            modules_to_save=list(heads) or None,
            use_rslora=options.rslora,
            use_dora=options.dora,
            fan_in_fan_out=all(type(layers[name]).__name__ == "Conv1D" for name in targets),
        )

    def remarks(self, heads: Sequence[str]) -> list[str]:
        """What vLLM does not serve as an adapter; merged it serves all of it."""
        refused = []
        if self.options.rank > _VLLM_RANK:
            refused.append(f"rank {self.options.rank} unless --max-lora-rank is raised")
        if heads:
            refused.append("a head that is saved whole")
        if self.options.dora:
            refused.append("DoRA")
        if self.options.train_added_tokens:
            refused.append("rows of added tokens")
        return [f"vLLM takes no adapter with {' or '.join(refused)}; it serves model/, where all is merged."] * bool(
            refused
        )
