"""The training loop, and what stands around it: optimizer, checkpoints, progress, signals."""
