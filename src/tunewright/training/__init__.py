"""The training loop and what belongs to it: optimizer, checkpoints, progress, signals."""
