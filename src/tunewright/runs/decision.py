"""What was decided about a config's data, and from what: the first lines of `train` and `check`, the comments that `init` writes.

    decision = decision_of(config, open_inputs(config))
    print("\\n".join(decision.lines()))
    task      classification (text 'review' by its name, label 'sentiment' by its name)
    columns   text review, label sentiment
    not used  id, date
    files     train       reviews.csv
              validation  10 % of the training rows
              test        reviews_test.csv
    model     sentence-transformers/all-MiniLM-L6-v2 (from the Hub's cache)

Reads nothing: everything was found out when the inputs were opened, so `init`, `check` and `train` say and do the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.config.run_config import RunConfig
from tunewright.errors import quoted
from tunewright.preparation import SPLITS, TEST, VALIDATION, Inputs
from tunewright.preparation.first_pass import carved
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.records import HeldRows

_NAMES_SHOWN, _FILES_SHOWN = 10, 4
_LABEL_WIDTH = 10


@dataclass(frozen=True)
class Decision:
    """What a run learns, from which columns of which files, starting from which model."""

    task: str
    reason: str
    """How task and columns were found out."""
    columns: dict[str, str]
    """Role -> column, as the task describes them."""
    not_used: tuple[str, ...]
    """Columns of the training files that nothing reads."""
    texts_not_used: tuple[str, ...]
    """Those among them that hold texts."""
    files: dict[str, list[str]]
    """Split -> the files it is read from."""
    carved: dict[str, float]
    """Split -> share of the training rows that is set aside for it."""
    model: str
    shapes: tuple[str, ...] = ()
    """Files of another shape than the first one: the columns that each is read by."""
    others_not_used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further file -> its columns that nothing reads and that the first file has not."""
    model_origin: str = ""
    """Where the default model was found on this machine."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "task": self.task, "reason": self.reason, "columns": self.columns, "not_used": list(self.not_used),
            "others_not_used": {name: list(columns) for name, columns in self.others_not_used.items()},
            "files": self.files, "carved": self.carved, "model": self.model,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The lines for a terminal: a label of ten characters, then what it says."""
        return [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in self._facts()]

    def _facts(self) -> Iterator[tuple[str, str]]:
        is_named = all(part.endswith("as named") for part in self.reason.split(", "))
        yield "task", self.task if is_named else f"{self.task} ({self.reason})"
        yield "columns", ", ".join(f"{role} {column}" for role, column in self.columns.items())
        if self.not_used:
            yield "not used", shortened(self.not_used, _NAMES_SHOWN)
        for name, columns in itertools.islice(self.others_not_used.items(), _FILES_SHOWN):
            yield "not used", f"{shortened(columns, _NAMES_SHOWN)} (of {name})"
        if (more := len(self.others_not_used) - _FILES_SHOWN) > 0:
            yield "not used", f"columns of {more} more {'file' if more == 1 else 'files'}"
        if self.texts_not_used:
            one = len(self.texts_not_used) == 1
            said = (
                f"{quoted(self.texts_not_used)} {'holds text too and is' if one else 'hold text too and are'} not read"
            )
            yield "notice", f"{said}; data.text=[A,B] reads several columns as one text"
        for shape in self.shapes:
            yield "by itself", shape
        for number, (split, where) in enumerate(self._splits()):
            yield "" if number else "files", f"{split:<12}{where}"
        yield "model", f"{self.model} ({self.model_origin})" if self.model_origin else self.model

    def _splits(self) -> Iterator[tuple[str, str]]:
        """Each split and where its rows come from."""
        for split in SPLITS:
            if names := self.files.get(split):
                yield split, shortened(names, _FILES_SHOWN)
            elif split in self.carved:
                share = self.carved[split]
                yield split, f"{100 * share:g} % of the training rows" if share else "none"


def decision_of(config: RunConfig, inputs: Inputs, *, model: ModelFolder | None = None) -> Decision:
    """What `inputs`, opened for `config`, were decided to be. model: where it was found, if it was looked for."""
    task, data = inputs.task, config.data
    used = {*task.read_columns, data.weight, data.group_by, data.split_column}
    not_used = tuple(column for column in inputs.columns if column not in used)
    files = {split: list(dict.fromkeys(_name(source) for _, source in inputs.of(split))) for split in inputs.sources}
    return Decision(
        task=task.name,
        reason=config.found_by or inputs.reason,
        columns=task.describe(),
        not_used=not_used,
        texts_not_used=tuple(column for column in not_used if column in inputs.prose_columns),
        files={split: names for split, names in files.items() if names},
        carved={split: carved(config, inputs)[split] for split in (VALIDATION, TEST) if not inputs.sources.get(split)},
        model=config.model.name,
        model_origin=model.origin if model is not None else "",
        others_not_used=inputs.others_unused,
        shapes=tuple(f"{source.name}: {source.shape}" for _, source in inputs.of() if source.shape),
    )


def _name(source: Source) -> str:
    """A source as the user wrote it, and the file that holds its labels."""
    beside = [path.name for path in source.paths[1:]] if source.format == "text" else []
    name = f"{source.name} ({source.name.described})" if isinstance(source.name, HeldRows) else source.name
    return " + ".join([name, *beside])


def shortened(names: Sequence[str], most: int) -> str:
    """`a, b, c and 9 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
