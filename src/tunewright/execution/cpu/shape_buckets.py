"""Numbers of tokens that come again: a library that compiles a product for every new shape should meet few of them.

oneDNN, which multiplies bf16 matrices on a CPU, writes machine code for each number of tokens it has not seen, half a megabyte of it
for every width of a layer. Without micro-batches of ever other sizes a Llama of 4.8 million weights learned 1.2 times faster; so
they are padded to a multiple of 32 tokens, rows and positions taken together, and rows to 8 in attention.
"""

from __future__ import annotations

import torch

_SHAPE_TOKENS = 32
_SHAPE_POSITIONS = 8


def shape_tokens(dtype: torch.dtype, device: torch.device) -> int:
    """What the tokens of a micro-batch are to be a multiple of, where products are computed in `dtype`."""
    return _SHAPE_TOKENS if device.type == "cpu" and dtype == torch.bfloat16 else 1


def shape_positions(dtype: torch.dtype, device: torch.device) -> int:
    """What the length of a row is to be a multiple of in attention's products."""
    return _SHAPE_POSITIONS if shape_tokens(dtype, device) > 1 else 1
