"""Scores: of a split, of a run on new rows, next to baselines; and what the loss curves say."""
