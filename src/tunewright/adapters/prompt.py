"""Prompt tuning (Lester et al. 2021): some learned embeddings before each row, and nothing else.

    adapter: {name: prompt, num_tokens: 20}     [v1 … v20] [CLS] where is my parcel ? [SEP]

They start as embeddings of random words. A classifier of the BERT kind then reads the first of them instead of [CLS]. For small
models it is the weakest adapter; LoRA or a prefix learn more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveInt

from tunewright.adapters.base import BaseAdapter, Situation
from tunewright.adapters.config import AdapterOptions
from tunewright.adapters.prefix import refuse_virtual_tokens
from tunewright.errors import UserError
from tunewright.models.kinds import kind_of


class Options(AdapterOptions):
    name: str = "prompt"
    num_tokens: PositiveInt = Field(20, description="Learned embeddings before each row.")


class Adapter(BaseAdapter):
    merges = False
    rate_factor = 100.0

    @property
    def num_virtual_tokens(self) -> int:  # type: ignore[override]
        return self.options.num_tokens

    def refuse(self, situation: Situation) -> None:
        if situation.task == "classification" and kind_of(situation.model) == "decoder":
            raise UserError(
                "prompt tuning cannot work on a decoder's classifier: it looks for the last token by its id, and embeddings have none",
                where=f"model {situation.model.name}",
                mend="Set adapter=prefix or adapter=lora.",
            )
        refuse_virtual_tokens(self, situation, "prompt tuning")

    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            task_type=kind, num_virtual_tokens=self.options.num_tokens, modules_to_save=list(heads) or None
        )

    def start(self, model: Any, *, seed: int) -> None:
        """Embeddings of random words: of the length that the model is used to."""
        import torch

        words = model.get_base_model().get_input_embeddings().weight
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(words), (self.options.num_tokens,), generator=generator)
        model.prompt_encoder["default"].embedding.weight.data.copy_(words.data[chosen])
