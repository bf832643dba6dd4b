"""Model + rows -> outputs and scores, through the same batches as training.

outputs = model_outputs(model, task, store["test"], encoder, settings=settings)      # float32 (rows, labels)
task.metrics(task.outputs_to_scores(outputs), store["test"], intervals=True)["metrics"]["accuracy"]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.models.rows import rows_in_flight
from tunewright.tokens.batch import rows_of
from tunewright.tokens.store import SplitStore
from tunewright.tokens.tokenizer import TextEncoder
from tunewright.training.engine import Settings, autocast, make_batch

_WINDOW = 4_096  # rows sorted by length together


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split: metrics (with `loss`), per-class scores, confusion, intervals; and each row's scores."""

    split: str
    num_rows: int
    result: dict[str, Any]
    scores: np.ndarray

    @property
    def metrics(self) -> dict[str, float]:
        return self.result["metrics"]


def evaluate_split(
    model: nn.Module, task: Any, split: SplitStore, encoder: TextEncoder, *, settings: Settings, intervals: bool = False
) -> Evaluation:
    """Score every row of a split. `loss` is the task's loss per row, without class weights or dropout."""
    outputs, loss = model_outputs(model, task, split, encoder, settings=settings)
    scores = task.outputs_to_scores(outputs)
    result = task.metrics(scores, split, intervals=intervals)
    result["metrics"] = {"loss": loss, **result["metrics"]}
    return Evaluation(split.name, len(split), result, scores)


def model_outputs(
    model: nn.Module,
    task: Any,
    split: SplitStore,
    encoder: TextEncoder,
    *,
    settings: Settings,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, float]:
    """(the model's outputs, float32, a row each in the split's order; mean loss). With several ranks each computes a share."""
    plain = replace(task, class_weights=None) if hasattr(task, "class_weights") else task
    was_training = model.training
    model.eval()
    parts: list[tuple[np.ndarray, np.ndarray, float, float]] = []
    done = 0
    with torch.no_grad(), autocast(settings):
        for start in range(0, len(split), _WINDOW):
            window = np.arange(start, min(start + _WINDOW, len(split)))
            pieces = settings.cut(split.lengths[window])
            for piece in pieces[settings.rank :: settings.num_ranks]:
                positions = window[piece]
                batch = make_batch(plain, split, positions, encoder, settings)
                context = rows_of(
                    batch.row_ids, batch.lengths, batch.inputs["input_ids"].shape[1],
                    seed=0, epoch=0, left=encoder.padding_side == "left",
                )  # fmt: skip
                with rows_in_flight(context):
                    terms, outputs = plain.loss(model, batch)
                total = sum(float(value) for value, _ in terms.values())
                weight = float(next(iter(terms.values()))[1])
                parts.append((positions, outputs.float().cpu().numpy(), total, weight))
                done += len(positions)
                if progress:
                    progress(done)
    model.train(was_training)
    if settings.num_ranks > 1:
        parts = _gathered(parts, settings)
    order = np.concatenate([positions for positions, *_ in parts])
    outputs_BK = np.concatenate([outputs for _, outputs, *_ in parts])
    restored = np.empty_like(outputs_BK)
    restored[order] = outputs_BK
    return restored, sum(total for *_, total, _ in parts) / max(1e-12, sum(weight for *_, weight in parts))


def _gathered(parts: list[Any], settings: Settings) -> list[Any]:
    everyone: list[Any] = [None] * settings.num_ranks
    torch.distributed.all_gather_object(everyone, parts)
    return [part for of_rank in everyone for part in of_rank]


def worst_rows(evaluation: Evaluation, task: Any, split: SplitStore, limit: int) -> list[dict[str, Any]]:
    """The most confidently wrong rows: address, gold, predicted, score. Worth a look: often the label is what is wrong."""
    wrongness = task.wrongness(evaluation.scores, split)
    worst = [int(i) for i in np.argsort(-wrongness, kind="stable")[:limit] if wrongness[i] > 0]
    rows = []
    for position in worst:
        predicted = task.decode(evaluation.scores[position])
        rows.append({
            "row": split.address(position),
            "gold": task.gold_names(split, position),
            "predicted": list(predicted.labels) if predicted.labels is not None else predicted.label,
            "score": predicted.score,
        })  # fmt: skip
    return rows
