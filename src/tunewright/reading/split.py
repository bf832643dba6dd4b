"""Which row goes to which split: a pure function of (seed, labels, groups, ratios), on arrays of a few bytes a row.

assign(labels=[0, 0, 0, 0, 1, 1, 1, 1], ratios={"test": 0.25}, seed=0)    # one row of each label in test
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

_SPLIT_STREAM, _LIMIT_STREAM = 0x5917, 0x117
TRAIN = "train"


def assign(
    num_rows: int,
    ratios: Mapping[str, float],
    *,
    seed: int,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Split name of each row, `(rows,)` of str; the rest is `train`.

    labels: int codes to stratify by. Of each label every split takes its share, and one row at least stays in train.
    groups: codes; rows of one group stay together. Groups with the same labels are distributed over the splits, the rarest first.
    """
    names = np.full(num_rows, TRAIN, dtype=object)
    generator = _generator(_SPLIT_STREAM, seed)
    if groups is not None:
        _assign_groups(names, groups, ratios, generator, np.zeros(num_rows, int) if labels is None else labels)
        return names
    order = generator.permutation(num_rows)
    free = order
    for split, ratio in ratios.items():
        wanted = round(ratio * num_rows)
        taken = _take(free, labels, wanted) if labels is not None else free[:wanted]
        names[taken] = split
        free = free[~np.isin(free, taken)]
    return names


def _take(free: np.ndarray, labels: np.ndarray, wanted: int) -> np.ndarray:
    """`wanted` of the shuffled rows `free`, each label by its share, largest remainders first, never a label's last row.

    Where labels cannot give their share, the others give more; fewer than `wanted` only when each label has one row left.
    """
    codes = labels[free]
    counts = np.unique(codes, return_counts=True)[1]
    exact = counts * (wanted / max(1, len(free)))
    quota = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    while (short := wanted - int(quota.sum())) > 0 and len(able := np.flatnonzero(quota < counts - 1)):
        by_remainder = able[np.argsort(quota[able] - exact[able], kind="stable")]
        quota[by_remainder[:short]] += 1
    grouped = np.argsort(codes, kind="stable")
    starts = np.cumsum(counts) - counts
    return np.concatenate([free[grouped[s : s + q]] for s, q in zip(starts, quota, strict=True)] or [free[:0]])


def _assign_groups(
    names: np.ndarray,
    groups: np.ndarray,
    ratios: Mapping[str, float],
    generator: np.random.Generator,
    labels: np.ndarray,
) -> None:
    """Shuffled groups fill the splits up to their share; a group goes where it overshoots least.

    A stratum is all groups that hold the same labels. What one leaves of a split's share the next one fills.
    """
    present, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    stratum_of = _strata(inverse, labels, len(present))
    rows_of = np.bincount(stratum_of, weights=counts)
    wanted = dict.fromkeys(ratios, 0.0)
    split_of = np.full(len(present), TRAIN, dtype=object)
    order = generator.permutation(len(present))
    for stratum in np.argsort(rows_of, kind="stable"):
        wanted = {split: left + ratios[split] * rows_of[stratum] for split, left in wanted.items()}
        for group in order[stratum_of[order] == stratum]:
            open_splits = [split for split, rows in wanted.items() if rows >= counts[group] / 2]
            if open_splits:
                split_of[group] = open_splits[0]
                wanted[open_splits[0]] -= counts[group]
    names[:] = split_of[inverse]


def _strata(group_of: np.ndarray, labels: np.ndarray, num_groups: int) -> np.ndarray:
    """int `(groups,)`: a number for each set of labels. group_of, labels: of each row."""
    pairs = np.unique(np.stack([group_of, labels]), axis=1)
    begins = np.searchsorted(pairs[0], np.arange(num_groups + 1))
    found: dict[bytes, int] = {}
    sets = (pairs[1, a:b].tobytes() for a, b in itertools.pairwise(begins))
    return np.array([found.setdefault(one, len(found)) for one in sets], dtype=np.int64)


def subset(num_rows: int, limit: int, *, seed: int) -> np.ndarray:
    """bool `(rows,)`: a seeded random subset of `limit` rows."""
    chosen = np.zeros(num_rows, dtype=bool)
    chosen[_generator(_LIMIT_STREAM, seed).permutation(num_rows)[:limit]] = True
    return chosen


def _generator(stream: int, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([stream, seed])))
