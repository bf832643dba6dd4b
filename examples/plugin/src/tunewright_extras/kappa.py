"""A metric: Cohen's kappa of a classifier, agreement beyond what the label frequencies give by chance (Cohen 1960)."""

import numpy as np

from tunewright.evaluation.score_split import Scored
from tunewright.metrics import Metric

NAMES = ("kappa",)  # what `score` gives, so that evaluate.metric can be checked before training


def score(scored: Scored) -> dict[str, Metric]:
    """scored.scores: probabilities (rows, labels); scored.gold: int (rows,)."""
    gold, found = np.asarray(scored.gold), np.asarray(scored.scores).argmax(axis=1)
    labels = np.arange(len(scored.labels))[:, None]
    chance = float(((gold == labels).mean(axis=1) * (found == labels).mean(axis=1)).sum())
    agreed = float((gold == found).mean())
    return {"kappa": Metric((agreed - chance) / (1 - chance) if chance < 1 else 0.0, higher_is_better=True)}
