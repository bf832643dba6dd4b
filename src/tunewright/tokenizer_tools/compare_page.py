"""A comparison of tokenizers -> one HTML file that needs nothing else: a table, length histograms as SVG, what was lost.

Path("compare.html").write_text(page(comparison), encoding="utf-8")
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tunewright.tokenizer_tools.compare import Comparison, Measured, bins, short_names

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 150, 66, 26, 14
_TICKS = 6
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6576; --line: #d9dee7; --paper: #fff; --bar: #3b6fd4; --cut: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7ebf3; --soft: #9aa5b8; --line: #343c4b; --paper: #14181f; --bar: #7aa5f5; --cut: #fb923c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, figcaption { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td.text { text-align: left; } thead th { white-space: nowrap; }
h1, td.text { overflow-wrap: anywhere; } td.text { min-width: 8rem; }
figure { margin: 1rem 0; } figcaption b { color: var(--ink); } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } .bar { fill: var(--bar); } .axis { stroke: var(--line); }
.bar.over { fill: var(--cut); } .limit { stroke: var(--cut); stroke-width: 1.5; stroke-dasharray: 4 3; } .limit-name { fill: var(--cut); }
code { font: 13px ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
"""

Rows = list[tuple[str, str, list[str]]]


def page(comparison: Comparison) -> str:
    """The whole document. Everything that comes from files or model names is escaped."""
    names = short_names([model.model for model in comparison.models])
    heads = "".join(
        f"<th scope='col' title='{escape(model.model, quote=True)}'>{escape(name)}</th>"
        for name, model in zip(names, comparison.models, strict=True)
    )
    body = "".join(
        f"<tr title='{escape(meaning, quote=True)}'><th scope='row'>{escape(name)}</th>"
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>"
        for name, meaning, values in table_rows(comparison)
    )
    title = f"Tokenizers on {comparison.name}"
    return (
        f"<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head>\n<body>"
        f"<h1>{escape(title)}</h1><p>{escape(summary_line(comparison))}</p>"
        f"<div class='wide'><table><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<h2>Row lengths</h2><p>Tokens per row, special tokens included. The dashed line is the maximum length: "
        f"longer rows would be truncated.</p>{_histograms(names, comparison.models)}"
        f"<h2>Texts that are not restored</h2>{_losses(names, comparison.models)}"
        f"<h2>Longest rows</h2><div class='wide'>{_longest(names, comparison.models)}</div></body></html>\n"
    )


def summary_line(comparison: Comparison) -> str:
    rejected = f", {comparison.num_rejected:,} rows without text left out" if comparison.num_rejected else ""
    columns = ", ".join(comparison.columns)
    return (
        f"{comparison.num_rows:,} texts (column {columns}){rejected}: {comparison.num_words:,} words, "
        f"{comparison.num_characters:,} characters, {comparison.num_bytes:,} bytes"
    )


def table_rows(comparison: Comparison) -> Rows:
    """(measure, what it means, its value for each model): the table of the page and of the terminal."""
    rates = [comparison.rates(model) for model in comparison.models]

    def rate(key: str, form: str) -> list[str]:
        return ["–" if row[key] is None else format(row[key], form) for row in rates]

    def of(value: str) -> list[str]:
        return [f"{getattr(model, value):,}" for model in comparison.models]

    models = comparison.models
    return [
        ("algorithm", "how the tokenizer finds its pieces", [model.algorithm for model in models]),
        ("vocabulary", "entries of the vocabulary", of("vocab_size")),
        ("used here", "distinct entries used for these texts", of("num_used")),
        ("tokens", "tokens of all texts, without special tokens", of("num_tokens")),
        ("tokens per word", "words are separated by whitespace", rate("tokens_per_word", ".3f")),
        ("tokens per character", "", rate("tokens_per_character", ".3f")),
        ("tokens per byte", "bytes of UTF-8", rate("tokens_per_byte", ".3f")),
        ("unknown", "share of the tokens that are the unknown token", rate("unknown_share", ".3%")),
        (
            "single characters",
            "share of the tokens that hold one character or less",
            rate("single_character_share", ".1%"),
        ),
        ("median length", "tokens per row, special tokens included", [f"{model.quantile(0.5):,}" for model in models]),
        ("95 % length", "95 of 100 rows are no longer", [f"{model.quantile(0.95):,}" for model in models]),
        ("longest", "tokens of the longest row", [f"{model.quantile(1.0):,}" for model in models]),
        ("maximum length", "where rows are cut", of("max_length")),
        ("rows cut", "share of the rows that are longer", rate("cut_rows_share", ".1%")),
        ("tokens cut", "share of the tokens that truncation would remove", rate("cut_tokens_share", ".1%")),
        ("not restored", "share of the texts that decoding does not restore", rate("lossy_share", ".1%")),
        ("… in letters", "of these: texts that lose more than whitespace and case", rate("lossy_letters_share", ".1%")),
        ("encoding, MB/s", "measured on this machine, during this comparison", rate("megabytes_per_second", ".1f")),
        ("encoding, tokens/s", "measured on this machine, during this comparison", rate("tokens_per_second", ",.0f")),
    ]


def _histograms(names: Sequence[str], models: Sequence[Measured]) -> str:
    edges, counts = bins(models)
    top = max(max(row) for row in counts) or 1
    rows = zip(names, models, counts, strict=True)
    return "".join(_histogram(name, model, edges, row, top) for name, model, row in rows)


def _histogram(model_name: str, model: Measured, edges: list[int], counts: list[int], top: int) -> str:
    """One model's histogram; axes are the same for all models. The last bar holds every longer row."""
    bin_width, slot = edges[1] - edges[0] if len(edges) > 1 else 1, (_WIDTH - _LEFT) / len(edges)
    ground, tall = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    parts = [f"<line class='axis' x1='{_LEFT}' y1='{ground}' x2='{_WIDTH}' y2='{ground}'/>"]
    for share in (0.5, 1.0):
        y = ground - share * tall
        parts.append(f"<line class='axis' x1='{_LEFT}' y1='{y:.1f}' x2='{_WIDTH}' y2='{y:.1f}'/>")
        parts.append(f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{round(top * share):,} rows</text>")
    for number, (edge, rows) in enumerate(zip(edges, counts, strict=True)):
        last = number == len(edges) - 1
        height, x = rows / top * tall, _LEFT + number * slot
        name = f"{edge:,} tokens or more" if last else f"{edge:,} to {edge + bin_width - 1:,} tokens"
        kind = "bar over" if edge >= model.max_length else "bar"
        if rows:
            parts.append(
                f"<rect class='{kind}' x='{x + 1:.1f}' y='{ground - max(1.0, height):.1f}' width='{max(1.0, slot - 2):.1f}' "
                f"height='{max(1.0, height):.1f}'><title>{name}: {rows:,} rows</title></rect>"
            )
        if number % max(1, len(edges) // _TICKS) == 0 or last:
            label = f"{edge:,}+" if last else f"{edge:,}"
            anchor = "end" if last else "start"
            place = _WIDTH if last else x
            if last or number < len(edges) - 2:
                parts.append(f"<text x='{place:.1f}' y='{ground + 16}' text-anchor='{anchor}'>{label}</text>")
    if model.max_length <= edges[-1]:
        x = _LEFT + model.max_length / bin_width * slot
        side, shift = ("end", -5) if x > _WIDTH / 2 else ("start", 5)
        parts.append(f"<line class='limit' x1='{x:.1f}' y1='2' x2='{x:.1f}' y2='{ground}'/>")
        parts.append(
            f"<text class='limit-name' x='{x + shift:.1f}' y='11' text-anchor='{side}'>maximum {model.max_length:,}</text>"
        )
    caption = (
        f"<b>{escape(model_name)}</b>: half of the rows have at most {model.quantile(0.5):,} tokens, "
        f"95 % at most {model.quantile(0.95):,}, the longest has {model.quantile(1.0):,}."
    )
    drawn = f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='Histogram of row lengths, {escape(model_name, quote=True)}'>"
    return f"<figure><figcaption>{caption}</figcaption>{drawn}{''.join(parts)}</svg></figure>"


def _losses(names: Sequence[str], models: Sequence[Measured]) -> str:
    rows = [
        f"<tr><td class='text'>{escape(name)}</td><td class='text'>{escape(example.address)}</td>"
        f"<td class='text'><code>{escape(repr(example.before))}</code></td>"
        f"<td class='text'><code>{escape(repr(example.after))}</code></td></tr>"
        for name, model in zip(names, models, strict=True)
        for example in model.examples
    ]
    if not rows:
        return "<p>Every tokenizer restores every text exactly.</p>"
    return (
        "<p>Texts that differ after encoding and decoding, around the first difference.</p><div class='wide'><table><thead>"
        "<tr><th>model</th><th class='text'>row</th><th class='text'>text</th><th class='text'>decoded</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _longest(names: Sequence[str], models: Sequence[Measured]) -> str:
    rows = "".join(
        f"<tr><td class='text'>{escape(name)}</td><td class='text'>{escape(address)}</td><td>{tokens:,}</td></tr>"
        for name, model in zip(names, models, strict=True)
        for tokens, address in model.longest
    )
    return (
        "<table><thead><tr><th>model</th><th class='text'>row</th><th>tokens</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
