"""Shapes of models that start from random weights: `scratch:bert-mini` -> config values. Imports no torch.

    preset_values("scratch:bert-mini")      {"model_type": "bert", "num_hidden_layers": 4, "hidden_size": 256, …}
    sized_to(values, tokenizer)             the same with vocab_size, pad_token_id, bos_token_id and eos_token_id

BERT's six shapes are the published ones (Turc et al. 2019, "Well-Read Students Learn Better", table 1; heads are width / 64).
GPT-2 in its base and large shape is GPT-2 of 124 M and 355 M parameters; the smaller decoders keep its proportions. Weights
start as published, drawn by transformers: a normal distribution of deviation 0.02, in GPT-2 divided by √(2 · layers) where a
block writes to the residual stream (Radford et al. 2019, section 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.errors import UserError, suggestion

PREFIX = "scratch:"
_HEAD_WIDTH = 64
_LLAMA_MULTIPLE = 64
_DECODERS = {
    "tiny": (2, 128), "mini": (4, 256), "small": (6, 384), "medium": (8, 512), "base": (12, 768), "large": (24, 1024),
}  # fmt: skip
SHAPES: dict[str, dict[str, tuple[int, int]]] = {
    "bert": {
        "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024),
    },
    "gpt": _DECODERS,
    "llama": _DECODERS,
}  # fmt: skip
"""Family -> size -> (layers, width)."""


def preset_names() -> list[str]:
    """`scratch:bert-tiny`, `scratch:bert-mini`, … every name there is."""
    return [f"{PREFIX}{family}-{size}" for family, sizes in SHAPES.items() for size in sizes]


def preset_values(name: str) -> dict[str, Any]:
    """Config values of a preset, without what its tokenizer decides. UserError that names the closest one."""
    if name not in preset_names():
        known = "; ".join(f"{PREFIX}{family}-{'|'.join(sizes)}" for family, sizes in SHAPES.items())
        raise UserError("no such preset", where=f"model {name}", expected=known, hint=suggestion(name, preset_names()))
    family, _, size = name.removeprefix(PREFIX).partition("-")
    return _VALUES_OF[family](*SHAPES[family][size])


def sized_to(values: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The preset with a row for each entry of a tokenizer's vocabulary, and its special tokens' ids.

    A padding token that is also the end token is left out: torch keeps the embedding of the padding id at zero.
    """
    num_rows = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": None if pad in (bos, eos) else pad}
    return {**values, "vocab_size": num_rows, **ids}


def _bert(layers: int, width: int) -> dict[str, Any]:
    return {
        "model_type": "bert", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": width // _HEAD_WIDTH,
        "intermediate_size": 4 * width, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu",
        "initializer_range": 0.02, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip


def _gpt(layers: int, width: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": width // _HEAD_WIDTH, "n_positions": 1024,
        "initializer_range": 0.02, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "attn_pdrop": 0.1,
    }  # fmt: skip


def _llama(layers: int, width: int) -> dict[str, Any]:
    """The feed-forward width is 8/3 of the width, rounded up (Touvron et al. 2023); small models share input and output rows."""
    inner = -(-8 * width // 3 // _LLAMA_MULTIPLE) * _LLAMA_MULTIPLE
    heads = width // _HEAD_WIDTH
    return {
        "model_type": "llama", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": heads, "head_dim": _HEAD_WIDTH, "intermediate_size": inner,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": True,
    }  # fmt: skip


_VALUES_OF = {"bert": _bert, "gpt": _gpt, "llama": _llama}
