"""Tokenizers learned, shown and compared: what `tunewright tokenizer` does."""
