"""Numbers of tokens that come again: a library that compiles a product for every new shape should meet few of them.

oneDNN, which multiplies bf16 matrices on a CPU, writes machine code for each number of tokens it has not seen, half a megabyte of it
for every width of a layer. Without micro-batches of ever other sizes a Llama of 4.8 million weights learned 1.2 times faster; so
they are padded to a multiple of 32 tokens, rows and positions taken together.
"""

from __future__ import annotations

import torch

_SHAPE_TOKENS = 32


def shape_tokens(dtype: torch.dtype, device: torch.device) -> int:
    """What the tokens of a micro-batch are to be a multiple of, where products are computed in `dtype`."""
    return _SHAPE_TOKENS if device.type == "cpu" and dtype == torch.bfloat16 else 1
