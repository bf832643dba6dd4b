"""What would go wrong with a config's data, found before training. Behind `tunewright check`.

findings, summary = find_problems(config)
findings       ["12.4 % of the tokens are cut at data.max_length 128 (31 % of the rows). Raise data.max_length."]
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tunewright.config.run_config import RunConfig
from tunewright.config.sections import AdapterKeys, DataKeys, EvaluateKeys, ModelKeys, TaskKeys, TrainKeys
from tunewright.errors import counted, quoted
from tunewright.evaluation.best_metric import best_metric, without_value
from tunewright.preparation import Inputs, prepare
from tunewright.reading.ledger import kept_rows
from tunewright.reporting import html
from tunewright.reporting.display import progress_shown
from tunewright.runs.autoconfig import AnyConfig, as_config
from tunewright.runs.decision import Decision, decision_of
from tunewright.runs.early_checks import refuse_early
from tunewright.runs.from_python import words_of

_CUT_SHARE, _DUPLICATE_SHARE, _RARE_LABEL, _IMBALANCE = 0.02, 0.05, 5, 20
_NAMES_SHOWN, _FINDINGS_SHOWN = 12, 8


@dataclass(frozen=True, repr=False)
class Findings:
    """What would go wrong. findings: a sentence each, with what to do. summary: rows, tokens and labels, as `check --json` prints them."""

    findings: list[str]
    summary: dict[str, object]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.findings)

    def __repr__(self) -> str:
        shown = [f"- {finding}" for finding in self.findings[:_FINDINGS_SHOWN]]
        more = [f"and {len(self.findings) - len(shown)} more"] if len(self.findings) > len(shown) else []
        return "\n".join(
            [f"{counted(len(self.findings), 'finding') if self.findings else 'no findings'}", *shown, *more]
        )

    def _repr_html_(self) -> str:
        rows = [[str(split), count] for split, count in cast(dict[str, int], self.summary["kept"]).items()]
        return html.table(["split", "rows"], rows) + html.table(
            ["findings"], [[one] for one in self.findings or ["none"]]
        )


def check(
    config: AnyConfig, overrides: Sequence[str] = (), *, task: str | TaskKeys | None = None, model: str | Path | ModelKeys | None = None,
    data: DataKeys | None = None, adapter: str | AdapterKeys | None = None, train: TrainKeys | None = None,
    evaluate: EvaluateKeys | None = None, plugins: Sequence[str] = (), output: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None, progress: bool | None = None,
) -> Findings:  # fmt: skip
    """What would go wrong with data or a config, before training. UserError where the data cannot be used at all.

    config and the sections: as `train` takes them. say: told where a token store cannot be used and is built again.
    progress: as for `train`.
    """
    words = words_of(
        task=task,
        model=model,
        data=data,
        adapter=adapter,
        train=train,
        evaluate=evaluate,
        plugins=plugins,
        output=output,
    )
    with progress_shown(progress):
        resolved = as_config(config, overrides, words=words)
        refuse_early(resolved, trains=False)
        return Findings(*find_problems(resolved, say=say))


def find_problems(config: RunConfig, *, say: Callable[[str], None]) -> tuple[list[str], dict[str, Any]]:
    """(findings, a sentence each, with what to do; summary of rows, tokens and labels). UserError where the data cannot be used."""
    skipping = config.model_copy(update={"data": config.data.model_copy(update={"on_bad_rows": "skip"})})
    decisions: list[Decision] = []

    def decided(inputs: Inputs) -> None:
        decisions.append(decision_of(config, inputs, model=config.model.locate()))

    prepared = prepare(skipping, say=say, opened=decided)
    manifest = prepared.manifest
    ledger, splits = manifest["ledger"], manifest["splits"]
    findings = []
    rejected = sum(source["rejected"] for source in ledger["sources"])
    if rejected:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in list(ledger["reasons"].items())[:3])
        findings.append(
            f"{counted(rejected, 'row')} that cannot be used: {reasons}. See {prepared.store.folder / 'rejected.jsonl'}."
        )
    train = splits["train"]
    cut = train["cut_tokens"] / max(1, train["tokens"] + train["cut_tokens"])
    if cut > _CUT_SHARE:
        findings.append(
            f"{cut:.1%} of the training tokens are truncated at {manifest['max_length']} tokens ({train['cut_rows'] / train['rows']:.1%} of the rows). "
            "Raise data.max_length, or truncate the other side with data.truncation_side."
        )
    for split, count in ledger["shared_with_train"].items():
        if count:
            findings.append(
                f"{counted(count, f'{split} row')} with a text that is also in train: scores will be too high. Remove them, or group them with data.group_by."
            )
    rows = sum(kept_rows(ledger, name) for name in splits)
    if ledger["duplicates"] > _DUPLICATE_SHARE * rows and not config.data.deduplicate:
        findings.append(
            f"{counted(ledger['duplicates'], 'row')} of {rows:,} with an earlier row's text. data.deduplicate=true drops them from training."
        )
    if ledger["contradicting_texts"]:
        findings.append(
            f"{counted(ledger['contradicting_texts'], 'text')} with different labels. Check them: at least one of the labels is wrong."
        )
    for split, count in ledger.get("groups_shared_with_train", {}).items():
        findings.append(
            f"{counted(count, f'{split} row')} of a group (data.group_by) that is also in train: rows are never moved between given files. Move them yourself."
        )
    task = prepared.task()
    best_metric(config.evaluate.metric, task, prepared.store, plugins=config.evaluate.metrics)
    if said := without_value(config.evaluate.metric, task, prepared.store):
        findings.append(f"{said} Set evaluate.metric, or use another validation split.")
    counts = task.label_counts(prepared.store["train"])
    findings += label_findings(counts, several_each=bool(manifest["task_state"].get("multi_label")))
    findings += manifest["tokenizer"]["findings"]
    findings += prepared.task().findings(prepared.store)
    findings += split_findings(config, splits)
    summary = {
        "decision": decisions[0].lines(),
        "read": sum(source["read"] for source in ledger["sources"]),
        "kept": {name: kept_rows(ledger, name) for name in splits},
        "rows": {name: split["rows"] for name, split in splits.items()},
        "stored_as": task.stored_as,
        "hints": [*manifest["tokenizer"]["hints"], *task.data_warnings(prepared.store)],
        "tokens": ledger["tokens"],
        "labels": counts,
        "store": str(prepared.store.folder),
    }
    return findings, summary


def label_findings(counts: Mapping[str, int], *, several_each: bool) -> list[str]:
    """Labels that will hardly be learned: rare, uneven, or one label written in two ways."""
    findings = []
    rare = [f"{name} ({count:,})" for name, count in counts.items() if count < _RARE_LABEL]
    if rare:
        shown = ", ".join(rare[:_NAMES_SHOWN]) + (
            f" and {len(rare) - _NAMES_SHOWN} more" if rare[_NAMES_SHOWN:] else ""
        )
        findings.append(
            f"labels with fewer than {_RARE_LABEL} rows will hardly be learned: {shown}. Collect more rows, or merge them."
        )
    present = [count for count in counts.values() if count]
    if present and max(present) > _IMBALANCE * min(present) and not several_each:
        findings.append("the labels are very imbalanced. Watch f1_macro, and try train.class_weights=balanced.")
    names = [name.strip().lower() for name in counts]
    alike = sorted({name for name in counts if names.count(name.strip().lower()) > 1})
    if alike:
        findings.append(
            f"labels that differ only in case or spaces: {quoted(alike)}. They are learned as different labels."
        )
    return findings


def split_findings(config: RunConfig, splits: Container[str]) -> list[str]:
    """Splits without rows, and ratios that a given file makes idle."""
    data = config.data
    findings = []
    if "validation" not in splits:
        findings.append(
            "no row is left for validation: the best checkpoint cannot be chosen. Raise data.validation_ratio."
        )
    if "test" not in splits and data.test_ratio != 0:
        findings.append("no row is left for the test split: there will be no final score. Raise data.test_ratio.")
    for split in ("validation", "test"):
        ratio, default = getattr(data, f"{split}_ratio"), type(data).model_fields[f"{split}_ratio"].default
        if getattr(data, split) is not None and ratio not in (default, 0):
            findings.append(f"data.{split}_ratio has no effect: data.{split} names a file. Remove one of them.")
    return findings
