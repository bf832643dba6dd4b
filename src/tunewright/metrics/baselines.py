"""Texts + targets -> what two simple models score on the same rows, so that a fine-tuned score can be judged.

    banking77, 10,003 rows, 77 labels:  majority accuracy 0.013, tfidf_logreg accuracy 0.896

majority knows no text, only how often each label occurs in training. tfidf_logreg is the bag of words that a
large model has to beat to be worth its cost. Both go through metrics/classification, under the same names.

Array suffixes: B rows, L labels, F features.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tunewright.metrics.classification import THRESHOLD, gold_array, multi_label_scores, single_label_scores

MAX_TRAIN_ROWS = 20_000
"""tfidf_logreg learns from at most this many rows; more move its score little and cost seconds."""
MAX_TRAIN_WORK = 500_000_000
"""And from at most this many characters x labels: about 20 seconds with 150 labels on one core."""
MAX_CHARACTERS = 10_000
"""Only the beginning of a text counts, as for a model with a maximum length: 10,000 characters are about 2,000
tokens."""
MAX_FEATURES = 100_000
MIN_ROWS_TO_PRUNE = 1_000
"""From here on a word must occur in two texts: halves the features, same accuracy on banking77 and IMDB."""
INVERSE_REGULARIZATION = 10.0
"""scikit-learn's C. Its default of 1 is weak on tf-idf: accuracy 0.863 against 0.896 on banking77."""
CHUNK_ROWS = 10_000
"""Test rows scored at once."""

WORD = r"[^\s!-/:-@\[-`{-~]+"
"""Whatever stands between blanks and ASCII punctuation: keeps one-letter words, emoji and vowel signs, which
`\\w\\w+` loses."""
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, kana and Han: scripts that write no blanks between words."""
UNSPACED_SHARE = 0.3

Text = str | tuple[str, str]


def fitted(
    train_texts: Sequence[Text], train_targets: Any, *, labels: Sequence[str], multi_label: bool = False, seed: int = 0
) -> Callable[[Sequence[Text], Any], dict[str, dict[str, float]]]:
    """Learn both baselines; the result scores any rows: (texts, targets) -> `{"majority": {"accuracy": …, …, "rows_used": 10003.0},
    "tfidf_logreg": {…}}`.

    texts: strings, or (text, pair) tuples. targets: what `gold_array` takes: label names (multi-label: tuples of them), or an int
    `(rows,)` / bool `(rows, labels)` array. rows_used: how many training rows the baseline learned from. A pure function of its
    arguments; `seed` picks the subset when there are more training rows than it learns from. ValueError where there is no row.
    """
    require_rows(train_texts)
    train_gold = gold_array(train_targets, labels, multi_label=multi_label)
    yes_BL = train_gold if multi_label else train_gold[:, None] == np.arange(len(labels))
    rows = training_rows(train_texts, num_labels=len(labels), seed=seed)
    train_BF, to_features = learn_features([train_texts[row] for row in rows])
    weights_FL, bias_L = _fit_labels(train_BF, yes_BL[rows], exclusive=not multi_label, seed=seed)
    num_sides = {len(_sides(text)) for text in train_texts}

    def score(texts: Sequence[Text], targets: Any) -> dict[str, dict[str, float]]:
        require_rows(texts)
        if len(num_sides | {len(_sides(text)) for text in texts}) > 1:
            raise ValueError("some rows have one text and others two; give a missing second text as ''")
        gold = gold_array(targets, labels, multi_label=multi_label)
        log_odds_BL = np.concatenate(
            [to_features(chunk).astype(np.float32) @ weights_FL + bias_L for chunk in chunks_of(texts)]
        )
        probabilities_BL = _sigmoid(log_odds_BL) if multi_label else _softmax(log_odds_BL)
        scores = multi_label_scores if multi_label else single_label_scores
        return {
            "majority": {
                **_majority(yes_BL, gold, labels, multi_label=multi_label), "rows_used": float(len(train_texts))
            },
            "tfidf_logreg": {**scores(probabilities_BL, gold, labels)["metrics"], "rows_used": float(len(rows))},
        }  # fmt: skip

    return score


def require_rows(texts: Sequence[Text]) -> None:
    """ValueError where there is none to learn from, or to score."""
    if not len(texts):
        raise ValueError("a baseline needs rows, to learn from and to score; found 0")


def chunks_of(texts: Sequence[Text]) -> Iterator[Sequence[Text]]:
    """The texts, `CHUNK_ROWS` at a time: their features take memory."""
    return (texts[start : start + CHUNK_ROWS] for start in range(0, len(texts), CHUNK_ROWS))


def _majority(
    yes_BL: np.ndarray, test_gold: np.ndarray, labels: Sequence[str], *, multi_label: bool
) -> dict[str, float]:
    """Scores of one constant answer: the label frequencies of training.

    Each label is counted once more than it occurs, so log_loss is the best that a model which reads nothing can do, and
    finite for labels that training lacks. The answer is the most frequent label; multi-label every label that half the
    rows or more have, and if there is none the most frequent one: an empty answer would score F1 0 and flatter whatever
    stands beside it.
    """
    num_rows, counts_L = len(yes_BL), yes_BL.sum(axis=0)
    prior_L = (counts_L + 1) / (num_rows + (2 if multi_label else len(labels)))
    prior_BL = np.broadcast_to(prior_L, (len(test_gold), len(labels)))
    if not multi_label:
        return single_label_scores(prior_BL, test_gold, labels)["metrics"]
    answer_L = counts_L >= THRESHOLD * num_rows
    answer_L = answer_L if answer_L.any() else np.arange(len(labels)) == counts_L.argmax()
    answer_BL = np.broadcast_to(answer_L, prior_BL.shape)
    return multi_label_scores(prior_BL, test_gold, labels, predicted_BL=answer_BL)["metrics"]


def training_rows(texts: Sequence[Text], *, num_labels: int, seed: int) -> np.ndarray:
    """Sorted positions of the rows to learn from: all, or a random subset within MAX_TRAIN_ROWS and MAX_TRAIN_WORK."""
    order = np.random.default_rng(seed).permutation(len(texts))[:MAX_TRAIN_ROWS]
    work = np.cumsum([sum(len(side) for side in _sides(texts[row])) for row in order]) * num_labels
    return np.sort(order[: max(1, int(np.searchsorted(work, MAX_TRAIN_WORK, side="right")))])


def _sides(text: Text) -> tuple[str, ...]:
    return tuple(side[:MAX_CHARACTERS] for side in ((text,) if isinstance(text, str) else text))


def learn_features(train_texts: Sequence[Text]) -> tuple[Any, Callable[[Sequence[Text]], Any]]:
    """(training features, the function that gives another text's): scipy CSR float64 `(rows, features)`.

    tf-idf of words and word pairs with sublinear term frequency. Text in scripts without blanks has no words
    to count: there, runs of one to three characters. A pair of texts shares one vocabulary and gives [first,
    second, first * second, their cosine], so that what both say can be learned. One column of zeros where no
    term is left.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    def flat(texts: Sequence[Text]) -> list[str]:
        return [side for text in texts for side in _sides(text)]

    def joined(sides_BF: Any) -> Any:
        if num_sides == 1:
            return sides_BF
        first_BF, second_BF = sides_BF[0::2], sides_BF[1::2]
        both_BF = first_BF.multiply(second_BF)
        cosine_B1 = sparse.csr_matrix(both_BF.sum(axis=1))
        return sparse.hstack([first_BF, second_BF, both_BF, cosine_B1], format="csr")

    num_sides, by_character = len(_sides(train_texts[0])), _is_unspaced(flat(train_texts))
    vectorizer = TfidfVectorizer(
        analyzer="char" if by_character else "word",
        token_pattern=None if by_character else WORD,
        ngram_range=(1, 3) if by_character else (1, 2),
        sublinear_tf=True,
        min_df=2 if len(train_texts) >= MIN_ROWS_TO_PRUNE else 1,
        max_features=MAX_FEATURES,
    )
    try:
        train_BF = joined(vectorizer.fit_transform(flat(train_texts)))
    except ValueError:  # how scikit-learn says that no term is left: blank texts, or no term in two of them
        return sparse.csr_matrix((len(train_texts), 1)), lambda texts: sparse.csr_matrix((len(texts), 1))
    return train_BF, lambda texts: joined(vectorizer.transform(flat(texts)))


def _is_unspaced(texts: Sequence[str]) -> bool:
    sample = "".join("".join(text[:500].split()) for text in texts[:: max(1, len(texts) // 2_000)])
    return len(UNSPACED.findall(sample)) > UNSPACED_SHARE * max(1, len(sample))


def _fit_labels(train_BF: Any, yes_BL: np.ndarray, *, exclusive: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights float32 `(features, labels)` and biases `(labels,)`: a logistic regression of each label
    against the rest.

    exclusive: one label a row; the softmax of the log-odds is its probability. On banking77 that beats one
    multinomial regression in accuracy (0.896, 0.891) and log loss (0.43, 0.53), in a third of the time. Two
    exclusive labels need one regression. A label that all or none of the rows have gets no weights and its
    log-odds, counted once more for each.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    num_rows, num_labels = yes_BL.shape
    weights_FL = np.zeros((train_BF.shape[1], num_labels), np.float32)
    bias_L = np.zeros(num_labels, np.float32)
    # On a busy machine the BLAS threads that liblinear's short vectors start wait for each other: 86 s, alone 2 s.
    # Warnings: a label that has not quite converged is still an honest baseline.
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for label in range(1 if exclusive and num_labels == 2 else 0, num_labels):
            num_yes = int(yes_BL[:, label].sum())
            if num_yes in (0, num_rows):
                bias_L[label] = np.log((num_yes + 1) / (num_rows - num_yes + 1))
                continue
            model = LogisticRegression(solver="liblinear", C=INVERSE_REGULARIZATION, random_state=seed)
            model.fit(train_BF, yes_BL[:, label])
            weights_FL[:, label], bias_L[label] = model.coef_[0], model.intercept_[0]
    return weights_FL, bias_L


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * log_odds))


def _softmax(log_odds_BL: np.ndarray) -> np.ndarray:
    powers_BL = np.exp(log_odds_BL - log_odds_BL.max(axis=1, keepdims=True))
    return powers_BL / powers_BL.sum(axis=1, keepdims=True)
