"""A trained model writes: tokens, answers and documents."""
