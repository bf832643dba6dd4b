"""The order of rows: which rows make which optimizer step, as a pure function of (seed, epoch, position).

    schedule = BatchSchedule(num_rows=10, batch_size=4, seed=0)
    schedule.rows_of_step(2)       # (0, the last two rows of epoch 0's order): steps are 4, 4 and 2 rows

The position of training in the schedule is one number: samples seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_ORDER_STREAM = 0x0DE4  # keeps the order's stream apart from others drawn from the same seed


@dataclass(frozen=True)
class BatchSchedule:
    """`epochs` may be a fraction; the last epoch then ends early."""

    num_rows: int
    batch_size: int
    seed: int
    epochs: float = 1.0
    max_steps: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_rows // self.batch_size)

    @property
    def num_steps(self) -> int:
        return min(self._all_steps, self.max_steps) if self.max_steps else self._all_steps

    @property
    def is_cut(self) -> bool:
        """Whether `max_steps` ends training before the epochs do."""
        return self.num_steps < self._all_steps

    @property
    def _all_steps(self) -> int:
        return max(1, round(self.epochs * self.steps_per_epoch))

    def rows_of_step(self, step: int) -> tuple[int, np.ndarray]:
        """(epoch, row positions int64) of optimizer step `step`, counted from 0 over the whole run."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = _order(self.num_rows, self.seed, epoch)
        return epoch, order[within * self.batch_size : (within + 1) * self.batch_size]

    def samples_before(self, step: int) -> int:
        """Samples seen when `step` begins."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch * self.num_rows + min(within * self.batch_size, self.num_rows)

    def step_at(self, samples: int) -> int:
        """The step that begins after `samples`: the inverse of `samples_before`."""
        epoch, within = divmod(samples, self.num_rows)
        assert within % self.batch_size == 0, "samples seen are always at the end of a step"
        return epoch * self.steps_per_epoch + within // self.batch_size


@lru_cache(maxsize=2)
def _order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_ORDER_STREAM, seed, epoch])))
    return generator.permutation(num_rows)
