"""tunewright evaluate RUN [DATA]"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import Device, Execution, Json, NoCheck, Plugins, Precision, RunFolder, load_libraries

NAME = "evaluate"


def run(
    run_folder: RunFolder,
    data: Annotated[
        str | None,
        typer.Argument(help="A labelled file, or a pattern of files in quotes. Default: the run's own test split."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Which of the run's splits to score when no file is given. Default: test.", show_default=False
        ),
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    execution: Execution = "auto",
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Skip rows that cannot be used.")] = False,
    as_json: Json = False,
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Score a trained run: metrics with 95 % intervals, simple baselines for comparison, the worst rows."""
    from tunewright.cli.options import check_file, check_run, json_text, say
    from tunewright.errors import UserError

    if data is not None and split is not None:
        raise UserError(
            "--split cannot be combined with a data file",
            where="--split",
            found=f"{split!r} and {data}",
            hint="Leave out --split, which names one of the run's own splits, or the file.",
        )
    split = split or "test"
    saved = check_run(run_folder, precision=precision, no_check=no_check)
    if data is not None:
        from tunewright.reading.locate import matching

        for path in matching(data):
            check_file(saved, path, labelled=True, skip_bad_rows=skip_bad_rows)
    load_libraries()
    from contextlib import nullcontext

    from tunewright.cli.progress import print_scores
    from tunewright.evaluation.score_run import evaluate
    from tunewright.files.manifests import unchecked

    with unchecked() if no_check else nullcontext():
        scores = evaluate(
            run_folder, data, split=split, precision=precision, device=device, execution=execution,
            skip_bad_rows=skip_bad_rows, note=say, check=False,
        )  # fmt: skip
    if as_json:
        print(json_text(scores))
    else:
        print_scores(data or split, scores, details=True)
