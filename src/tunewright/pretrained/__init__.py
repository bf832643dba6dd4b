"""Pretrained models as folders: where they are, what they hold, and what of it may be believed. Imports no torch."""
