"""A run's files, read once more for everything that needs their texts: baselines, the worst rows, golden examples.

    texts = RowInputs(task, [4, 17])
    read_again(inputs.rows(), [texts, golden.Choice(store, task, encoder)], where="train.csv")
    texts.of[17]        Example("Where is my parcel?")

The token store holds no texts. All who need some say which rows, and share one pass, which ends behind the last row that is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tunewright.errors import UserError
from tunewright.records import Example, Reject, Row
from tunewright.tasks.base import Task


class RowReader(Protocol):
    """Takes rows in as they are read."""

    last_row_id: int
    """It needs no row behind this one; -1 where it needs none."""

    def see(self, row_id: int, row: Row | Reject) -> None: ...


class RowInputs:
    """The inputs of some rows, by their ids: texts without labels, as prediction reads them."""

    def __init__(self, task: Task, row_ids: Iterable[int]) -> None:
        self.task, self._wanted = task, {int(row_id) for row_id in row_ids}
        self.last_row_id = max(self._wanted, default=-1)
        self.of: dict[int, Example] = {}

    def see(self, row_id: int, row: Row | Reject) -> None:
        """UserError where a row that was read well cannot be read any more."""
        if row_id not in self._wanted:
            return
        if not isinstance(row, Row):
            raise UserError("the file has changed since it was prepared", where=row.address)
        self.of[row_id] = self.task.to_input(row)


def read_again(rows: Iterable[Row | Reject], readers: Sequence[RowReader], *, where: str) -> None:
    """Show each reader the rows up to its last one. UserError where the files have become shorter. where: names them."""
    last = max((reader.last_row_id for reader in readers), default=-1)
    if last < 0:
        return
    for row_id, row in enumerate(rows):
        for reader in readers:
            if row_id <= reader.last_row_id:
                reader.see(row_id, row)
        if row_id == last:
            return
    raise UserError("the files have fewer rows than when they were prepared", where=where)
