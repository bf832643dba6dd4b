"""tunewright predict RUN TEXT… | --pair A B | --file F | -"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright import __version__, hints
from tunewright.cli.options import Device, Execution, NoCheck, Plugins, Precision, RunFolder, load_libraries
from tunewright.errors import UserError
from tunewright.records import Example, NoAnswer

if TYPE_CHECKING:
    from tunewright.cli.predict_inputs import Asked, BadInputs
    from tunewright.cli.predict_outputs import PartFile
    from tunewright.reading.unchanged import Unchanged

NAME = "predict"


def run(
    run_folder: RunFolder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT…",
            help="Texts to predict. - reads one per line from stdin, and answers as soon as the input pauses.",
        ),
    ] = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option("--pair", metavar="A B", help="A pair of texts, for a model that reads pairs."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            help="A file with the columns of the training data. For NER also words without tags: one word per line (CoNLL), "
            "lists of words, or a table with one row per word.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write, the input's columns kept: .jsonl, .json, .csv, .tsv, .parquet, or .conll for words and tags. Default: stdout. "
            "Results are saved as they are computed; if interrupted, the same command continues where it stopped.",
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option(help="Give null instead of a label with a lower score.", min=0, max=1)
    ] = 0.0,
    top: Annotated[int, typer.Option(help="Number of labels in `scores`, the most probable first.", min=1)] = 10,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows",
            help="Give inputs that cannot be used an empty prediction with the reason, and list them on stderr.",
        ),
    ] = False,
    format: Annotated[
        str | None, typer.Option("--format", help="Format of --file, if it is not clear from the name: csv, conll, …")
    ] = None,
    max_row_bytes: Annotated[
        int | None, typer.Option(help="Refuse longer inputs. Default: the run's data.max_row_bytes.", min=1)
    ] = None,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option(
            "--spreadsheet-safe",
            help="With -o .csv or .tsv: put an apostrophe before cells that begin with = + - @ (or a tab or line break), which "
            "a spreadsheet would run as formulas. Without it cells hold the texts exactly: do not open texts of strangers in a spreadsheet.",
        ),
    ] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Generation: maximum number of tokens. Default: 100; 512 for chat models.", min=1)
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Generation: sampling temperature; 0 is greedy. Default: 0.8; 0 for chat models.", min=0),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Generation: sample from the k most probable tokens.", min=1)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Generation: sample from the most probable tokens that together reach probability p.", min=0, max=1
        ),
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Generation: stop at this text.")] = None,
    seed: Annotated[int | None, typer.Option(help="Generation: seed of the sampling. Default: 0.", min=0)] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    execution: Execution = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line. Always on when stdout is not a terminal.")
    ] = False,
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Predict with a trained run: one prediction per input, in order. Prints JSON lines when stdout is not a terminal."""
    from tunewright.cli.options import check_file, check_run, json_text, with_sampling
    from tunewright.cli.predict_inputs import BadInputs, arguments, stdin_lines
    from tunewright.cli.predict_outputs import TABLES, check_output

    texts = list(texts or ())
    if sum((bool(texts), pair is not None, file is not None)) != 1:
        raise UserError("name exactly one kind of input", expected="texts, --pair A B, --file FILE, or - for stdin")
    if output is not None:
        check_output(Path(output), file)
    if len(texts) == 1 and texts[0] != "-" and len(texts[0]) < 200 and Path(texts[0]).is_file():
        raise UserError(
            f"{texts[0]!r} is the name of a file, so it is unclear whether to predict the file or this text",
            hint=f"The file: {hints.predict_file(Path(run_folder), Path(texts[0]))}. The text: {hints.predict_stdin(Path(run_folder), texts[0])}.",
        )
    if spreadsheet_safe and (output is None or Path(output).suffix not in TABLES):
        raise UserError("--spreadsheet-safe needs a table as output", hint="Add -o FILE.csv or -o FILE.tsv.")
    if format is not None and file is None:
        raise UserError("--format needs --file", hint="Leave it out: texts, and lines of stdin, are read as they are.")
    saved = check_run(run_folder, precision=precision, no_check=no_check)
    reading = reading_of(saved, file, format=format, max_row_bytes=max_row_bytes)
    if file is not None:
        check_file(saved, file, labelled=False, skip_bad_rows=skip_bad_rows, options=reading)
    load_libraries()
    from tunewright.prediction import load

    model = load(run_folder, precision=precision, device=device, execution=execution, check=False).with_top_k(top)
    model = with_sampling(
        model, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, stop=tuple(stop) if stop else None,
        seed=seed,
    )  # fmt: skip
    bad = BadInputs(skip_bad_rows)
    if file is not None:
        _predict_file(model, file, output, reading, min_score, bad, as_json=as_json, spreadsheet_safe=spreadsheet_safe)
        bad.print_summary()
        return
    limit = reading.max_row_bytes
    inputs: Iterator[Asked | None]
    if texts == ["-"]:
        inputs = stdin_lines(model, sys.stdin.buffer, bad, limit=limit)
    else:
        inputs = arguments(model, [pair] if pair else texts, bad, limit=limit)
    if model.task.generates_text and sys.stdout.isatty() and not as_json:
        _write_live(model, inputs, bad)
    else:
        for asked, prediction in _predicted(model, inputs, min_score, bad):
            as_lines = as_json or not sys.stdout.isatty()
            print(json_text(prediction.as_dict()) if as_lines else _line(asked.given, prediction))
    bad.print_summary()


def reading_of(saved: Any, file: str | None, *, format: str | None, max_row_bytes: int | None) -> Any:
    """How inputs are read: like the run's own files, unless the options say otherwise."""
    from tunewright.preparation import for_inputs, options_of_run

    options = options_of_run(saved.folder.parent, file or "")
    given: dict[str, Any] = {"format": format, "max_row_bytes": max_row_bytes}
    options = replace(options, **{name: value for name, value in given.items() if value is not None})
    return for_inputs(options, saved.task())


def _predicted(
    model: Any, inputs: Iterable[Asked | None], min_score: float, bad: BadInputs
) -> Iterator[tuple[Asked, Any]]:
    """Inputs with their predictions, window by window. A window's output is flushed before waiting for the next one."""
    for window in model.windows(inputs, lambda asked: asked.example):
        yield from _answered(model, window, min_score, bad)
        sys.stdout.flush()


def _answered(model: Any, window: Sequence[Asked], min_score: float, bad: BadInputs) -> Iterator[tuple[Asked, Any]]:
    for asked, answer in zip(window, model.answers([one.example for one in window], min_score=min_score), strict=True):
        if isinstance(answer, NoAnswer):
            if isinstance(asked.example, Example):  # the model cannot predict it
                bad.refuse(asked.where, answer.reason)
            bad.add(asked.where, answer.reason)
        yield asked, answer


def _write_live(model: Any, inputs: Iterable[Asked | None], bad: BadInputs) -> None:
    """Print completions as they are generated."""
    for asked in inputs:
        if asked is None:
            continue
        if isinstance(asked.example, NoAnswer):
            bad.add(asked.where, asked.example.reason)
            print(asked.example.line(), end="\n\n", flush=True)
            continue
        if not model.task.chats:
            print(asked.given, end="", flush=True)
        for piece in model.write(asked.given):
            print(piece, end="", flush=True)
        print("\n")


def _line(given: Any, prediction: Any) -> str:
    from tunewright.cli.options import json_text
    from tunewright.cli.progress import highlighted
    from tunewright.records import Prediction, TaggedText

    if isinstance(prediction, TaggedText):
        return highlighted(prediction)
    if hasattr(prediction, "line"):
        return prediction.line()
    if not isinstance(prediction, Prediction):  # of a plug-in task
        return json_text(prediction.as_dict())
    text = "" if given is None else " | ".join(given) if isinstance(given, tuple) else given
    best = list(prediction.scores.items())[:3]
    shown = "  ".join(f"{name} {score:.3f}" for name, score in best)
    label = prediction.label if prediction.labels is None else ", ".join(prediction.labels) or "(none)"
    return f"{label or '(below --min-score)':<24} {shown:<64} {text[:80]}"


def _predict_file(
    model: Any,
    file: str,
    output: str | None,
    reading: Any,
    min_score: float,
    bad: BadInputs,
    *,
    as_json: bool,
    spreadsheet_safe: bool,
) -> None:
    from tunewright.cli.options import say
    from tunewright.cli.predict_inputs import file_rows
    from tunewright.cli.predict_outputs import Origin, PartFile
    from tunewright.cli.predict_words import shape_of
    from tunewright.errors import counted
    from tunewright.preparation import open_like
    from tunewright.reading.unchanged import Unchanged, size_of
    from tunewright.reporting.phases import BYTES, phase

    source = open_like(file, reading, model.task, labelled=False)
    shape = shape_of(model.task, source, file, reading, output, as_json=as_json)
    rows = file_rows(model.task, source, shape.given(), bad)
    inputs = Unchanged.opened([source])
    if output is None:
        with inputs.while_read():
            answered = _predicted(model, rows, min_score, bad)
            shape.print(shape.result(asked.given, answer) for asked, answer in answered)
        return
    path, files = Path(output), source.files()
    origin = Origin.of(model.saved, files, {
        "output": path.suffix, "spreadsheet_safe": spreadsheet_safe, "min_score": min_score, "reading": repr(reading),
        **_numerics_of(model),
    })  # fmt: skip
    part = PartFile.open(path, origin, say=say)
    try:
        num_rows = 0
        with _unchanged_input(inputs, part), phase("predicting", size_of(files), BYTES) as shown:
            for window in model.windows(rows, lambda asked: asked.example):
                num_rows += len(window)
                shown.detail = f"{num_rows:,} rows"
                if num_rows <= part.num_lines:  # written by an earlier command
                    for asked in window:
                        if isinstance(asked.example, NoAnswer):
                            bad.add(asked.where, asked.example.reason)
                    continue
                part.cut(num_rows - len(window))
                answered = _answered(model, window, min_score, bad)
                part.write(shape.result(asked.given, answer) for asked, answer in answered)
        part.finish(spreadsheet_safe=spreadsheet_safe)
    finally:
        part.close(say=say)
    say(f"{counted(num_rows, 'prediction')} written to {output}")


@contextmanager
def _unchanged_input(inputs: Unchanged, part: PartFile) -> Iterator[None]:
    """UserError if the input file changed while it was read; then no result is kept."""
    try:
        with inputs.while_read():
            yield
    except UserError:
        try:
            inputs.check()
        except UserError:
            part.cut(0)
        raise


def _numerics_of(model: Any) -> dict[str, Any]:
    """Everything besides the model and its input that the last bits of a prediction depend on."""
    from importlib.metadata import version

    import torch

    from tunewright.prediction import WINDOW_CHARACTERS, WINDOW_ROWS, WRITING_ROWS

    return {
        "execution": model.execution.name, "precision": model.execution.precision, "device": str(model.execution.device),
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(), "windows": [WINDOW_ROWS, WRITING_ROWS, WINDOW_CHARACTERS],
        "shown": model.task.num_shown, "sampling": repr(model.sampling),
        "versions": [__version__, *(version(name) for name in ("torch", "transformers", "tokenizers"))],
    }  # fmt: skip
