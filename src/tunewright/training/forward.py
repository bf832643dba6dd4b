"""Model + rows -> its output for each row, without gradient: the one loop of evaluation, reference and prediction.

outputs, facts = forward_rows(model, encoder, execution, lengths, batch_of, lambda batch: (task.row_outputs(…), None))
outputs[7]                    the output of row 7

Rows are sorted by length within a window, cut into micro-batches, computed by the execution and returned in their original order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from tunewright.batching.micro_batches import rows_of
from tunewright.batching.row_context import row_context
from tunewright.execution.base import Execution
from tunewright.records import Batch
from tunewright.tokenization.encoder import TextEncoder
from tunewright.training.out_of_memory import is_out_of_memory, release_memory

_WINDOW = 4_096  # rows sorted by length together
OfRow = TypeVar("OfRow")
Fact = TypeVar("Fact")


def forward_rows(
    model: nn.Module,
    encoder: TextEncoder,
    execution: Execution,
    lengths: np.ndarray,
    batch_of: Callable[[np.ndarray], Batch],
    compute: Callable[[Batch], tuple[Sequence[OfRow], Fact]],
    *,
    in_parallel: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[OfRow], list[Fact]]:
    """(results of `compute` for each row, in their order; for each micro-batch). The model is in evaluation mode meanwhile.

    lengths: int64 `(rows,)`, in tokens. batch_of: positions -> the rows as a batch. compute: a batch on the device -> (one value per
    row, one for the batch). in_parallel: micro-batches may be computed at the same time. progress: called with the number of rows
    done. With several ranks each computes a share, and all get all results.
    """
    was_training = model.training
    model.eval()
    done, counting = 0, threading.Lock()

    def of_piece(positions: np.ndarray) -> tuple[np.ndarray, Sequence[OfRow], Fact]:
        nonlocal done
        batch = batch_of(positions).to(execution.device)
        with row_context(rows_of(batch, encoder)):
            of_rows, fact = compute(batch)
        execution.after_step()
        with counting:
            done += len(positions) * execution.num_ranks
            progress(done)
        return positions, of_rows, fact

    def of_pieces(positions: np.ndarray) -> list[tuple[np.ndarray, Sequence[OfRow], Fact]]:
        """The piece; in halves where it does not fit into the device's memory."""
        try:
            return [of_piece(positions)]
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(positions) < 2:
                raise
        release_memory(execution.device)
        half = len(positions) // 2
        return of_pieces(positions[:half]) + of_pieces(positions[half:])

    parts: list[Any] = []
    # Not inference_mode: tensors that a model keeps between calls (growing rotary tables) are used in training again.
    with torch.no_grad(), execution.autocast():
        for start in range(0, len(lengths), _WINDOW):
            window = np.arange(start, min(start + _WINDOW, len(lengths)))
            pieces = [window[piece] for piece in execution.split_forward(lengths[window])]
            parts += chain.from_iterable(
                execution.forward(of_pieces, pieces) if in_parallel else map(of_pieces, pieces)
            )
    model.train(was_training)
    found: list[Any] = [None] * len(lengths)
    parts = execution.gathered(parts)
    for positions, of_rows, _ in parts:
        for position, of_row in zip(positions.tolist(), of_rows, strict=True):
            found[position] = of_row
    return found, [fact for *_, fact in parts]
