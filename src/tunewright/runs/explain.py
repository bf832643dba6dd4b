"""One row at every stage: as read, as the task understands it, as tokens, as the model's batch.

stages = explain(config, "train.csv:418")
stages["tokens"]      [{"token": "[CLS]", "id": 101}, {"token": "where", "id": 2073}, …]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from tunewright.adapters.base import longest_row
from tunewright.errors import RowError, UserError, quoted
from tunewright.preparation import TRAIN, Inputs, open_inputs
from tunewright.reading import Source
from tunewright.reading.file_shapes import bare_fields
from tunewright.records import HeldRows, Reject, address_of
from tunewright.runs.autoconfig import AnyConfig, as_config


class Explanation(TypedDict, total=False):
    """A row at every stage; of a rejected one the stages up to its reason. tokens: `{"token", "id", …}` of the first window."""

    row: str
    raw: str
    rejected: str
    fields: dict[str, Any]
    task: str
    text: str
    pair: str
    target: Any
    weight: float
    weight_from: str | None
    tokens: list[dict[str, Any]]
    num_tokens: int
    num_cut: int
    max_length: int
    padding: dict[str, Any]
    more_windows: list[list[dict[str, Any]]]


def explain(config: AnyConfig, address: str) -> Explanation:
    """Follow the row at `file:line` (or a line of the first training file). UserError when no row stands there.

    Gives the row's fields, its texts and target, its tokens with ids, what truncation cut, and how it is padded.
    """
    config = as_config(config)
    inputs = open_inputs(config)
    source, line = _find(inputs, address)
    row = source.row_at(line)
    stages: Explanation = {"row": address_of(source.name, row.line)}
    if isinstance(row, Reject):
        return {**stages, "rejected": row.reason, "raw": row.raw}
    stages["fields"] = bare_fields(row)
    task = inputs.task
    try:
        example = task.to_example(row)
    except RowError as error:
        return {**stages, "rejected": error.reason}
    from tunewright.tokenization.encoder import load_encoder

    model = config.model.locate()
    encoder = load_encoder(
        model,
        max_length=longest_row(config, model),
        truncation_side=config.data.truncation_side,
        padding_side=config.data.padding_side,
    )
    try:
        rows = task.display_tokens(example, encoder)
    except RowError as error:
        return {**stages, "rejected": error.reason}
    stages |= {
        "task": task.name,
        "text": example.text,
        "target": task.display_target(example),
        "weight": example.weight,
        "weight_from": config.data.weight,
        "tokens": rows[0].tokens,
        "num_tokens": len(rows[0].tokens),
        "num_cut": rows[0].num_cut,
        "max_length": encoder.max_length,
        "padding": {"side": encoder.padding_side, "id": encoder.pad_token_id, "token": encoder.tokenizer.pad_token},
    }
    if example.pair is not None:
        stages["pair"] = example.pair
    if len(rows) > 1:
        stages["more_windows"] = [row.tokens for row in rows[1:]]
    return stages


def _find(inputs: Inputs, address: str) -> tuple[Source, int]:
    for source in (source for _, source in inputs.of() if isinstance(source.name, HeldRows)):
        if address.startswith(f"{source.name}[") and address.endswith("]"):
            return source, _line_labelled(source, address)
    name, colon, line = address.rpartition(":")
    if not line.isdecimal():
        raise UserError(
            "which row?", found=address, expected="FILE:LINE", hint=f"For example {inputs.sources[TRAIN][0].name}:2."
        )
    sources = [source for _, source in inputs.of()]
    if not colon:
        return sources[0], int(line)
    matching = (
        [source for source in sources if source.name == name]
        or [source for source in sources if Path(source.name).resolve() == Path(name).resolve()]
        or [source for source in sources if source.name.endswith(f"/{name}")]
    )
    if not matching:
        raise UserError(f"{name} is not one of this config's files", found=quoted(source.name for source in sources))
    return matching[0], int(line)


def _line_labelled(source: Source, address: str) -> int:
    """The line of `train[17]` or `train['a7']`. UserError where the object has no such row."""
    assert isinstance(source.name, HeldRows)
    label, labels = address[len(source.name) + 1 : -1], source.name.labels
    if labels is None and label.isdecimal():
        return int(label) + 1
    if labels is not None and label in (known := list(labels)):
        return known.index(label) + 1
    raise UserError(
        "no row is called so", where=address, found=f"a {source.name.described}, the first {source.name.address(1)}"
    )
