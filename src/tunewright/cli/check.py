"""tunewright check DATA… | CONFIG… [key=value …]"""

from __future__ import annotations

from typing import Any

import typer

from tunewright.cli.options import Json, Plugins, json_text
from tunewright.cli.train import Words, configs_from

NAME = "check"


def run(
    words: Words,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Find problems before training (bad rows, truncation, labels, leakage). Exit code 1 if there are any."""
    configs = _with_models(configs_from(words, verb=NAME))
    checked = [_check(config, number, len(configs), as_json) for number, config in enumerate(configs, start=1)]
    if as_json:
        print(json_text(checked[0] if len(checked) == 1 else {"schema": 1, "configs": checked}))
    raise typer.Exit(1 if any(one["findings"] for one in checked) else 0)


def _check(config: Any, number: int, num_configs: int, as_json: bool) -> dict[str, Any]:
    """One config's findings and summary, printed unless JSON is wanted."""
    from tunewright.cli.options import say
    from tunewright.runs.data_checks import find_problems
    from tunewright.runs.early_checks import refuse_early

    refuse_early(config, trains=False)
    findings, summary = find_problems(config, say=say)
    if not as_json:
        if num_configs > 1:
            print(f"{'' if number == 1 else chr(10)}Config {number} of {num_configs}: {config.run_folder}")
        _print(findings, summary)
    return {"schema": 1, "findings": findings, "summary": summary}


def _print(findings: list[str], summary: dict[str, Any]) -> None:
    from tunewright.cli.progress import labels_text, of_each

    for line in summary["decision"]:
        print(line)
    print(f"rows      {of_each(summary['kept'])}  (of {summary['read']:,} read)")
    if summary["kept"] != summary["rows"]:
        print(f"{summary['stored_as'] + 's':<10}{of_each(summary['rows'])}")
    if summary["labels"]:
        print(f"labels    {labels_text(summary['labels'])}")
    for finding in findings:
        print(f"finding   {finding}")
    for hint in summary["hints"]:
        print(f"hint      {hint}")
    if not findings:
        print("no findings")


def _with_models(configs: list[Any]) -> list[Any]:
    """The configs; `model: previous` becomes the model that the config before it starts from, whose run may not exist yet."""
    from tunewright.config.run_config import PREVIOUS

    found: list[Any] = []
    for config in configs:
        if config.model.name == PREVIOUS and found:
            config = config.model_copy(update={"model": found[-1].model})
        found.append(config)
    return found
