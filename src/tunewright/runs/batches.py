"""The data half of a run, for a loop of one's own: config -> token store -> batches of tensors.

    prepare("reviews.yaml").store["train"].lengths       int32 tokens of every kept training row
    for batch in batches("reviews.yaml", "train"): …     {"input_ids": …, "attention_mask": …, "labels": …}
    len(batches(frame, task="ner"))                      how many steps an epoch has

A config is taken in any form, as `train` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from tunewright import preparation
from tunewright.batching.padding import Padding
from tunewright.batching.schedule import BatchSchedule
from tunewright.batching.store import SplitStore
from tunewright.config.sections import AdapterKeys, DataKeys, EvaluateKeys, ModelKeys, TaskKeys, TrainKeys
from tunewright.errors import UserError, quoted
from tunewright.preparation import TRAIN, Prepared
from tunewright.reporting.display import progress_shown
from tunewright.runs.autoconfig import AnyConfig, as_config
from tunewright.runs.from_python import words_of
from tunewright.runs.setup import encoder_of
from tunewright.tasks.base import Task
from tunewright.tokenization.encoder import TextEncoder


def prepare(
    config: AnyConfig, overrides: Sequence[str] = (), *, task: str | TaskKeys | None = None, model: str | Path | ModelKeys | None = None,
    data: DataKeys | None = None, adapter: str | AdapterKeys | None = None, train: TrainKeys | None = None,
    evaluate: EvaluateKeys | None = None, plugins: Sequence[str] = (), output: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None, progress: bool | None = None,
) -> Prepared:  # fmt: skip
    """Make the token store of data or a config, or take the one that is there. UserError for everything the user can correct.

    config and the sections: as `train` takes them. say: is given a line where a store cannot be used and is built again. progress: as for `train`.
    """
    words = words_of(
        task=task,
        model=model,
        data=data,
        adapter=adapter,
        train=train,
        evaluate=evaluate,
        plugins=plugins,
        output=output,
    )
    with progress_shown(progress):
        return preparation.prepare(as_config(config, overrides, words=words), say=say)


def batches(
    config: AnyConfig, split: str = TRAIN, *, epoch: int = 0, task: str | TaskKeys | None = None,
    model: str | Path | ModelKeys | None = None, data: DataKeys | None = None, adapter: str | AdapterKeys | None = None,
    train: TrainKeys | None = None, evaluate: EvaluateKeys | None = None, plugins: Sequence[str] = (), output: str | Path | None = None,
    progress: bool | None = None,
) -> Batches:  # fmt: skip
    """One epoch of batches for a plain PyTorch loop: dicts with Hugging Face names, `labels` included. UserError as of `prepare`.

    Every dict holds the rows of one step of `train`, in the same order, padded as `data.padding` says; so a loop over the epochs 0, 1, …
    sees what `train` sees. config and the sections, progress: as `train` takes them. `len()` of the result: batches that are left.
    """
    words = words_of(
        task=task,
        model=model,
        data=data,
        adapter=adapter,
        train=train,
        evaluate=evaluate,
        plugins=plugins,
        output=output,
    )
    resolved = as_config(config, words=words)
    with progress_shown(progress):
        prepared = preparation.prepare(resolved)
    rows = _rows_of(prepared, split)
    learned = prepared.task().for_epoch(seed=resolved.train.seed, epoch=epoch)
    plan = BatchSchedule(len(rows), resolved.train.batch_size, resolved.train.seed)
    padding = Padding(to_max_length=resolved.data.padding == "max_length")
    return Batches(learned, rows, encoder_of(resolved, prepared), plan, epoch, padding)


class Batches(Iterator[dict[str, torch.Tensor]]):
    """The batches of one epoch, each made when it is asked for; `len()`: how many are left, for a progress bar and a schedule."""

    def __init__(
        self, task: Task, rows: SplitStore, encoder: TextEncoder, plan: BatchSchedule, epoch: int, padding: Padding
    ) -> None:
        self._task, self._rows, self._encoder, self._plan = task, rows, encoder, plan
        self._padding = padding
        self._next, self._end = epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch

    def __len__(self) -> int:
        return self._end - self._next

    def __next__(self) -> dict[str, torch.Tensor]:
        if not len(self):
            raise StopIteration
        _, positions = self._plan.rows_of_step(self._next)
        self._next += 1
        batch = self._task.collate(self._rows, positions, self._encoder, self._padding)
        return {**batch.inputs, **batch.targets}


def _rows_of(prepared: Prepared, split: str) -> SplitStore:
    """UserError for a split that has no rows."""
    if split not in prepared.store.splits:
        raise UserError(
            f"there is no split {split!r}", where="batches", found=quoted(prepared.store.splits),
            hint="Name one of those, or give the data of this one.",
        )  # fmt: skip
    return prepared.store[split]
