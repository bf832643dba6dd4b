"""tunewright evaluate RUN [DATA]"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import Execution, NoCheck, Plugins

NAME = "evaluate"


def run(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its model/ folder.")],
    data: Annotated[str | None, typer.Argument(help="A labelled file; without one, the run's own test split.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Which of the run's splits, when no file is given (test).", show_default=False)
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32 or fp64.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    execution: Execution = "auto",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Go on without rows that cannot be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Score a trained run: metrics with 95 % intervals, simple baselines beside it, the worst rows."""
    from tunewright.cli.options import check_file, check_run, json_text
    from tunewright.errors import UserError

    if data is not None and split is not None:
        raise UserError(
            "a split is one of the run's own, and a file is given",
            where="--split",
            found=f"{split!r} beside {data}",
            hint="Leave out the file, or --split.",
        )
    split = split or "test"
    saved = check_run(run_folder, precision=precision, no_check=no_check)
    if data is not None:
        check_file(saved, data, labelled=True, skip_bad_rows=skip_bad_rows)
    from contextlib import nullcontext

    from tunewright.cli.progress import print_scores, say
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
