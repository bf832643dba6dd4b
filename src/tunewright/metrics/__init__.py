"""Predictions + gold -> numbers. NumPy only: one file per kind of score, plain dicts out, nothing here knows a model.

single_label_scores(probabilities, gold, labels)["metrics"]["f1_macro"]  ->  0.9123
"""

from tunewright.metrics.metric import Metric

__all__ = ["Metric"]
