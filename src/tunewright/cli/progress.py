"""What a run prints: the preflight (on stderr), tables of scores (on stdout). No colour if the output is not a terminal, or under NO_COLOR.

The line of progress is shown by `reporting/display.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tunewright import hints
from tunewright.artifacts.model_folder import open_saved
from tunewright.cli.options import say
from tunewright.errors import counted
from tunewright.evaluation.overfitting import curve_plot, points_of
from tunewright.reading.ledger import format_counts, kept_rows
from tunewright.records import TaggedText
from tunewright.reporting.display import clock
from tunewright.runs.data_checks import label_findings, split_findings
from tunewright.runs.reporter import LineReporter, RunResult

if TYPE_CHECKING:  # they import torch, which printing does not need
    from tunewright.config.run_config import RunConfig
    from tunewright.evaluation.estimate import Estimate
    from tunewright.training.preflight import Preflight
    from tunewright.training.progress import HistoryPoint

_WORTH_SAYING_SECONDS = 30
_FRESH_SHOWN = 6
_LABELS_SHOWN = 8
_WIDEST = 60


def bold(text: str, stream: TextIO) -> str:
    return f"\x1b[1m{text}\x1b[0m" if stream.isatty() and not os.environ.get("NO_COLOR") else text


def highlighted(tagged: TaggedText) -> str:
    """`Ann [PER 0.98] lives in Ulm [LOC 0.97]`; on a terminal the entities are bold."""
    plain = os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    start, parts = 0, []
    for entity in tagged.entities:
        name, label = tagged.text[entity.start : entity.end], f"[{entity.label} {entity.score:.2f}]"
        parts += [
            tagged.text[start : entity.start],
            f"{name} {label}" if plain else f"\x1b[1m{name}\x1b[0m \x1b[36m{label}\x1b[0m",
        ]
        start = entity.end
    return "".join([*parts, tagged.text[start:]])


class ConsoleReporter(LineReporter):
    """Prints a run as it goes; `summary` prints the final scores on stdout."""

    def __init__(self, *, summary: bool = True, config: RunConfig | None = None) -> None:
        self._summary, self._config = summary, config

    def before_first_step(self, preflight: Preflight, estimate: Estimate) -> None:
        say(preflight_text(preflight, estimate))
        if self._config is not None:
            for finding in (
                *label_findings(
                    preflight.labels, several_each=True
                ),  # the line `labels` above shows how uneven they are
                *split_findings(self._config, preflight.splits),
            ):
                say(f"finding   {finding}")

    def finished(self, result: RunResult) -> None:
        if not self._summary:
            return
        if result.already_finished:
            print(f"This run has already finished ({counted(result.num_steps, 'step')}). Its scores:")
        elif result.history:
            print_curve(result.history)
        for split, scores in result.scores.items():
            if split == "test" or "test" not in result.scores:
                print_scores(split, scores)
        sentences = [
            result.verdict["reason"].rstrip(".") + ".",
            result.verdict.get("kept", ""),
            result.verdict["advice"],
            result.verdict.get("baseline", ""),
        ]
        print(f"\n{bold(result.verdict['kind'], sys.stdout)}: {' '.join(filter(None, sentences))}")
        print(f"\nmodel    {result.folder / 'model'}")
        print(f"try it   {try_it(result.folder)}")


def try_it(run: Path) -> str:
    """A command that predicts with the run: a text, a pair of texts, or a text with a mask, as the model needs."""
    sample = open_saved(run).sample
    return hints.predict(run, sample) if isinstance(sample, str) else hints.predict_pair(run, *sample)


def preflight_text(facts: Preflight, estimate: Estimate) -> str:
    """About ten lines: the data, the model and the training that are about to start."""
    ledger = facts.ledger
    read = sum(source["read"] for source in ledger["sources"])
    lost = {
        fate: sum(source[fate] for source in ledger["sources"]) for fate in ("rejected", "filtered", "not_selected")
    }
    out = "".join(f", {count:,} {fate.replace('_', ' ')}" for fate, count in lost.items() if count)
    rows = {name: kept_rows(ledger, name) for name in facts.splits}
    train = facts.splits["train"]
    lines = [f"rows      {of_each(rows)}  (of {read:,} read{out})"]
    if any(rows[name] != split.rows for name, split in facts.splits.items()):
        stored = {name: split.rows for name, split in facts.splits.items()}
        lines.append(f"{facts.stored_as + 's':<10}{of_each(stored)}  (of at most {facts.max_length:,} tokens)")
    if ledger["reasons"]:
        lines.append(f"left out  {format_counts(ledger['reasons'])}")
    if facts.labels:
        lines.append(f"labels    {labels_text(facts.labels)}")
    if facts.answer is not None:
        lines.append(f"answers   start at |: {facts.answer}")
    quantiles = train.length_quantiles
    cut_tokens = train.cut_tokens / max(1, train.tokens + train.cut_tokens)
    lines.append(
        f"lengths   50% {quantiles['50%']}, 95% {quantiles['95%']}, longest {quantiles['max']} of at most {facts.max_length} tokens; "
        f"truncation cuts {train.cut_rows / train.rows:.1%} of the rows, {cut_tokens:.1%} of the tokens"
    )
    for fact, count in (
        ("with the same text as an earlier row", ledger["duplicates"]),
        ("whose text also occurs with another label", ledger["contradicting_texts"]),
    ):
        if count:
            lines.append(f"notice    {counted(count, 'row')} {fact}")
    for split, count in ledger["shared_with_train"].items():
        if count:
            lines.append(f"notice    {counted(count, f'{split} row')} whose text is also in train")
    lines += [f"notice    {note}" for note in facts.notes]
    more = f" and {len(facts.fresh) - _FRESH_SHOWN} more" if len(facts.fresh) > _FRESH_SHOWN else ""
    fresh = f", fresh: {', '.join(facts.fresh[:_FRESH_SHOWN])}{more}" if facts.fresh else ""
    share = (
        ""
        if facts.num_trainable == facts.num_parameters
        else f", {facts.num_trainable / facts.num_parameters:.1%} trained"
    )
    lines.append(f"weights   {facts.num_parameters / 1e6:.1f} M parameters{share}{fresh}")
    body, head = facts.learning_rates
    noun = facts.stored_as if any(rows[name] != split.rows for name, split in facts.splits.items()) else "row"
    lines.append(
        f"training  {counted(facts.num_steps, 'step')} of {counted(facts.batch_size, noun)}, "
        f"learning rate {body:.2g} (fresh head {head:.2g}), {facts.precision} on {facts.device}"
    )
    lines.append(
        f"estimate  {clock(estimate.total)}: training {clock(estimate.training)}, scoring {clock(estimate.scoring)}, the rest "
        f"{clock(estimate.rest)}; padding {facts.padding_share:.0%}; {facts.memory_bytes / 2**30:.1f} GB of "
        f"{facts.memory_available / 2**30:.0f} GB"
    )
    if estimate.scoring > max(estimate.training, _WORTH_SAYING_SECONDS):
        most = max(estimate.rows_scored, key=lambda name: estimate.rows_scored[name])
        lines.append(
            f"notice    Scoring {of_each(estimate.rows_scored)} takes longer than training: data.limit.{most}=2000 scores a random subset."
        )
    return "\n".join(lines)


def of_each(counts: Mapping[str, int]) -> str:
    """`train 4,000  validation 500`."""
    return "  ".join(f"{name} {count:,}" for name, count in counts.items())


def labels_text(counts: Mapping[str, int]) -> str:
    """`2 in train: ham 4,344, spam 673`, the most frequent first."""
    labels = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count:,}" for name, count in labels[:_LABELS_SHOWN])
    more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
    return f"{len(labels)} in train: {shown}{more}"


def print_curve(history: Sequence[HistoryPoint]) -> None:
    """Training and validation loss per evaluation, as a table and, from three points on, a plot."""
    rows = [
        [
            f"{point['epoch']:.2f}",
            str(point["step"]),
            f"{point['train_loss']:.4f}",
            f"{point['validation_loss']:.4f}",
            f"{point['score']:.4f}",
            "best" if point["is_best"] else "",
        ]
        for point in history
    ]
    last_best = max((i for i, row in enumerate(rows) if row[-1]), default=-1)
    for i, row in enumerate(rows):
        row[-1] = "kept" if i == last_best else ""
    print_table(["epoch", "step", "training loss", "validation loss", "score", ""], rows)
    if len(history) >= 3:
        print(curve_plot(points_of(history), height=8))


def print_scores(title: str, scores: Mapping[str, Any], *, details: bool = False) -> None:
    """One split's scores, next to those of the baselines."""
    print(f"\n{bold(title, sys.stdout)}: {rows_text(scores)}")
    baselines = scores.get("baseline", {})
    rows = []
    for name in scores["metrics"]:
        low, high = scores["intervals"].get(name, (None, None))
        interval = f"{low:.4f} - {high:.4f}" if low is not None else ""
        rows.append(
            [
                name,
                f"{scores['metrics'][name]:.4f}",
                interval,
                *(f"{of[name]:.4f}" if name in of else "" for of in baselines.values()),
            ]
        )
    print_table(["", "model", "95 % interval", *baselines], rows)
    for line in scores.get("warnings", ()):
        print(f"notice    {line}")
    if not details:
        return
    if scores.get("per_class"):
        print()
        print_table(
            ["label", "precision", "recall", "f1", "rows"],
            [
                [name, *(f"{values[key]:.4f}" for key in ("precision", "recall", "f1")), f"{values['support']:,.0f}"]
                for name, values in scores["per_class"].items()
            ],
        )
    if scores.get("most_confused"):
        print("\nmost confused")
        print_table(
            ["gold", "predicted", "rows"],
            [[cell["gold"], cell["predicted"], str(cell["rows"])] for cell in scores["most_confused"]],
        )
    if scores["worst_rows"]:
        print("\nconfident and wrong")
        print_table(
            ["row", "gold", "predicted", "score", "text"],
            [
                [
                    row["row"],
                    _short(row["gold"]),
                    _short(row["predicted"]),
                    f"{row['score']:.3f}",
                    _short(row.get("text", "")),
                ]
                for row in scores["worst_rows"]
            ],
        )


def rows_text(scores: Mapping[str, Any]) -> str:
    """`2,000 rows`; `8 rows in 1 block` where rows were packed or split for the store."""
    kept, unit = scores.get("rows_kept"), scores.get("unit", "row")
    if kept is None or kept == scores["rows"]:
        shown = counted(scores["rows"], "row" if kept is not None else unit)
    else:
        shown = f"{counted(kept, 'row')} in {counted(scores['rows'], unit)}"
    left_out = scores.get("rows_not_selected", 0)
    return f"{shown}, a random subset of {kept + left_out:,} (data.limit)" if kept and left_out else shown


def _short(value: object) -> str:
    """The first `_WIDEST` characters, on one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns: numbers to the right, texts to the left."""
    if not rows:
        return
    cells = [list(map(str, head)), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    numeric = [all(_is_number(row[i]) or row[i] in ("", "-") for row in cells[1:]) for i in range(len(head))]
    for row in cells:
        print(
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, numeric, strict=True)
            ).rstrip()
        )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
