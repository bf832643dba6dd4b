"""tunewright config [CONFIG] [key=value …]"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

NAME = "config"


def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE…]", help="The config to show, with any values to override."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="List every key with its value and meaning; in brackets the tasks or adapters that have it.",
        ),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the config as a JSON Schema, for editors that check YAML.")
    ] = False,
) -> None:
    """Show every config key with its default, or a config with every value filled in."""
    from tunewright.cli.train import config_from

    if schema:
        from tunewright.config.schema import json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    config = config_from(words) if words else None
    if every or config is None:
        _print_keys(config)
        return
    import yaml

    print(yaml.safe_dump(config.as_dict(), sort_keys=False, allow_unicode=True), end="")


def _print_keys(config: Any) -> None:
    """Print every key with its value in `config` (without one, its default) and its meaning."""
    from pydantic_core import PydanticUndefined

    from tunewright.config.keys import all_keys
    from tunewright.runs.resume import flat

    values = {} if config is None else flat(config.as_dict())
    named = (config.task.name, config.adapter.name) if config is not None else ()
    for key, settings in all_keys().items():
        for field, owners in settings:
            default = field.get_default(call_default_factory=True)
            value = values.get(key, default) if not owners or set(owners) & set(named) else default
            shown = "required" if value is PydanticUndefined else "-" if value is None else value
            of = f"[{', '.join(owners)}] " if owners else ""
            print(f"{key + ' = ' + str(shown):<44} {of}{field.description}")
