"""A file for onnxruntime: any number of rows of any length, the same outputs. transformers' own exporter writes it.

RUN/exports/onnx/model.onnx   inputs input_ids, attention_mask (and token_type_ids), output logits
                 onnx.json    names of inputs and outputs, labels in order
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.artifacts.model_folder import FILE, SavedModel
from tunewright.errors import UserError, first_line
from tunewright.exporters import ONNX_FACTS, kept_files
from tunewright.files.atomic import write_json

DTYPES = ("fp32",)
MODEL = "model.onnx"
TOLERANCE = 1e-4
_NEEDS = ("onnx", "onnxscript", "onnxruntime")
_OUTPUTS = ("logits", "prediction_logits")


def write(saved: SavedModel, folder: Path, *, dtype: str) -> None:
    """Write into an empty folder. UserError if the extra is not installed or the model cannot be traced."""
    _need(_NEEDS)
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    from tunewright.models.loading import load_as_named

    network = load_as_named(saved.folder, dtype="float32")
    network.config.use_cache = False
    inputs = _sample(saved.encoder(), network)
    try:
        with _quiet():
            program = _traced(OnnxExporter(), network, inputs, OnnxConfig(dynamic=True))
    except Exception as error:  # tracing an unsupported model may raise anything
        reason = first_line(error)
        raise UserError(
            f"this model cannot be exported to ONNX ({reason})",
            where=str(saved.folder),
            found=type(network).__name__,
            hint="Export it with --to merged.",
        ) from None
    import onnx_ir

    onnx_ir.save(program, str(folder / MODEL))
    names = {
        "inputs": [one.name for one in program.graph.inputs],
        "outputs": [one.name for one in program.graph.outputs],
    }
    task = saved.task()
    labels = list(task.output_names)
    write_json(folder / ONNX_FACTS, {"schema": 1, "task": task.name, "labels": labels, **names})
    for file in kept_files(saved):
        if file.suffix != ".safetensors" and file.name != FILE:
            shutil.copyfile(file, folder / file.name)


def _traced(exporter: Any, network: Any, inputs: dict[str, Any], config: Any) -> Any:
    """The graph, an `onnx_ir.Model`. Before about version 5.20, transformers' exporter returned it inside torch's program."""
    if hasattr(exporter, "export_program"):
        return exporter.export_program(network, inputs, config)[0]
    return exporter.export(network, inputs, config).model


def _sample(encoder: Any, network: Any) -> dict[str, Any]:
    """Two rows of seven tokens, the input of the trace."""
    import torch

    low, high = 1, min(network.config.get_text_config().vocab_size, 100)
    ids = torch.arange(14).remainder(high - low).add(low).view(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "token_type_ids" in encoder.tokenizer.model_input_names:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def session_outputs(folder: Path) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """A function from one golden row to the logits that onnxruntime computes."""
    _need(("onnxruntime",))
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    wanted = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    place = next(outputs.index(name) for name in _OUTPUTS if name in outputs)

    def run(row: Mapping[str, Any]) -> np.ndarray:
        ids = np.array([row["input_ids"]], dtype=np.int64)
        types = (
            np.zeros_like(ids) if row["token_type_ids"] is None else np.array([row["token_type_ids"]], dtype=np.int64)
        )
        known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        return session.run(None, {name: known[name] for name in wanted})[place][0]

    return run


def _need(packages: tuple[str, ...]) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {', '.join(missing)}", where="--to onnx", hint="Run: pip install 'tunewright[onnx]'"
        )


def _quiet() -> Any:
    """Silence the exporter's progress lines and warnings: `--json` prints one object, and the result is verified afterwards."""
    import contextlib
    import io
    import logging
    import warnings

    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.WARNING)
    return stack
