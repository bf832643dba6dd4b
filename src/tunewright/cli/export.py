"""tunewright export RUN --to KIND"""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import Json, NoCheck, Plugins, RunFolder, load_libraries

NAME = "export"


def run(
    run_folder: RunFolder,
    to: Annotated[
        str, typer.Option(help="merged (plain safetensors), onnx, or hub-folder (merged, with a model card).")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder to write. Default: RUN/exports/KIND.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the weights: fp32, bf16 or fp16.")] = "fp32",
    as_json: Json = False,
    plugin: Plugins = None,
    no_check: NoCheck = False,
) -> None:
    """Write a trained model for other programs, and verify the result. Exit code 1 if it differs from the run."""
    from tunewright.artifacts.model_folder import open_saved
    from tunewright.cli.options import json_text, notice
    from tunewright.cli.verify import line_of
    from tunewright.errors import check_choice
    from tunewright.exporters import DTYPES, export

    check_choice("--dtype", dtype, DTYPES)
    saved = open_saved(run_folder)
    load_libraries()
    folder = export(run_folder, to, output=output, dtype=dtype, check=not no_check, say=notice)
    from tunewright.verification import is_target, verify

    checks = (
        verify(folder, golden_from=saved.folder) if is_target(folder) else []
    )  # a plug-in may write something that is not a model
    broken = next((check.broken for check in checks if check.broken), None)
    if as_json:
        shown = [check.as_dict() for check in checks]
        print(json_text({"schema": 1, "folder": str(folder), "ok": broken is None, "checks": shown}))
    else:
        for check in checks:
            print(line_of(check))
        print(folder)
    if broken is not None:
        raise typer.Exit(1)
