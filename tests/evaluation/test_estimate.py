"""The time of a run counts every evaluation, and what comes after the last step."""

from __future__ import annotations

import pytest

from tests.conftest import messages, write_jsonl
from tunewright.batching.schedule import BatchSchedule
from tunewright.config.run_config import RunConfig
from tunewright.evaluation.estimate import _num_due, estimate
from tunewright.runs.setup import build_components

PLAN = BatchSchedule(num_rows=100, batch_size=10, seed=0, epochs=3)  # 30 steps, 10 an epoch


@pytest.mark.parametrize(
    ("every", "first_step", "expected"),
    [
        ("epoch", 0, 3), ("epoch", 10, 2), ("epoch", 15, 2), ("epoch", 30, 0), (7, 0, 5), (7, 7, 4), (100, 0, 1), ("never", 0, 1),
        ("never", 30, 0), ("30s", 0, 3),
    ],
)  # fmt: skip
def test_how_often_something_is_due_in_the_steps_that_are_left(every, first_step, expected):
    assert _num_due(every, PLAN, first_step, training=75.0) == expected


def test_scoring_more_often_and_more_rows_takes_longer(tiny_bert, tmp_path):
    def of(**evaluate):
        values = {
            "data": str(tmp_path / "m.jsonl"), "model": str(tiny_bert), "output": str(tmp_path / "run"), "train": {"epochs": 4},
            "evaluate": evaluate,
        }  # fmt: skip
        return estimate(build_components(RunConfig.model_validate(values)), first_step=0, training=2.0)

    write_jsonl(tmp_path / "m.jsonl", messages(200))
    once, often, bare = of(every="never"), of(every=1), of(every="never", baselines=False)
    assert once.training == often.training == 2.0
    assert often.scoring > 4 * once.scoring > 0
    assert once.rest > bare.rest > 0
    assert once.total == pytest.approx(once.training + once.scoring + once.rest)
    assert once.rows_scored == {"validation": 20, "test": 20}
