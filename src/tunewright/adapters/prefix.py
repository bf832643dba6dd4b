"""Prefix tuning (Li and Liang 2021; for classification and tagging: P-Tuning v2, Liu et al. 2022).

    adapter: {name: prefix, num_tokens: 20}     every layer's attention sees 20 learned keys and values before each row

The model's own positions shift behind the prefix, so `data.max_length` and the prefix together must fit into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveInt

from tunewright.adapters.base import AdapterContext, BaseAdapter
from tunewright.adapters.config import AdapterOptions
from tunewright.errors import UserError
from tunewright.models.kv_cache import cache_word

_TAKES_NO_CACHE = {
    "distilbert",
    "deberta",
    "deberta-v2",
    "modernbert",
    "mpnet",
    "eurobert",
    "nomic_bert",
    "albert",
    "mobilebert",
}
"""Their attention has no place for keys from outside."""


class Options(AdapterOptions):
    name: str = "prefix"
    num_tokens: PositiveInt = Field(20, description="Keys and values before each row.")
    projection: PositiveInt | None = Field(
        None,
        description="Compute the prefix by a two-layer network of this width during training, as in the paper; it is removed afterwards.",
    )


class Adapter(BaseAdapter):
    merges = False
    rate_factor = 100.0

    @property
    def num_virtual_tokens(self) -> int:  # type: ignore[override]
        return self.options.num_tokens

    def refuse(self, situation: AdapterContext) -> None:
        if situation.model_type in _TAKES_NO_CACHE:
            raise _takes_no_keys(f"model {situation.model.name}", situation.model_type)
        refuse_virtual_tokens(self, situation, "prefix tuning")

    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        from peft import PrefixTuningConfig

        wide = self.options.projection
        return PrefixTuningConfig(
            task_type=kind,
            num_virtual_tokens=self.options.num_tokens,
            prefix_projection=wide is not None,
            encoder_hidden_size=wide,
            modules_to_save=list(heads) or None,
        )

    def start(self, model: Any, *, seed: int) -> None:
        """From the keys and values of real tokens, drawn from the vocabulary: what the layers know how to read.

        Noise of any size turns attention away from the row, which has to be unlearned first (Li and Liang 2021, section 7.4).
        """
        if self.options.projection is None:
            weight = model.prompt_encoder["default"].embedding.weight
            found = keys_and_values(model.base_model, self.options.num_tokens, seed=seed)
            if found.shape != weight.shape:
                raise UserError(
                    "prefix tuning cannot tell how many heads this model keeps keys and values of",
                    where="adapter prefix",
                    found=f"{weight.shape[1]} numbers for {weight.shape[0]} tokens",
                    expected=f"{found.shape[1]} for {found.shape[0]}",
                    hint="Set adapter=lora.",
                )
            weight.data.copy_(found)


def keys_and_values(model: Any, num_tokens: int, *, seed: int) -> Any:
    """What every layer keeps of so many tokens, as PEFT lays a prefix out: `(tokens, layers · 2 · heads · features)`."""
    import torch
    from transformers import DynamicCache

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.get_input_embeddings().num_embeddings, (1, num_tokens), generator=generator)
    cache, was_training = DynamicCache(), model.training
    model.eval()
    try:
        with torch.no_grad():
            model.base_model(input_ids=ids.to(model.device), use_cache=True, **{cache_word(model.base_model): cache})
    except (TypeError, ValueError, NotImplementedError) as error:  # models without a place for keys say so in many ways
        raise _takes_no_keys("adapter prefix", model.config.model_type) from error
    finally:
        model.train(was_training)
    layers: list[Any] = list(cache.layers)
    if not layers:
        raise _takes_no_keys("adapter prefix", model.config.model_type)
    of_layers = [half for layer in layers for half in (layer.keys, layer.values)]
    return torch.stack([half[0].transpose(0, 1) for half in of_layers], 1).flatten(1)


def _takes_no_keys(where: str, model_type: str) -> UserError:
    return UserError(
        "prefix tuning cannot work on this model: its attention accepts no additional keys",
        where=where,
        found=model_type,
        hint="Set adapter=lora.",
    )


def refuse_virtual_tokens(adapter: Any, situation: AdapterContext, what: str) -> None:
    """What holds for everything that puts positions before a row."""
    if situation.gradient_checkpointing:
        raise UserError(
            f"{what} does not work with gradient checkpointing",
            where="train.gradient_checkpointing",
            found="true",
            hint="Set train.gradient_checkpointing=false (train.micro_batch_tokens saves memory too), or adapter=lora.",
        )
    if situation.packed:
        raise UserError(
            f"{what} does not work with packed documents: positions that begin again have no place for it",
            where=f"task {situation.task}",
            found="several documents in a row",
            hint="Set adapter=lora, or task=sft, where every row is one text.",
        )
    positions, length = situation.num_positions, situation.max_length
    room = 0 if positions is None else positions - adapter.num_virtual_tokens
    if positions is not None and length + adapter.num_virtual_tokens > positions:
        raise UserError(
            f"{adapter.num_virtual_tokens} virtual tokens leave no place for rows of {length}",
            where="data.max_length",
            found=f"{positions} positions ({situation.model.name})",
            hint=f"Set data.max_length={room} or less." if room > 0 else "Lower adapter.num_tokens.",
        )
