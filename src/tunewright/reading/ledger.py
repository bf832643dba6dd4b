"""Every row accounted for: read = kept + rejected + filtered + not selected, per source and split.

    Ledger.as_dict()["sources"][0]   {"source": "train.csv", "read": 5000, "kept": 4998, "rejected": 2, …}

Rejected rows are written to rejected.jsonl as they are met: file, line, reason and raw text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.errors import UserError, counted
from tunewright.records import HeldRows, Reject

KEPT, REJECTED, FILTERED, NOT_SELECTED = "kept", "rejected", "filtered", "not_selected"
FATES = (KEPT, REJECTED, FILTERED, NOT_SELECTED)
_SHOWN = 5
_MOST_REASONS = 1_000
_OTHER = "other reasons"
_SUCH_AS = "such as: "
_COLUMN = re.compile(r"""((?:^|\b(?:no field|column|in) )(?:'[^']*'|"[^"]*"))""")
_VALUE = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\]|\\.)*"(?!\w)|(?<!\w)['"].*?(?=, expected|; |$)"""
    r"""|[\[({][^][(){}]*[])}]|\b[BIESLUM][-_][^\s,]+|(?<=after )O\b|[-+]?\b[0-9][0-9.,]*(?:e[-+]?[0-9]+)?\b"""
    r"""|\b(?:True|False|None|nan|inf|true|false|null|NoneType|int|float|bool|list|dict|str)\b"""
)
_SEVERAL = re.compile(r"(?:…(?:, | |: )?)+")


@dataclass
class Ledger:
    """Counts per source and split, plus other facts (duplicates, rows shared between splits)."""

    counts: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    """source -> split -> fate -> rows. Rejected rows stand under the split `-`: they never reached one."""
    read: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Rows left out per kind of reason, under the first reason of that kind."""
    facts: dict[str, Any] = field(default_factory=dict)
    _first_of_kind: dict[str, str] = field(default_factory=dict, repr=False)

    def add(self, source: str, split: str, fate: str, rows: int = 1) -> None:
        self.counts.setdefault(source, {}).setdefault(split, Counter())[fate] += rows

    def count_reason(self, reason: str) -> None:
        """Count one row that was left out."""
        kind = kind_of(reason)
        first = self._first_of_kind.get(kind)
        if first is None:
            if len(self._first_of_kind) >= _MOST_REASONS:
                self.reasons[_OTHER] += 1
                return
            first = self._first_of_kind[kind] = reason
        elif first != reason and not first.startswith(_SUCH_AS):  # from now on the reason stands for its kind
            self._first_of_kind[kind] = f"{_SUCH_AS}{first}"
            self.reasons[f"{_SUCH_AS}{first}"] = self.reasons.pop(first)
            first = self._first_of_kind[kind]
        self.reasons[first] += 1

    def format_counts(self) -> str:
        """The most frequent reasons of rejected rows, for a message."""
        return format_counts(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """JSON form. Raises AssertionError when the counts do not add up: that would be our bug."""
        sources = []
        for source in self.read:
            splits = self.counts.get(source, {})
            totals = {fate: sum(counts[fate] for counts in splits.values()) for fate in FATES}
            assert self.read[source] == sum(totals.values()), f"{source}: {self.read[source]} rows read, {totals}"
            by_split = {
                name: {fate: counts[fate] for fate in FATES if counts[fate]}
                for name, counts in splits.items()
                if name != "-"
            }
            sources.append({"source": source, "read": self.read[source], **totals, "splits": by_split})
        return {"schema": 1, "sources": sources, "reasons": dict(self.reasons.most_common()), **self.facts}


def kept_rows(ledger: Mapping[str, Any], split: str) -> int:
    """How many of the user's rows a split holds, from a saved ledger."""
    return sum(source["splits"].get(split, {}).get(KEPT, 0) for source in ledger["sources"])


def not_selected_rows(ledger: Mapping[str, Any], split: str) -> int:
    """The user's rows that `data.limit` left out of a split."""
    return sum(source["splits"].get(split, {}).get(NOT_SELECTED, 0) for source in ledger["sources"])


def kind_of(reason: str) -> str:
    """A reason without the values it quotes: `'label' holds int 3` and `'label' holds list [1]` are one kind.

    Names of columns stay: a missing `text` is another kind than a missing `label`.
    """
    parts = _COLUMN.split(reason)
    for place in range(0, len(parts), 2):
        before = None
        while before != parts[place]:  # lists within lists
            before, parts[place] = parts[place], _VALUE.sub("…", parts[place])
    return _SEVERAL.sub("… ", "".join(parts)).strip()


def format_counts(reasons: Mapping[str, int], num_shown: int = 2) -> str:
    """`13 rows: empty answer; 2 rows such as: turn 1 is 'Hi'; 9 rows: other reasons`. Reasons that differ only in what they
    quote are counted together, under the first."""
    kinds: dict[str, list[tuple[str, int]]] = {}
    for reason, count in reasons.items():
        kinds.setdefault(kind_of(reason.removeprefix(_SUCH_AS)), []).append((reason, count))
    found = sorted(kinds.values(), key=_num_rows, reverse=True)
    shown = [f"{counted(_num_rows(kind), 'row')}{_format_kind(kind)}" for kind in found[:num_shown]]
    rest = sum(map(_num_rows, found[num_shown:]))
    return "; ".join([*shown, *([f"{counted(rest, 'row')}: other reasons"] if rest else [])])


def _format_kind(kind: Sequence[tuple[str, int]]) -> str:
    """` such as: turn 1 is 'Hi'` where the reasons of a kind differ, `: empty answer` where there is one."""
    first = kind[0][0].removeprefix(_SUCH_AS)
    return f" such as: {first}" if len(kind) > 1 or kind[0][0].startswith(_SUCH_AS) else f": {first}"


def _num_rows(kind: Sequence[tuple[str, int]]) -> int:
    return sum(count for _, count in kind)


@dataclass
class RejectFile:
    """rejected.jsonl, written line by line; remembers the first few for the message."""

    path: Path
    count: int = 0
    first: list[Reject] = field(default_factory=list)

    def __enter__(self) -> RejectFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._file = open(self.path, "x", encoding="utf-8")  # a link that someone put there is not written through
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def add(self, reject: Reject) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(reject)
        record = {"source": reject.source, "line": reject.line, "reason": reject.reason, "raw": reject.raw}
        if isinstance(reject.source, HeldRows):
            record["row"] = reject.address
        self._file.write(json.dumps(record, ensure_ascii=True) + "\n")


def first_rejects(path: Path) -> list[Reject]:
    """The first few rows of a rejected.jsonl; none when it is gone."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8") as file:
        return [_reject_of(json.loads(line)) for line in itertools.islice(file, _SHOWN)]


def _reject_of(record: dict[str, Any]) -> Reject:
    """A line of rejected.jsonl; `row` is the address of a row that was handed over in memory."""
    address = record.pop("row", None)
    if address is not None:
        label = address[len(record["source"]) + 1 : -1]
        record["source"] = HeldRows(record["source"], labels={record["line"] - 1: label})
    return Reject(**record)


def bad_rows_error(
    rejects: Iterable[Reject],
    count: int,
    num_read: int,
    rejected_file: Path | None,
    *,
    go_on: str = "data.on_bad_rows=skip",
) -> UserError:
    """The error where rejected rows stop the command. go_on: the config word that continues without them."""
    return UserError(
        f"{count:,} of {num_read:,} rows cannot be used:\n{_listed(rejects, count, rejected_file)}",
        hint=f"Fix them, or skip them: {go_on}",
    )


def after_rejects(error: UserError, rejects: Sequence[Reject], count: int, num_read: int, path: Path) -> UserError:
    """`error` with the rejected rows before it, which are its likely cause."""
    if not count:
        return error
    return UserError(
        f"{error.problem}, after {count:,} of {num_read:,} rows could not be used:\n{_listed(rejects, count, path)}",
        where=error.where,
        hint="Fix these rows.",
    )


def _listed(rejects: Iterable[Reject], count: int, rejected_file: Path | None) -> str:
    lines = "\n".join(f"  {reject.address}: {reject.reason}" for reject in rejects)
    more = f"\n  and {count - _SHOWN:,} more" if count > _SHOWN else ""
    return lines + more + (f"\nAll are listed in {rejected_file}." if rejected_file else "")
