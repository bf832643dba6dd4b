"""One row at every stage: as read, as the task understands it, as tokens, as the model's batch.

stages = explain(config, "train.csv:418")
stages["tokens"]      [{"token": "[CLS]", "id": 101}, {"token": "where", "id": 2073}, …]
"""

from __future__ import annotations

from typing import Any

from tunewright.config import RunConfig
from tunewright.errors import RowError, UserError, quoted
from tunewright.models.source import locate_model
from tunewright.plugins import find
from tunewright.prepare import TRAIN, Inputs, open_inputs
from tunewright.reading import Source
from tunewright.records import Reject
from tunewright.text.labels import LabelSpace


def explain(config: RunConfig, address: str) -> dict[str, Any]:
    """Follow the row at `file:line` (or a line of the first training file). UserError when no row stands there.

    Gives the row's fields, its texts and target, its tokens with ids, what truncation cut, and how it is padded.
    """
    inputs = open_inputs(config)
    source, line = _find(inputs, address)
    row = source.row_at(line)
    stages: dict[str, Any] = {"row": f"{source.name}:{row.line}"}
    if isinstance(row, Reject):
        return stages | {"rejected": row.reason, "raw": row.raw}
    stages["fields"] = dict(row.fields)
    module = find("tasks", "classification" if config.task == "auto" else config.task)
    task = module.Task(inputs.columns, LabelSpace((), inputs.multi_label), inputs.label_names)
    try:
        example = task.to_example(row)
    except RowError as error:
        return stages | {"rejected": error.reason}
    from tunewright.tokens.tokenizer import load_encoder

    model = locate_model(config.model.name, revision=config.model.revision)
    encoder = load_encoder(
        model,
        max_length=config.data.max_length,
        truncation_side=config.data.truncation_side,
        padding_side=config.data.padding_side,
    )
    encoded = task.encode([example], encoder)[0]
    tokens = encoder.tokens(encoded.input_ids)
    stages |= {
        "task": task.name,
        "text": example.text,
        **({"pair": example.pair} if example.pair is not None else {}),
        "target": example.target,
        "weight": example.weight,
        "tokens": [{"token": token, "id": int(i)} for token, i in zip(tokens, encoded.input_ids, strict=True)],
        "num_tokens": len(tokens),
        "num_cut": encoded.num_cut,
        "max_length": encoder.max_length,
        "padding": {"side": encoder.padding_side, "id": encoder.pad_token_id, "token": encoder.tokenizer.pad_token},
    }
    if encoded.token_type_ids is not None:
        for token, kind in zip(stages["tokens"], encoded.token_type_ids, strict=True):
            token["type"] = int(kind)
    return stages


def _find(inputs: Inputs, address: str) -> tuple[Source, int]:
    name, colon, line = address.rpartition(":")
    if not line.isdecimal():
        raise UserError(
            "which row?", found=address, expected="FILE:LINE", mend=f"For example {inputs.sources[TRAIN][0].name}:2."
        )
    sources = [source for _, source in inputs.of()]
    if not colon:
        return sources[0], int(line)
    matching = [source for source in sources if source.name == name] or [
        source for source in sources if source.name.endswith(f"/{name}")
    ]
    if not matching:
        raise UserError(f"{name} is not one of this config's files", found=quoted(source.name for source in sources))
    return matching[0], int(line)
