"""Losses: formulas on tensors, one file each."""
