"""Which tokens of a row are hidden in an epoch, and what stands in their place: a pure function of (seed, epoch, row key).

    the cat sat on the mat  ->  the [MASK] sat on the mat        15 % of the tokens; of those 80 % the mask, 10 % any token, 10 % left

The number of hidden tokens is fixed by the row's length (`round(probability · tokens)`, one at least), which leaves the loss's
denominator known before the model runs. With whole words, words are drawn in random order as long as they fit into that number.
Devlin et al. 2019, section 3.1; whole words as in the authors' later release.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STREAM = 0x3A5C
_SHARE_MASK, _SHARE_RANDOM = 0.8, 0.1


@dataclass(frozen=True)
class Masking:
    """probability: share of the tokens that is hidden. seed, epoch: what is drawn follows from them and a row's key."""

    probability: float
    seed: int
    epoch: int

    def rng(self, key: int) -> np.random.Generator:
        """A row's own stream of random numbers."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence([_STREAM, self.seed, self.epoch, key])))

    def num_hidden(self, num_maskable: np.ndarray) -> np.ndarray:
        """int64: how many of so many tokens are hidden."""
        wanted = np.rint(self.probability * num_maskable).astype(np.int64)
        return np.minimum(np.maximum(wanted, 1), num_maskable)

    def hidden(self, maskable: np.ndarray, rng: np.random.Generator, continues: np.ndarray | None = None) -> np.ndarray:
        """Sorted positions to hide, out of the positions `maskable`. continues: per maskable token 1 where it goes on a word, else 0."""
        number = int(self.num_hidden(np.array(len(maskable))))
        if continues is None:
            return np.sort(rng.permutation(maskable)[:number])
        starts = np.flatnonzero((continues == 0) | (np.arange(len(continues)) == 0))
        lengths = np.diff([*starts, len(continues)])
        chosen: list[np.ndarray] = []
        for word in rng.permutation(len(starts)):
            if lengths[word] <= number:
                chosen.append(maskable[starts[word] : starts[word] + lengths[word]])
                number -= int(lengths[word])
            if not number:
                break
        if not chosen and len(starts):  # every word is longer than what may be hidden: the shortest one, whole
            word = int(np.argmin(lengths))
            chosen.append(maskable[starts[word] : starts[word] + lengths[word]])
        return np.sort(np.concatenate(chosen)) if chosen else maskable[:0]

    def replaced(self, ids: np.ndarray, rng: np.random.Generator, *, mask_id: int, ids_V: np.ndarray) -> np.ndarray:
        """What stands in the place of hidden tokens `ids`."""
        fate = rng.random(len(ids))
        any_token = ids_V[rng.integers(len(ids_V), size=len(ids))]
        visible = np.where(fate < _SHARE_MASK + _SHARE_RANDOM, any_token, ids)
        return np.where(fate < _SHARE_MASK, mask_id, visible)
