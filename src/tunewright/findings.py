"""What would go wrong with a config's data, found before training. Behind `tunewright check`.

findings, summary = find_problems(config)
findings       ["12.4 % of the tokens are cut at data.max_length 128 (31 % of the rows). Raise data.max_length."]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunewright.config import RunConfig
from tunewright.errors import quoted
from tunewright.prepare import prepare

_CUT_SHARE, _DUPLICATE_SHARE, _RARE_LABEL, _IMBALANCE = 0.02, 0.05, 5, 20


def find_problems(config: RunConfig, *, say: Callable[[str], None]) -> tuple[list[str], dict[str, Any]]:
    """(findings, a sentence each with its mend; summary of rows, tokens and labels). UserError where the data cannot be used."""
    skipping = config.model_copy(update={"data": config.data.model_copy(update={"on_bad_rows": "skip"})})
    prepared = prepare(skipping, say=say)
    manifest = prepared.manifest
    ledger, splits = manifest["ledger"], manifest["splits"]
    findings = []
    rejected = sum(source["rejected"] for source in ledger["sources"])
    if rejected:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in list(ledger["reasons"].items())[:3])
        findings.append(f"{rejected:,} rows cannot be used: {reasons}. See {prepared.store.folder / 'rejected.jsonl'}.")
    train = splits["train"]
    cut = train["cut_tokens"] / max(1, train["tokens"] + train["cut_tokens"])
    if cut > _CUT_SHARE:
        findings.append(
            f"{cut:.1%} of the training tokens are cut at {manifest['max_length']} tokens ({train['cut_rows'] / train['rows']:.1%} of the rows). "
            "Raise data.max_length, or cut the other side: data.truncation_side."
        )
    for split, count in ledger["shared_with_train"].items():
        if count:
            findings.append(
                f"{count:,} {split} rows have a text that is also in train: their scores flatter. Remove them, or group them with data.group_by."
            )
    rows = sum(split["rows"] for split in splits.values())
    if ledger["duplicates"] > _DUPLICATE_SHARE * rows:
        findings.append(
            f"{ledger['duplicates']:,} of {rows:,} rows repeat an earlier text. data.deduplicate=true drops them from training."
        )
    if ledger["contradicting_texts"]:
        findings.append(
            f"{ledger['contradicting_texts']:,} texts occur with different labels. Look at them: one of the labels is wrong."
        )
    counts = ledger["label_counts"]
    rare = [name for name, count in counts.items() if count < _RARE_LABEL]
    if rare:
        findings.append(
            f"labels with fewer than {_RARE_LABEL} rows will hardly be learned: {quoted(rare)}. Collect more rows, or merge them."
        )
    present = [count for count in counts.values() if count]
    if present and max(present) > _IMBALANCE * min(present) and not manifest["task_state"]["multi_label"]:
        findings.append("the labels are very uneven. Look at f1_macro, and try train.class_weights=balanced.")
    names = [name.strip().lower() for name in counts]
    alike = sorted({name for name in counts if names.count(name.strip().lower()) > 1})
    if alike:
        findings.append(
            f"labels that differ only in case or blanks: {quoted(alike)}. They are learned as different labels."
        )
    if "validation" not in splits:
        findings.append(
            "no row is left for validation: the best checkpoint cannot be chosen. Raise data.validation_ratio."
        )
    summary = {
        "rows": {name: split["rows"] for name, split in splits.items()},
        "tokens": ledger["tokens"],
        "labels": counts,
        "store": str(prepared.store.folder),
    }
    return findings, summary
