"""tunewright explain CONFIG train.csv:418 [--padded]"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.cli.options import Json, Plugins, json_text
from tunewright.cli.train import config_from

if TYPE_CHECKING:
    from tunewright.runs.explain import Explanation

NAME = "explain"


def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML config, a run folder or a data file.")],
    address: Annotated[str, typer.Argument(metavar="FILE:LINE", help="The row, as error messages name it.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE…]")] = None,
    padded: Annotated[bool, typer.Option("--padded", help="Show the row padded to max_length.")] = False,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Show one row at every stage: its fields, text and target, its tokens, its padding."""
    from tunewright.runs.explain import explain

    stages = explain(config_from([config, *(words or [])]), address)
    if as_json:
        print(json_text(stages))
        return
    print(f"row        {stages['row']}")
    for name, value in stages.get("fields", {}).items():
        print(f"  {name}: {_short(value)}")
    if "rejected" in stages:
        print(f"rejected   {stages['rejected']}")
        return
    print(f"task       {stages['task']}")
    print(f"text       {_short(stages['text'])}")
    if "pair" in stages:
        print(f"pair       {_short(stages['pair'])}")
    print(f"target     {_target(stages['target'])}")
    if stages["weight_from"]:
        print(f"weight     {stages['weight']:g} (column {stages['weight_from']!r})")
    cut = f", truncation cuts {stages['num_cut']}" if stages["num_cut"] else ""
    _print_tokens(f"{stages['num_tokens']} of at most {stages['max_length']}{cut}", stages["tokens"])
    for tokens in stages.get("more_windows", ()):  # a long row's other windows, or the other side of a pair
        _print_tokens(str(len(tokens)), tokens)
    if padded:
        _print_padded(stages)


def _print_tokens(how_many: str, tokens: list[dict[str, Any]]) -> None:
    print(f"tokens     {how_many}")
    if any("supervised" in token for token in tokens):
        print(f"learned    {sum(token['supervised'] for token in tokens)} tokens, marked *")
    print(" ".join(_token(token) for token in tokens))


def _target(target: Any) -> str:
    if isinstance(target, (list, tuple)):
        return ", ".join(map(repr, target)) or "no label applies"
    return repr(target)


def _token(token: dict[str, Any]) -> str:
    tag = "/" + token["tag"] if token.get("tag", "O") != "O" else "*" if token.get("supervised") else ""
    shown = token.get("text", token["token"])
    text = f"{shown}({token['id']}){tag}"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    colour = 2 if token.get("supervised") is False else 36 if token.get("type") else 32
    return f"\x1b[{colour}m{shown}\x1b[0m\x1b[2m({token['id']})\x1b[0m{tag}"


def _print_padded(stages: Explanation) -> None:
    filling = [stages["padding"]["id"]] * (stages["max_length"] - stages["num_tokens"])
    ids, mask = [token["id"] for token in stages["tokens"]], [1] * stages["num_tokens"]
    if stages["padding"]["side"] == "left":
        ids, mask = filling + ids, [0] * len(filling) + mask
    else:
        ids, mask = ids + filling, mask + [0] * len(filling)
    print(f"padded     {len(filling)} times {stages['padding']['token']} on the {stages['padding']['side']}")
    print(f"input_ids       {ids}\nattention_mask  {mask}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text[:300]) + (f" … {len(text):,} characters" if len(text) > 300 else "")
