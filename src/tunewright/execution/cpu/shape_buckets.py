"""Few different numbers of tokens, for a library that compiles a product for every new shape.

oneDNN, which multiplies bf16 matrices on a CPU, compiles code for each new number of tokens, half a megabyte for every width of a
layer. With few different sizes of micro-batches a Llama of 4.8 million weights trained 1.2 times faster; so they are padded to a
multiple of 32 tokens, rows and positions together, and rows to a multiple of 8 in attention.
"""

from __future__ import annotations

import torch

_SHAPE_TOKENS = 32
_SHAPE_POSITIONS = 8


def shape_tokens(dtype: torch.dtype, device: torch.device) -> int:
    """The number of tokens of a micro-batch must be a multiple of this if products are computed in `dtype`."""
    return _SHAPE_TOKENS if device.type == "cpu" and dtype == torch.bfloat16 else 1


def shape_positions(dtype: torch.dtype, device: torch.device) -> int:
    """The length of a row in attention's products must be a multiple of this."""
    return _SHAPE_POSITIONS if shape_tokens(dtype, device) > 1 else 1
