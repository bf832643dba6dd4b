"""tunewright prepare CONFIG [key=value …]"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tunewright.cli.options import Json, Plugins
from tunewright.cli.train import Words, config_from

NAME = "prepare"


def run(
    words: Words,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and hash every file of the data and of the store again.")
    ] = False,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Read, split and encode the data into the token store, without training. `train` does this automatically."""
    from tunewright.cli.options import say
    from tunewright.preparation import prepare
    from tunewright.reading.ledger import format_counts
    from tunewright.runs.early_checks import refuse_early

    config = config_from(words)
    refuse_early(config, trains=False)
    prepared = prepare(config, say=say, verify=verify)
    manifest = prepared.manifest
    if as_json:
        print(
            json.dumps(
                {
                    "schema": 1,
                    "store": str(prepared.store.folder),
                    "reused": prepared.reused,
                    "splits": manifest["splits"],
                    "ledger": manifest["ledger"],
                }
            )
        )
        return
    for name, split in manifest["splits"].items():
        print(
            f"{name:<12}{split['rows']:>10,} rows{split['tokens']:>14,} tokens{split['cut_rows']:>8,} rows cut ({split['cut_tokens']:,} tokens)"
        )
    sources, reasons = manifest["ledger"]["sources"], manifest["ledger"]["reasons"]
    if reasons:
        read = sum(source["read"] for source in sources)
        lost = sum(source["rejected"] + source["filtered"] for source in sources)
        print(f"left out    {lost:>10,} rows of {read:,}: {format_counts(reasons)}")
    print(f"{'reused' if prepared.reused else 'written'}: {prepared.store.folder}")
