"""Text -> token ids, and back: the one place where text is encoded."""
