"""The data half of a run, for a loop of one's own: config -> token store -> batches of tensors.

    prepare("reviews.yaml").store["train"].lengths       int32 tokens of every kept training row
    for batch in batches("reviews.yaml", "train"): …     {"input_ids": …, "attention_mask": …, "labels": …}

A config is taken in any form, as `train` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from tunewright import preparation
from tunewright.batching.schedule import BatchSchedule
from tunewright.config.sections import AdapterKeys, DataKeys, EvaluateKeys, ModelKeys, TaskKeys, TrainKeys
from tunewright.preparation import TRAIN, Prepared
from tunewright.reporting.display import progress_shown
from tunewright.runs.autoconfig import AnyConfig, as_config
from tunewright.runs.from_python import words_of
from tunewright.runs.setup import encoder_of


def prepare(
    config: AnyConfig, overrides: Sequence[str] = (), *, task: str | TaskKeys | None = None, model: str | Path | ModelKeys | None = None,
    data: DataKeys | None = None, adapter: str | AdapterKeys | None = None, train: TrainKeys | None = None,
    evaluate: EvaluateKeys | None = None, plugins: Sequence[str] = (), output: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None, progress: bool | None = None,
) -> Prepared:  # fmt: skip
    """Make the token store of data or a config, or take the one that is there. UserError for everything the user can mend.

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


def batches(config: AnyConfig, split: str = TRAIN, *, epoch: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    """One epoch of a config's batches for a plain PyTorch loop: dicts with Hugging Face names, `labels` included.

    Every dict is one step's rows in the plan's order, padded to their longest.
    """
    resolved = as_config(config)
    prepared = preparation.prepare(resolved)
    task, encoder = prepared.task(), encoder_of(resolved, prepared)
    rows = prepared.store[split]
    plan = BatchSchedule(len(rows), resolved.train.batch_size, resolved.train.seed)
    task = task.for_epoch(seed=resolved.train.seed, epoch=epoch)
    for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
        _, positions = plan.rows_of_step(step)
        batch = task.collate(rows, positions, encoder)
        yield {**batch.inputs, **batch.targets}
