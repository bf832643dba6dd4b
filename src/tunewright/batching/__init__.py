"""Stored rows -> the micro-batches of each step: the store, the schedule of rows, padding."""
