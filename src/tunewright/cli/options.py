"""Small checks that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.errors import UserError, did_you_mean


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """UserError when `value` is none of `choices`."""
    if value not in choices:
        near = did_you_mean(value, choices)
        raise UserError(
            f"no such choice {value!r}",
            where=option,
            expected=", ".join(choices),
            mend=f"Did you mean {near}?" if near else None,
        )
