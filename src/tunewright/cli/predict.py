"""tunewright predict RUN TEXT… | --pair A B | --file F | -"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

NAME = "predict"


def run(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its model/ folder.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts to predict; - reads one per line from stdin.")
    ] = None,
    pair: Annotated[tuple[str, str] | None, typer.Option("--pair", metavar="A B", help="A pair of texts.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="Any readable file with the columns of training.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="Where to write (.jsonl or .csv), input columns kept; stdout when not given."
        ),
    ] = None,
    min_score: Annotated[float, typer.Option(help="A less probable label becomes null.", min=0, max=1)] = 0.0,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32 or fp64.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Predict with a trained run: one prediction per input, in order."""
    from tunewright.cli.options import check_choice
    from tunewright.errors import UserError

    check_choice("--precision", precision, ("auto", "bf16", "fp32", "fp64"))
    texts = list(texts or ())
    if sum((bool(texts), pair is not None, file is not None)) != 1:
        raise UserError(
            "nothing to predict, or too much", expected="texts, or --pair A B, or --file FILE, or - for stdin"
        )
    if output is not None:
        _check_output(Path(output), file)
    if len(texts) == 1 and texts[0] != "-" and len(texts[0]) < 200 and Path(texts[0]).is_file():
        raise UserError(
            f"{texts[0]!r} is the name of a file; is the file meant, or the text?",
            mend=f"Write --file {texts[0]}, or pass the text on stdin: echo … | tunewright predict RUN -",
        )
    from tunewright.predict import load

    model = load(run_folder, precision=precision, device=device)
    if file is not None:
        _predict_file(model, file, output, min_score)
        return
    inputs: Any = [pair] if pair else texts if texts != ["-"] else _lines()
    for given, prediction in zip(_tee(inputs), model.stream(inputs, min_score=min_score), strict=False):
        print(
            json.dumps(prediction.as_dict(), ensure_ascii=False)
            if as_json or not sys.stdout.isatty()
            else _line(given, prediction),
            flush=texts == ["-"],
        )


def _tee(inputs: Any) -> Iterator[Any]:
    if isinstance(inputs, list):
        yield from inputs
    else:
        while True:
            yield None


def _lines() -> Iterator[str]:
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _line(given: Any, prediction: Any) -> str:
    text = "" if given is None else " | ".join(given) if isinstance(given, tuple) else given
    best = list(prediction.scores.items())[:3]
    shown = "  ".join(f"{name} {score:.3f}" for name, score in best)
    label = prediction.label if prediction.labels is None else ", ".join(prediction.labels) or "(none)"
    return f"{label or '(below --min-score)':<24} {shown:<64} {text[:80]}"


def _predict_file(model: Any, file: str, output: str | None, min_score: float) -> None:
    from tunewright.errors import UserError
    from tunewright.prepare import open_like
    from tunewright.reading import ReadOptions, open_source
    from tunewright.records import Reject, Row

    source = open_like(file, ReadOptions(), model.task.columns, labelled=False)

    def rows() -> Iterator[Any]:
        for row in source.rows():
            if isinstance(row, Reject):
                raise UserError(row.reason, where=row.address, mend="Mend the row; every input gets one prediction.")
            yield row

    as_written = open_source(file).rows()  # read beside it: the output keeps the file's own column names
    results = (
        {**row.fields, **_prefixed(row.fields, prediction.as_dict())}
        for row, (_, prediction) in zip(as_written, model.predict_rows(rows(), min_score=min_score), strict=True)
        if isinstance(row, Row)
    )
    if output is None:
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
        return
    path = Path(output)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        count = _write_csv(temporary, results) if path.suffix == ".csv" else _write_jsonl(temporary, results)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{count:,} predictions written to {output}", file=sys.stderr)


def _check_output(path: Path, file: str | None) -> None:
    """Refuse an output that cannot be written, before the model is loaded."""
    from tunewright.errors import UserError

    if file is None:
        raise UserError("-o goes with --file", mend="Redirect stdout, or give the texts in a file.")
    if path.suffix not in (".jsonl", ".csv"):
        raise UserError("unknown output format", where=str(path), expected=".jsonl or .csv")
    if path.is_dir() or not path.parent.is_dir():
        found = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise UserError("cannot be written", where=str(path), found=found, mend="Name a file in an existing folder.")
    if Path(file).exists() and path.exists() and path.samefile(file):
        raise UserError("the output is the input", where=str(path), mend="Choose another file.")


def _prefixed(fields: Any, predicted: dict[str, Any]) -> dict[str, Any]:
    """Predicted values under names that the input does not use: an input's own `label` is kept."""
    return {
        f"predicted_{key}" if key in fields or key.startswith("label") else key: value
        for key, value in predicted.items()
    }


def _write_jsonl(path: Path, results: Iterator[dict[str, Any]]) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as sink:
        for result in results:
            sink.write(json.dumps(result, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_csv(path: Path, results: Iterator[dict[str, Any]]) -> int:
    count, writer = 0, None
    with open(path, "w", encoding="utf-8", newline="") as sink:
        for result in results:
            flat = {
                key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value
                for key, value in result.items()
            }
            if writer is None:
                writer = csv.DictWriter(sink, fieldnames=list(flat), extrasaction="ignore")
                writer.writeheader()
            writer.writerow(flat)
            count += 1
    return count
