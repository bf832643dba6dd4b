"""Scores: of a split, of a run on new rows, beside baselines; and what the loss curves say."""
