"""The error for everything that a user can fix: where it is, what was found, what was expected, and what to do.

    train.jsonl:418: no field 'label'; found 'text', 'tag'. Set data.label: tag.

Everything that the user can fix (a config key, a column, a file) is raised as `UserError`; the command line prints it
without a traceback and exits with 2. `assert` and other exceptions are our own bugs and exit with 101.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class UserError(Exception):
    """Something that the user can fix.

    problem: what is wrong, one clause, no full stop.
    where: `file:line`, a config key, or a folder.
    found / expected: the value met and the value needed, already readable.
    hint: one sentence that says what to do.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.where, self.found, self.expected, self.hint = problem, where, found, expected, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        if self.found is not None:
            text += f"; found {self.found}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if not text.endswith((".", "!", "?")):
            text += "."
        return f"{text} {self.hint}" if self.hint else text

    def rephrased(self, change: Callable[[str], str]) -> UserError:
        """The same, each of its parts changed: where a key is to be called by the name of an option, for example."""
        parts = (self.where, self.found, self.expected, self.hint)
        where, found, expected, hint = (part and change(part) for part in parts)
        return UserError(change(self.problem), where=where, found=found, expected=expected, hint=hint)


class RowError(Exception):
    """One row cannot be used; `reason` goes into the ledger beside the row's file and line."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RowSkipped(RowError):
    """A correct row without anything to learn (nobody labelled it): counted as filtered, and training goes on."""


def quoted(names: Iterable[object], *, limit: int = 12) -> str:
    """`'a', 'b', 'c' and 5 more`, for lists of columns, labels and keys in messages."""
    every = [f"{name!r}" for name in names]
    shown = ", ".join(every[:limit])
    return shown + (f" and {len(every) - limit} more" if len(every) > limit else "")


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,048 test rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def with_article(noun: str) -> str:
    """`an mlm model`, `a clm model`, `an answer`: words without a vowel, and NER, are spelled out letter by letter."""
    first = noun.split()[0].lower() if noun.split() else ""
    spelled = first == "ner" or not set(first) & set("aeiouy")
    return f"{'an' if first[:1] in ('aefhilmnorsx' if spelled else 'aeiou') and first else 'a'} {noun}"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def suggestion(name: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """The hint `Did you mean lora?`, or `otherwise` when nothing is close."""
    near = did_you_mean(name, known)
    return f"Did you mean {near}?" if near else otherwise


def first_line(error: BaseException, *, limit: int = 200) -> str:
    """The first line of what a library said, at most `limit` characters; the error's type where it said nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """UserError when `value` is none of `choices`."""
    if value not in choices:
        raise UserError(
            f"no such choice {value!r}",
            where=option,
            expected=", ".join(choices),
            hint=suggestion(value, choices),
        )


def renamed(old: str, new: str) -> Callable[..., Any]:
    """The old name of a public method, kept for one version: `above = renamed("above", "with_min_score")`."""

    def under_old_name(self: Any, *args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)(*args, **kwargs)

    under_old_name.__name__ = old
    under_old_name.__doc__ = f"The old name of `{new}`."
    return under_old_name
