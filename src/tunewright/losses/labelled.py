"""Where the labels of a micro-batch are, found on the host: a GPU is not waited for, as it would be for a boolean mask.

    labels_BL [[-100, 7], [5, 8]]   ->   labels_S [7, 5, 8], row_S [0, 1, 1], positions_S [1, 2, 3] of the flattened rows
    states_SX = tokens.select(states_BLX)

Shapes: B rows, L length, S labelled tokens, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tunewright.records import IGNORED, copied_to


@dataclass(frozen=True)
class LabelledTokens:
    """Tensors on the model's device, int64. count_B: the labelled tokens of each row."""

    labels_S: torch.Tensor
    row_S: torch.Tensor
    positions_S: torch.Tensor
    count_B: torch.Tensor

    @classmethod
    def of(cls, labels_BL: torch.Tensor, device: torch.device) -> LabelledTokens:
        """labels_BL: int64, -100 at positions without a label; on the host (`Batch.host_targets`) nothing is waited for."""
        flat = labels_BL.flatten()
        positions_S = (flat != IGNORED).nonzero()[:, 0]
        found = (flat[positions_S], positions_S // labels_BL.shape[1], positions_S, (labels_BL != IGNORED).sum(1))
        return cls(*(copied_to(tensor, device) for tensor in found))

    def select(self, states_BLX: torch.Tensor) -> torch.Tensor:
        """`(S, …)`: the states at the labelled positions."""
        return states_BLX.flatten(0, 1).index_select(0, self.positions_S)
