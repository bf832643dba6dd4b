"""tunewright predict RUN TEXT… | --pair A B | --file F | -"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright.cli.options import Plugins

NAME = "predict"
_SHOWN = 5


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
    top: Annotated[int, typer.Option(help="How many labels `scores` holds, the most probable first.", min=1)] = 10,
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Go on without inputs that cannot be used; they are told on stderr."),
    ] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Models that write: at most so many tokens (100; answers 512).", min=1)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Models that write: 0 takes the best token each time (0.8; answers 0).", min=0)
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Models that write: choose among the k best.", min=1)] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Models that write: among the fewest that reach p.", min=0, max=1)
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Models that write: a text that ends the completion.")] = None,
    seed: Annotated[int | None, typer.Option(help="Models that write: of what is drawn (0).", min=0)] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32 or fp64.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, as always off a terminal.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Predict with a trained run: one prediction per input, in order. Off a terminal it prints JSON lines."""
    from tunewright.cli.options import check_file, check_run, json_text
    from tunewright.errors import UserError

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
    saved = check_run(run_folder, precision=precision)
    if file is not None:
        check_file(saved, file, labelled=False, skip_bad_rows=skip_bad_rows)
    from tunewright.predict import load

    model = load(run_folder, precision=precision, device=device).showing(top)
    wishes = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "stop": tuple(stop) if stop else None, "seed": seed,
    }  # fmt: skip
    model = _writing(model, {name: value for name, value in wishes.items() if value is not None})
    bad = BadInputs(skip_bad_rows)
    if file is not None:
        _predict_file(model, file, output, min_score, bad)
        bad.tell()
        return
    inputs: Any = [("the pair", pair)] if pair else bad.usable(_lines() if texts == ["-"] else _arguments(texts))
    if model.task.writes and sys.stdout.isatty() and not as_json:
        _write_live(model, inputs)
        bad.tell()
        return
    waiting: deque[tuple[str, Any]] = deque()

    def refused(_: str, reason: str) -> None:
        bad.found(waiting.popleft()[0], reason)

    for prediction in model.stream(_remembered(inputs, waiting), min_score=min_score, refused=refused):
        _, given = waiting.popleft()
        print(
            json_text(prediction.as_dict()) if as_json or not sys.stdout.isatty() else _line(given, prediction),
            flush=texts == ["-"],
        )
    bad.tell()


def _writing(model: Any, wishes: dict[str, Any]) -> Any:
    return model.writing(replace(model.sampling, **wishes)) if wishes else model


def _write_live(model: Any, prompts: Iterable[tuple[str, str]]) -> None:
    """Completions as they are written."""
    for _, prompt in prompts:
        if not hasattr(model.task, "dialogues"):
            print(prompt, end="", flush=True)
        for piece in model.write(prompt):
            print(piece, end="", flush=True)
        print("\n")


@dataclass
class BadInputs:
    """What cannot be predicted: it ends the command, or, where the user wishes so, is left out and told at the end."""

    skip: bool
    count: int = 0
    first: list[str] = field(default_factory=list)

    def found(self, where: str, reason: str) -> None:
        """UserError unless such inputs are skipped."""
        from tunewright.errors import UserError

        if not self.skip:
            raise UserError(reason, where=where, mend="Mend it, or go on without such inputs: --skip-bad-rows")
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"  {where}: {reason}")

    def usable(self, inputs: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, str]]:
        """Of (where, text) those with a text that is not blank. text: None where it is not UTF-8."""
        from tunewright.text.columns import is_blank

        for where, text in inputs:
            if text is None:
                self.found(where, "the text is not UTF-8")
            elif is_blank(text):
                self.found(where, "blank text")
            else:
                yield where, text

    def tell(self) -> None:
        if self.count:
            more = [f"  and {self.count - _SHOWN:,} more"] if self.count > _SHOWN else []
            inputs = "1 input is" if self.count == 1 else f"{self.count:,} inputs are"
            print("\n".join([f"{inputs} skipped:", *self.first, *more]), file=sys.stderr)


def _remembered(inputs: Iterable[tuple[str, Any]], waiting: deque[tuple[str, Any]]) -> Iterator[Any]:
    for where, given in inputs:
        waiting.append((where, given))
        yield given


def _arguments(texts: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Python may have taken the command line for ASCII (LC_ALL=C): its bytes are what was written."""
    for number, text in enumerate(texts, start=1):
        yield f"input {number}", _decoded(os.fsencode(text))


def _lines() -> Iterator[tuple[str, str | None]]:
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        text = _decoded(raw)
        yield f"stdin:{number}", None if text is None else text.removesuffix("\n").removesuffix("\r")


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _line(given: Any, prediction: Any) -> str:
    from tunewright.cli.progress import highlighted
    from tunewright.records import TaggedText

    if isinstance(prediction, TaggedText):
        return highlighted(prediction)
    if hasattr(prediction, "line"):
        return prediction.line()
    text = "" if given is None else " | ".join(given) if isinstance(given, tuple) else given
    best = list(prediction.scores.items())[:3]
    shown = "  ".join(f"{name} {score:.3f}" for name, score in best)
    label = prediction.label if prediction.labels is None else ", ".join(prediction.labels) or "(none)"
    return f"{label or '(below --min-score)':<24} {shown:<64} {text[:80]}"


def _predict_file(model: Any, file: str, output: str | None, min_score: float, bad: BadInputs) -> None:
    from tunewright.cli.options import json_text
    from tunewright.errors import RowError
    from tunewright.prepare import open_like, options_of_run
    from tunewright.reading import open_source
    from tunewright.records import Reject, Row

    options = options_of_run(model.saved.folder.parent, file)
    source = open_like(file, options, model.task, labelled=False)
    skipped: set[int] = set()

    def rows() -> Iterator[Any]:
        for number, row in enumerate(source.rows()):
            try:
                if isinstance(row, Reject):
                    raise RowError(row.reason)
                model.task.to_input(row)
            except RowError as error:
                bad.found(row.address, error.reason)
                skipped.add(number)
            else:
                yield row

    # read beside it, one by one: the output keeps the file's own column names
    as_written = (
        row.fields
        for number, row in enumerate(open_source(file, options).rows())
        if number not in skipped and isinstance(row, Row)
    )

    def refused(where: str, reason: str) -> None:
        bad.found(where, reason)
        next(as_written)

    predictions = model.predict_rows(rows(), min_score=min_score, refused=refused)
    results = (_with_prediction(next(as_written), prediction) for _, prediction in predictions)
    if output is None:
        for result in results:
            print(json_text(result))
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
    from tunewright.atomic import refused
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
    if reason := refused(path):
        raise UserError(f"cannot be written ({reason})", where=str(path), mend="Name a file in another folder.")


def _with_prediction(fields: Any, prediction: Any) -> dict[str, Any]:
    """An input's fields, the predicted values under names it does not use: its own `label` is kept."""
    found = dict(fields)
    for key, value in prediction.as_dict().items():
        name = wished = f"predicted_{key}" if key in fields or key.startswith("label") else key
        number = 1
        while name in found:
            number += 1
            name = f"{wished}_{number}"
        found[name] = value
    return found


def _write_jsonl(path: Path, results: Iterator[dict[str, Any]]) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as sink:
        for result in results:
            sink.write(json.dumps(result, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_csv(path: Path, results: Iterator[dict[str, Any]]) -> int:
    """Twice over the results: which columns there are shows when the last has come."""
    columns: dict[str, None] = {}
    count = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as held, open(path, "w", encoding="utf-8", newline="") as sink:
        for result in results:
            flat = {
                key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value
                for key, value in result.items()
            }
            columns |= dict.fromkeys(flat)
            held.write(json.dumps(flat) + "\n")
            count += 1
        held.seek(0)
        writer = csv.DictWriter(sink, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(map(json.loads, held))
    return count
