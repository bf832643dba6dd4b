"""Demos, one module each, found by name; and what the longer ones are made of: data written for them, and the runs they make of it."""

NOT_PLUGINS = frozenset({"animals", "stories"})
"""Modules here that are no demo."""
