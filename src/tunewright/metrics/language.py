"""Nats of each row -> loss, perplexity, bits per byte; and what a reader of single tokens alone would score.

    3 tokens cost 6 nats, they stand for 8 bytes of text
    loss 2.0    perplexity e**2 = 7.389    bits_per_byte 6 / ln 2 / 8 = 1.082

Loss is per token, so it compares models with one tokenizer; bits per byte compare over tokenizers (Gao et al. 2020, "The Pile",
section 3.1): loss / ln 2 · tokens per byte.
"""

from __future__ import annotations

import math

import numpy as np

from tunewright.metrics.metric import Metric, lower


def language_scores(
    nats_B: np.ndarray, counts_B: np.ndarray, *, num_targets: int | None = None, num_bytes: int | None = None
) -> dict[str, Metric]:
    """`loss` and `perplexity` over all counted tokens; `bits_per_byte` where the text's tokens and bytes are known.

    nats_B, counts_B: cost and number of the predicted tokens of each row. num_targets: tokens of the whole text, also those that
    stood first in their row and were not predicted: they are taken to cost the mean.
    """
    loss = float(nats_B.sum() / max(1.0, counts_B.sum()))
    scores = {"loss": loss, "perplexity": perplexity(loss)}
    if num_targets is not None and num_bytes:
        scores["bits_per_byte"] = loss / math.log(2) * num_targets / num_bytes
    return lower(scores)


def perplexity(loss: float) -> float:
    """e to the loss; infinite where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def unigram_loss(train_counts_V: np.ndarray, counts_V: np.ndarray) -> float:
    """Nats per token of the frequencies in training, each token counted once more than it occurs, on other tokens."""
    log_probabilities_V = np.log((train_counts_V + 1) / (train_counts_V.sum() + len(train_counts_V)))
    return float(-(counts_V * log_probabilities_V).sum() / max(1, counts_V.sum()))
