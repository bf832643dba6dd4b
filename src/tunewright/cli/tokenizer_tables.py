"""What `tunewright tokenizer` prints: coloured token tables, and bars of row lengths. Plain when stdout is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tunewright.tokenizer_tools.compare import Comparison, bins, short_names
from tunewright.tokenizer_tools.compare_page import summary_line, table_rows
from tunewright.tokenizer_tools.show import Token, TokenizedText

_WORD_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")
_PLAIN_WIDTH = 200
_CUT_SHOWN = 40
_BINS, _BAR = 12, 24


def _console() -> Console:
    """A wide one where stdout is not a terminal: there is no width to fit."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PLAIN_WIDTH)


def print_shown(shown: Sequence[TokenizedText]) -> None:
    """Token tables side by side, as many as fit."""
    _console().print(Columns([_one(one) for one in shown], padding=(0, 4)))


def _one(shown: TokenizedText) -> Group:
    table = Table(title=Text(shown.model, style="bold"), title_justify="left", show_edge=False, pad_edge=False)
    typed = any(token.type is not None for token in shown.tokens)
    for name in ("token", "id", "offsets", "word", "mask", *(["type"] if typed else [])):
        table.add_column(name, justify="left" if name == "token" else "right")
    for token in shown.tokens:
        cells = [_visible(token.text), str(token.id), _offsets(token), _number(token.word), str(token.mask)]
        table.add_row(*map(Text, cells), *([Text(_number(token.type))] if typed else []), style=_style(token))
    lines = [Text(f"\n{sum(token.mask for token in shown.tokens)} tokens, at most {shown.max_length}")]
    if shown.cut:
        pieces = " ".join(_visible(token.text) for token in shown.cut[:_CUT_SHOWN])
        more = f" and {len(shown.cut) - _CUT_SHOWN} more" if len(shown.cut) > _CUT_SHOWN else ""
        lines.append(Text(f"cut {len(shown.cut)}: {pieces}{more}", style="red"))
    return Group(table, *lines, Text(f"decoded: {shown.decoded!r}"))


def _style(token: Token) -> str:
    """One colour per word: its pieces are recognized together."""
    if token.part == "padding":
        return "dim"
    if token.part == "special":
        return "bold"
    return _WORD_COLOURS[(token.word or 0) % len(_WORD_COLOURS)]


def _offsets(token: Token) -> str:
    return "" if token.start is None else f"{token.start}–{token.end}"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _visible(token: str) -> str:
    """Line ends and control characters as escapes."""
    return token if token.isprintable() else repr(token)[1:-1]


def print_comparison(comparison: Comparison) -> None:
    """The measures, the length histograms as bars, examples of what is lost, the longest rows."""
    console = _console()
    names = short_names([model.model for model in comparison.models])
    console.print(Text(summary_line(comparison)), soft_wrap=True)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right")
    for measure, _, values in table_rows(comparison):
        table.add_row(measure, *map(Text, values))
    console.print(table)
    console.print(_bars(names, comparison, fill="█" if _is_unicode(console) else "#"))
    for name, model in zip(names, comparison.models, strict=True):
        for example in model.examples:
            line = f"{name}, {example.address}: {example.before!r} becomes {example.after!r}"
            console.print(Text(line), soft_wrap=True)
    for name, model in zip(names, comparison.models, strict=True):
        rows = ", ".join(f"{address} ({tokens:,})" for tokens, address in model.longest)
        console.print(Text(f"longest for {name}: {rows}"), soft_wrap=True)


def _bars(names: Sequence[str], comparison: Comparison, *, fill: str) -> Table:
    edges, counts = bins(comparison.models, _BINS)
    top = max(max(row) for row in counts) or 1
    table = Table(title="rows by tokens", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("tokens", justify="right")
    for name in names:
        table.add_column(Text(name))
    for number, edge in enumerate(edges):
        last = number == len(edges) - 1
        span = f"{edge:,}+" if last else f"{edge:,}–{edges[number + 1] - 1:,}"
        bars = [Text(f"{fill * -(-row[number] * _BAR // top)} {row[number]:,}", style="cyan") for row in counts]
        table.add_row(span, *bars)
    return table


def _is_unicode(console: Console) -> bool:
    return (console.encoding or "").lower().startswith("utf")
