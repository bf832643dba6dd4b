"""Loss curves -> a verdict: good fit, overfitting, underfitting, still improving. Shown at the end of training.

    epoch 1  training 0.90  validation 0.60
    epoch 2  training 0.45  validation 0.41      overfitting: validation loss rose from 0.410 (epoch 2)
    epoch 3  training 0.20  validation 0.53  ->  to 0.530 (epoch 3) while training loss fell from 0.450 to 0.200

The two losses are not measured in the same way. Training loss is a mean over the epoch, with dropout, of a model
that is still improving; validation loss is measured at the end of the epoch without dropout. Both make training
loss larger, so a validation loss below it is normal, and the rules compare each curve with itself first;
only a gap that this cannot explain counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tunewright.training.progress import HistoryPoint

Kind = Literal["good fit", "overfitting", "underfitting", "still improving", "too short to tell"]

MIN_POINTS = 3
"""Two evaluations make a line, not a trend."""
CHANGE = 0.05
"""A loss has changed if it changed by a twentieth: between seeds validation losses differ by a few percent."""
SMALLEST_CHANGE = 0.02
"""And by 0.02 nats, 2 % in the probability of the right answer: near zero, any fluctuation is a twentieth."""
RECENT = 1 / 3
"""`still improving` looks at the last third of the samples: learning rates decay, so the last steps change little."""
GAP_RATIO = 3.0
"""Dropout and the running mean make training loss larger, not smaller: a validation loss three times as high is memorization."""
GAP = 0.3
"""In nats, in addition to the ratio: 0.03 against 0.01 is three times as high, and harmless."""
BASELINE_SHARE = 0.95
"""A model has learned from its texts if its loss is at least a twentieth below that of a constant answer."""


_BASELINES = {
    "majority": "Always predicting the most frequent label",
    "tfidf_logreg": "TF-IDF + logistic regression",
    "mean": "Always predicting the mean of the training rows",
    "tfidf_ridge": "TF-IDF + ridge regression",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation: losses in nats per row or token; `score` of the metric that chooses the best checkpoint, if there is one."""

    samples: int
    epoch: float
    train_loss: float
    """Mean since the previous evaluation, with dropout."""
    validation_loss: float
    score: float | None = None
    is_best: bool = False
    """Whether it was the best checkpoint when it was evaluated, by the run's metric; the last such point is the checkpoint that is kept."""


def points_of(history: Iterable[HistoryPoint]) -> list[Point]:
    """The evaluations of a run, in the form that it keeps."""
    return [
        Point(one["samples"], one["epoch"], one["train_loss"], one["validation_loss"], one["score"], one["is_best"])
        for one in history
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    reason: str
    """One sentence with the losses that decided."""
    advice: str
    """One sentence with the config keys to change."""
    kept: str = ""
    """One sentence on the model that is kept, if it is not that of the last evaluation."""
    baseline: str = ""
    """One sentence on a simple baseline that scores as well as the model, or better."""


def verdict(
    history: Sequence[Point], *, baseline_loss: float | None, limited_by: str = "train.epochs", validated: bool = True
) -> Verdict:
    """The verdict on the curves. The first rule that holds decides, in this order:

    a loss that is not finite (underfitting) · fewer than MIN_POINTS (too short) · validation rose from its
    lowest point (overfitting; underfitting if training loss rose too) · validation still falling · no
    better than `baseline_loss` (underfitting) · a wide gap (overfitting) · flat from the start, without a
    baseline that shows whether it is high · good fit.

    history: in the order of training; points at sample 0 are left out (nothing was trained yet).
    baseline_loss: validation loss of the best constant answer
    (`scores["baseline"]["majority"]["log_loss"]`), None if there is none.
    limited_by: the key that ends training. validated: whether there are rows to validate on.
    """
    if not validated:
        return Verdict(
            "too short to tell", "no validation rows, so no curve.", "Set data.validation_ratio, or data.validation."
        )
    points = [point for point in history if point.samples > 0]
    found = _judged(points, baseline_loss, limited_by)
    return replace(found, reason=f"{found.reason}.", kept=_kept(points))


def as_good_a_baseline(scores: Mapping[str, Any], metric: str, *, higher_is_better: bool) -> str:
    """A sentence if a baseline scores as well as the model or better, in `metric`; empty if none does.

    scores: of one split, as in `scores.json`.
    """
    own, sign = scores["metrics"].get(metric), 1 if higher_is_better else -1
    others = {name: found[metric] for name, found in scores.get("baseline", {}).items() if metric in found}
    if own is None or not others:
        return ""
    best = max(others, key=lambda name: sign * others[name])
    if sign * others[best] < sign * own:
        return ""
    return (
        f"{_BASELINES.get(best, best)} scores {others[best]:.3f} in {metric}, this model {own:.3f}: fine-tuning does not help here yet; more "
        "epochs or a larger model may help."
    )


def _kept(points: Sequence[Point]) -> str:
    best = next((point for point in reversed(points) if point.is_best), None)
    if best is None or best is points[-1]:
        return ""
    return f"The model kept is that of {_at(best)} (validation loss {best.validation_loss:.3f}), not the last."


def _judged(points: Sequence[Point], baseline_loss: float | None, limited_by: str) -> Verdict:
    broken = next((p for p in points if not math.isfinite(p.train_loss) or not math.isfinite(p.validation_loss)), None)
    if broken:
        return Verdict(
            "underfitting",
            f"training diverged: at {_at(broken)} training loss is {broken.train_loss}, validation loss "
            f"{broken.validation_loss}",
            "Lower train.learning_rate, to a tenth if it was high.",
        )
    if len(points) < MIN_POINTS:
        return Verdict(
            "too short to tell",
            f"{len(points)} evaluation{'' if len(points) == 1 else 's'}, a trend needs {MIN_POINTS}",
            f"Set train.epochs to {MIN_POINTS} or more to see a trend."
            if limited_by == "train.epochs"
            else f"Raise {limited_by}, or lower evaluate.every, to see a trend.",
        )
    return _rise(points) or _fall(points, limited_by) or _level(points, baseline_loss)


def _rise(points: Sequence[Point]) -> Verdict | None:
    """Validation loss ends clearly above its lowest point."""
    lowest, last = min(points, key=lambda point: point.validation_loss), points[-1]
    if not _moved(lowest.validation_loss, last.validation_loss):
        return None
    rose = f"validation loss rose {_change(lowest, last)}"
    training = f"from {lowest.train_loss:.3f} to {last.train_loss:.3f}"
    if _moved(lowest.train_loss, last.train_loss):
        reason = f"{rose} and training loss rose too, {training}"
        return Verdict("underfitting", reason, "Training is unstable: lower train.learning_rate.")
    fell = "fell" if last.train_loss < lowest.train_loss else "went"
    reason = f"{rose} while training loss {fell} {training}"
    kept = next((point for point in reversed(points) if point.is_best), None)
    if kept is not None and kept.score is not None and kept.samples > lowest.samples:
        reason += f"; but the score was best at {_at(kept)} ({kept.score:.3f}), so only the probabilities got worse"
        return Verdict("overfitting", reason, "If probabilities matter, use fewer train.epochs or more data.")
    epochs = max(1, math.ceil(lowest.epoch))
    fewer = f"Set train.epochs: {epochs}" if epochs < last.epoch else "Lower train.learning_rate"
    return Verdict("overfitting", reason, f"{fewer}, keep train.early_stopping on, or add data.")


def _fall(points: Sequence[Point], limited_by: str) -> Verdict | None:
    """Validation loss falls clearly over the last third of training."""
    last = points[-1]
    before = [point for point in points if point.samples <= last.samples * (1 - RECENT)]
    since = before[-1] if before else points[0]
    if last is since or not _moved(last.validation_loss, since.validation_loss):
        return None
    return Verdict(
        "still improving",
        f"validation loss still fell {_change(since, last)}",
        f"Raise {limited_by}{f' (now {last.epoch:g})' if limited_by == 'train.epochs' else ''}; train.early_stopping ends the run when it no longer helps.",
    )


def _level(points: Sequence[Point], baseline_loss: float | None) -> Verdict:
    """Validation loss has plateaued: too high, too far above training loss, or good."""
    first, last = points[0], points[-1]
    plateau = f"validation loss has plateaued at {last.validation_loss:.3f} ({_at(last)})"
    if baseline_loss is not None and last.validation_loss > BASELINE_SHARE * baseline_loss:
        return Verdict(
            "underfitting",
            f"{plateau}, no better than a constant answer ({baseline_loss:.3f}); training loss is {last.train_loss:.3f}",
            "Raise train.learning_rate or train.epochs, train more layers (train.freeze), and check the labels.",
        )
    gap = last.validation_loss - last.train_loss
    if gap > GAP and last.validation_loss > GAP_RATIO * last.train_loss:
        return Verdict(
            "overfitting",
            f"{plateau} while training loss is {last.train_loss:.3f}: the model has memorized training rows and does not generalize",
            "Add data, freeze layers (train.freeze) or use fewer train.epochs; validation loss has not risen yet.",
        )
    moved = _moved(last.train_loss, first.train_loss) or _moved(last.validation_loss, first.validation_loss)
    if baseline_loss is None and not moved:
        return Verdict(
            "too short to tell",
            f"{plateau}, where it began, and there is no baseline loss to compare it with",
            "Compare with the same run at a higher train.learning_rate.",
        )
    return Verdict(
        "good fit",
        f"{plateau}, with a training loss of {last.train_loss:.3f}" + _versus(baseline_loss),
        "More train.epochs would change little; for a better score add data or a larger model.",
    )


def _moved(low: float, high: float) -> bool:
    """Whether `high` is clearly above `low`."""
    return high - low > max(SMALLEST_CHANGE, CHANGE * abs(low))


def _versus(baseline_loss: float | None) -> str:
    return "" if baseline_loss is None else f" (constant answer: {baseline_loss:.3f})"


def _at(point: Point) -> str:
    return f"epoch {round(point.epoch, 2):g}"


def _change(start: Point, end: Point) -> str:
    return f"from {start.validation_loss:.3f} ({_at(start)}) to {end.validation_loss:.3f} ({_at(end)})"


def curve_plot(history: Sequence[Point], width: int = 72, height: int = 10) -> str:
    """Both losses over the evaluations in plain ASCII, no line longer than `width`, `height` rows of plot.

         0.9 |t
             |v   t   v
         0.2 |    v   t
             +---------
              1       3 epoch
              t training  v validation  * both

    If there are more evaluations than columns, evenly spaced ones are shown, including the first and the last. Losses
    that are not finite leave a gap.
    """
    points = [point for point in history if point.samples > 0]
    losses = [value for p in points for value in (p.train_loss, p.validation_loss) if math.isfinite(value)]
    if not losses:
        return "no evaluation to plot"
    low, high = min(losses), max(losses)
    names = f"{high:.3g}", f"{low:.3g}"
    margin = max(map(len, names)) + 2
    room = max(1, width - margin - len(" epoch"))
    points = _evenly(points, room)
    gap = max(1, min(6, (room - 1) // max(1, len(points) - 1)))
    rows = [[" "] * ((len(points) - 1) * gap + 1) for _ in range(max(2, height))]
    for index, point in enumerate(points):
        for value, mark in ((point.train_loss, "t"), (point.validation_loss, "v")):
            if math.isfinite(value):
                level = round((high - value) / (high - low or 1) * (len(rows) - 1))
                rows[level][index * gap] = mark if rows[level][index * gap] in (" ", mark) else "*"
    labels = [names[0], *[""] * (len(rows) - 2), names[1]]
    lines = [f"{label:>{margin - 2}} |{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)]
    lines.append(f"{'':{margin - 1}}+{'-' * len(rows[0])}")
    ends = _at(points[0]).split()[1], _at(points[-1]).split()[1]
    axis = ends[0]
    if len(points) > 1:
        axis += ends[1].rjust(max(len(rows[0]) - len(ends[0]), len(ends[1]) + 1))
    lines += [f"{'':{margin}}{axis} epoch", f"{'':{margin}}t training  v validation  * both"]
    return "\n".join(line[:width] for line in lines)


def _evenly(points: Sequence[Point], most: int) -> list[Point]:
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / max(1, most - 1))] for index in range(most)]
