"""Where pre-tokens begin, for whole batches at once: the pre-tokenizers' regular expressions as rules over runs of classes.

    text      I  '  m  _  a  t  _  _  h  o  m  e  .        _ a blank
    classes   L  O  L  S  L  L  S  S  L  L  L  L  O
    gpt2      I |'m      |_at   |_    |_home      |.

A run is a stretch of bytes of one class. Every alternative of the two families of expressions looks at one run and its
neighbours, so each rule is an array comparison. All functions give the positions (int64, ascending) where something begins: a
pre-token, or a gap of END (and, where blanks are dropped, BLANK) bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunewright.tokenization.fast.classes import BLANK, END, LETTER, NEWLINE, NUMBER, OTHER

_SPACE, _APOSTROPHE = 0x20, 0x27
_SIZE_OF = np.array([1] * 0xC0 + [2] * 0x20 + [3] * 0x10 + [4] * 0x10)
"""First byte of a character -> its size."""


@dataclass(frozen=True)
class _Runs:
    """starts, sizes: int64 (R,), in bytes. kinds: their classes; before and after: those of the neighbours, END at the rims.

    after_space: whether the byte before a run is the blank U+0020.
    """

    raw: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    before: np.ndarray
    after: np.ndarray
    after_space: np.ndarray

    @classmethod
    def of(cls, raw: np.ndarray, classes: np.ndarray) -> _Runs:
        starts = np.flatnonzero(_changes(classes))
        kinds = classes[starts]
        rim = np.array([END], dtype=np.uint8)
        return cls(
            raw=raw,
            starts=starts,
            sizes=np.diff(starts, append=len(classes)),
            kinds=kinds,
            before=np.concatenate([rim, kinds[:-1]]),
            after=np.concatenate([kinds[1:], rim]),
            after_space=raw[starts - 1] == _SPACE,  # the byte "before" the first one is the last: an END
        )

    def last_chars(self, runs: np.ndarray) -> np.ndarray:
        """Position where the last character of each of these runs begins."""
        at = self.starts[runs] + self.sizes[runs] - 1
        for _ in range(3):
            at -= (self.raw[at] & 0xC0) == 0x80
        return at


def _changes(classes: np.ndarray) -> np.ndarray:
    changes = np.empty(len(classes), dtype=bool)
    changes[:1] = True
    np.not_equal(classes[1:], classes[:-1], out=changes[1:])
    return changes


def words(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Words between blanks; a character of class OTHER stands alone (BERT's punctuation and Chinese characters)."""
    begins = _changes(classes) | (classes == OTHER) & ((raw & 0xC0) != 0x80)
    return np.flatnonzero(begins)


def runs(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Runs of word characters and runs of others: `\\w+|[^\\w\\s]+`."""
    return np.flatnonzero(_changes(classes))


def after_blanks(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """A piece begins with every blank; the first one of a row may begin without."""
    end = classes == END
    begins = (classes == BLANK) | end
    begins[1:] |= end[:-1]
    begins[:1] = True
    return np.flatnonzero(begins)


def gpt2(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """`'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`. Newlines are BLANK here."""
    runs = _Runs.of(raw, classes)
    begins = ~runs.after_space | (runs.kinds == BLANK) | (runs.kinds == END)
    rest = _contractions(runs, begins, fold=False)
    return _merged(runs, begins, [rest, _last_blanks(runs)])


def cl100k(raw: np.ndarray, classes: np.ndarray, *, digits: int) -> np.ndarray:
    """`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`"""
    runs = _Runs.of(raw, classes)
    kinds, before, after = runs.kinds, runs.before, runs.after
    begins = np.ones(len(kinds), dtype=bool)
    begins[(kinds == OTHER) & runs.after_space] = False
    # Letters take one character before them along: any blank, or a lone OTHER that is not already with a blank.
    lone = (kinds == OTHER) & begins & (runs.sizes == _SIZE_OF[raw[runs.starts]])
    begins[(kinds == LETTER) & ((before == BLANK) | np.concatenate([[False], lone[:-1]]))] = False
    # Newlines end an OTHER run, or what is blank before them; blanks between newlines belong to them.
    closing = (kinds == NEWLINE) & (before == OTHER)
    begins[closing | (kinds == NEWLINE) & (before == BLANK)] = False
    between = (kinds == BLANK) & (before == NEWLINE) & (after == NEWLINE)
    begins[between & ~np.concatenate([[False], closing[:-1]])] = False
    rest = _contractions(runs, begins, fold=True)
    return _merged(runs, begins, [rest, _last_blanks(runs), _digit_groups(runs, digits)])


def _contractions(runs: _Runs, begins: np.ndarray, *, fold: bool) -> np.ndarray:
    """`'s`, `'ll` … stand alone: the letters after them begin anew. Changes `begins`, gives the new beginnings."""
    lone = np.flatnonzero((runs.kinds == OTHER) & (runs.sizes == 1) & (runs.after == LETTER) & ~runs.after_space)
    lone = lone[runs.raw[runs.starts[lone]] == _APOSTROPHE]
    at = runs.starts[lone]
    one, two = (runs.raw[at + k] | (0x20 if fold else 0) for k in (1, 2))
    long_enough = runs.sizes[lone + 1] >= 2
    pairs = [(one == ord(a)) & (two == ord(b)) for a, b in ("re", "ve", "ll")]
    size = np.where(np.isin(one, list(b"stmd")), 1, np.where(long_enough & np.logical_or.reduce(pairs), 2, 0))
    found = size > 0
    begins[lone[found] + 1] = False
    return (at + 1 + size)[found & (runs.sizes[lone + 1] > size)]


def _last_blanks(runs: _Runs) -> np.ndarray:
    """`\\s+(?!\\S)` leaves the last blank before a word to what follows."""
    return runs.last_chars(
        np.flatnonzero((runs.kinds == BLANK) & (runs.sizes > 1) & (runs.after != END) & (runs.after != NEWLINE))
    )


def _digit_groups(runs: _Runs, digits: int) -> np.ndarray:
    long = np.flatnonzero((runs.kinds == NUMBER) & (runs.sizes > digits))
    more = (runs.sizes[long] - 1) // digits
    within = np.arange(more.sum()) - np.repeat(np.cumsum(more) - more, more)
    return np.repeat(runs.starts[long], more) + digits * (within + 1)


def _merged(runs: _Runs, begins: np.ndarray, more: list[np.ndarray]) -> np.ndarray:
    mask = np.zeros(len(runs.raw), dtype=bool)
    mask[runs.starts[begins]] = True
    for positions in more:
        mask[positions] = True
    return np.flatnonzero(mask)
