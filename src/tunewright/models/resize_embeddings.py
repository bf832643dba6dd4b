"""New rows for tokens that the user added: embeddings (and output rows) that start where the model already stands.

    extend_embeddings(model, source)      [NewToken("metformin", 30522, (2777, 14192, 2378))]; 30,523 rows now

A new row is the mean of the rows of the pieces that it replaces, in the input embedding and, where the model has its own,
in the output embedding and its bias. `save_pretrained` writes the larger tables and `vocab_size`, and they load as any others.

With adapters the base stays frozen, and new rows stay at their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from tunewright.pretrained.model_files import ModelFolder
from tunewright.tokenization.added_tokens import NewToken, new_tokens
from tunewright.tokenization.encoder import load_tokenizer


def extend_embeddings(model: Any, source: ModelFolder) -> list[NewToken]:
    """Give every added token of `source` its row; what was added. A table that already has room for them keeps its size."""
    if not source.added_tokens:
        return []
    added = new_tokens(load_tokenizer(replace(source, added_tokens=())), source.added_tokens)
    if added:
        num_rows = model.get_input_embeddings().num_embeddings
        if added[-1].id >= num_rows:
            model.resize_token_embeddings(added[-1].id + 1, mean_resizing=False)
        for table in _tables(model):
            _start_at_mean(table, added)
    return added


@torch.no_grad()
def _start_at_mean(table_VH: torch.Tensor, added: Sequence[NewToken]) -> None:
    """Rows (or, of a bias, entries) of the new tokens; the mean of all old ones where a token has no pieces."""
    old = table_VH[: added[0].id].clone()
    for token in added:
        rows = old[list(token.pieces)] if token.pieces else old
        table_VH[token.id] = rows.mean(dim=0)


def _tables(model: Any) -> list[torch.Tensor]:
    """Input rows, and output rows and biases where they are not the same memory."""
    output = model.get_output_embeddings()
    found = [model.get_input_embeddings().weight]
    if output is not None:
        found += [output.weight, *([output.bias] if getattr(output, "bias", None) is not None else [])]
    return list({table.data_ptr(): table for table in found}.values())
