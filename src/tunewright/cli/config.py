"""tunewright config [CONFIG] [key=value …]"""

from __future__ import annotations

from typing import Annotated

import typer

NAME = "config"


def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE…]", help="Show this config with every value filled in."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every key there is, with its default and meaning.")] = False,
) -> None:
    """Show every config key with its default, or a config with every value filled in."""
    if every or not words:
        from pydantic_core import PydanticUndefined

        from tunewright.config import all_keys

        for key, field in all_keys().items():
            default = field.get_default(call_default_factory=True)
            shown = "required" if default is PydanticUndefined else "-" if default is None else default
            print(f"{key + ' = ' + str(shown):<44} {field.description}")
        return
    import yaml

    from tunewright.cli.train import config_from

    print(yaml.safe_dump(config_from(words).as_dict(), sort_keys=False, allow_unicode=True), end="")
