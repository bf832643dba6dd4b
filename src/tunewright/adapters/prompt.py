"""Prompt tuning (Lester et al. 2021): some learned embeddings before each row, and nothing else.

    adapter: {name: prompt, num_tokens: 20}     [v1 … v20] [CLS] where is my parcel ? [SEP]

They start as embeddings of random words. A classifier of the BERT kind then reads the first of them instead of [CLS]. For small
models it is the weakest adapter; LoRA or a prefix learn more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, PositiveInt

from tunewright.adapters.base import AdapterContext, BaseAdapter
from tunewright.adapters.config import AdapterOptions
from tunewright.adapters.prefix import refuse_virtual_tokens
from tunewright.errors import UserError
from tunewright.pretrained.architecture import kind_of


class Options(AdapterOptions):
    name: str = "prompt"
    num_tokens: PositiveInt = Field(20, description="Learned embeddings before each row.")


class Adapter(BaseAdapter):
    merges = False
    rate_factor = 100.0

    @property
    def num_virtual_tokens(self) -> int:  # type: ignore[override]
        return self.options.num_tokens

    def refuse(self, situation: AdapterContext) -> None:
        if situation.has_sequence_head and kind_of(situation.model) == "decoder":
            raise UserError(
                "prompt tuning cannot work on a decoder's classifier: it looks for the last token by its id, and embeddings have none",
                where=f"model {situation.model.name}",
                hint="Set adapter=prefix or adapter=lora.",
            )
        refuse_virtual_tokens(self, situation, "prompt tuning")

    def peft_config(self, model: Any, *, heads: Sequence[str], kind: str) -> Any:
        from peft import PromptTuningConfig

        width = model.get_input_embeddings().weight.shape[1]  # narrower than the model in ELECTRA and ALBERT
        return PromptTuningConfig(
            task_type=kind,
            num_virtual_tokens=self.options.num_tokens,
            token_dim=width,
            modules_to_save=list(heads) or None,
        )

    def start(self, model: Any, *, seed: int) -> None:
        """Embeddings of random words: of the length that the model is used to. UserError where it reads no embeddings."""
        import torch

        base = model.get_base_model()
        words = base.get_input_embeddings().weight
        was_training = base.training
        base.eval()
        try:
            with torch.no_grad():
                base(
                    inputs_embeds=words[:2][None],
                    attention_mask=torch.ones(1, 2, dtype=torch.int64, device=words.device),
                )
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UserError(
                "prompt tuning cannot work on this model: it reads no embeddings",
                where="adapter prompt",
                found=str(error)[:120],
                hint="Set adapter=lora.",
            ) from None
        finally:
            base.train(was_training)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(words), (self.options.num_tokens,), generator=generator)
        model.prompt_encoder["default"].embedding.weight.data.copy_(words.data[chosen])
