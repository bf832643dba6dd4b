"""Written answers beside the right ones -> exact match, token F1, ROUGE-L: how good an answer is where loss cannot tell.

    scores = answer_scores("the cat sat", "the cat sat down")
    scores.exact, scores.token_f1, scores.rouge_l        0.0, 0.857, 0.857

exact match and token F1 as SQuAD counts them (Rajpurkar et al. 2016, section 6.1), but with articles and punctuation kept; ROUGE-L is
the F-measure of the longest common subsequence of words (Lin 2004, section 3.1, β = 1). Words are runs of letters and digits,
in lower case, and single other characters of scripts without spaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.metrics.metric import Metric, higher

_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_WIDE}]|[^\W{_WIDE}]+")


@dataclass(frozen=True)
class AnswerScores:
    """Of one answer, each from 0 to 1."""

    exact: float
    token_f1: float
    rouge_l: float


def answer_scores(written: str, right: str) -> AnswerScores:
    """Two empty answers are equal; an empty one and another have nothing in common."""
    ours, theirs = words(written), words(right)
    exact = float(written.strip() == right.strip())
    if not ours or not theirs:
        return AnswerScores(exact, exact, exact)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return AnswerScores(
        exact, _f1(shared, len(ours), len(theirs)), _f1(longest_common(ours, theirs), len(ours), len(theirs))
    )


def generation_scores(written: Sequence[str], right: Sequence[str]) -> dict[str, Metric]:
    """Means over all answers: `exact_match`, `token_f1`, `rouge_l`. Nothing where there are none."""
    every = [answer_scores(one, other) for one, other in zip(written, right, strict=True)]
    if not every:
        return {}
    return higher({
        "exact_match": np.mean([one.exact for one in every]),
        "token_f1": np.mean([one.token_f1 for one in every]),
        "rouge_l": np.mean([one.rouge_l for one in every]),
    })  # fmt: skip


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence. `a b c d`, `b d c` -> 2

    A row of the usual table at a time: within one, a maximum that runs along takes the place of the loop.
    """
    codes = {word: number for number, word in enumerate(dict.fromkeys((*first, *second)))}
    ours, theirs = (np.array([codes[word] for word in one], dtype=np.int64) for one in (first, second))
    best = np.zeros(len(theirs) + 1, dtype=np.int64)
    for word in ours:
        diagonal = best[:-1] + (theirs == word)
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], diagonal))
    return int(best[-1])


def _f1(shared: int, num_ours: int, num_theirs: int) -> float:
    return 2 * shared / (num_ours + num_theirs)
