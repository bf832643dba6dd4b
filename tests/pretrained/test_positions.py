"""Model types whose first position comes after the pad token's: one list, for tokenizers and adapters."""

import json

import pytest
from transformers import AutoConfig

from tunewright.adapters.base import num_positions
from tunewright.pretrained.architecture import unused_positions
from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.encoder import resolve_max_length

OFFSET = ["camembert", "data2vec-text", "esm", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"]


@pytest.mark.parametrize(("kind", "offset"), [*((kind, 2) for kind in OFFSET), ("bert", 0), ("electra", 0)])
def test_tokenizer_and_adapters_leave_out_the_same_positions(kind, offset, tmp_path):
    config = {"model_type": kind, "max_position_embeddings": 40, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = ModelFolder(kind, tmp_path)
    assert AutoConfig.for_model(kind).model_type == kind and unused_positions(config) == offset
    assert num_positions(model) == resolve_max_length(model, "auto") == 40 - offset
