"""The width of a micro-batch: that of its longest row, a little more, or the maximum length.

For rows of 250, 248, 247 and 190 tokens and a max_length of 512:

    LONGEST                        250
    Padding(multiple=32)           256: 4 rows of 256 hold 32 · 32 tokens
    Padding(to_max_length=True)    512
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tunewright.tokenization.encoder import TextEncoder


@dataclass(frozen=True)
class Padding:
    """to_max_length: `data.padding: max_length`. multiple: the tokens of a micro-batch are padded to a multiple of it."""

    to_max_length: bool = False
    multiple: int = 1

    def width(self, lengths: np.ndarray, encoder: TextEncoder) -> int:
        """The width of a micro-batch of rows of these lengths; beyond `max_length` only where a row is longer."""
        if self.to_max_length:
            return encoder.max_length
        longest = int(lengths.max())
        return min(int(padded_width(longest, len(lengths), self.multiple)), max(longest, encoder.max_length))


LONGEST = Padding()


def padded_width(longest: Any, num_rows: Any, multiple: int) -> Any:
    """The least width not under `longest` at which `num_rows` rows hold a multiple of `multiple` tokens. Integers or arrays of them."""
    return rounded_up(longest, multiple // np.gcd(multiple, num_rows))


def rounded_up(number: Any, multiple: Any) -> Any:
    """The least multiple that is not smaller. Integers or arrays of them."""
    return -(-number // multiple) * multiple
