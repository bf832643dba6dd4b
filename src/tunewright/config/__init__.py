"""A run's config: YAML and `key=value` words, checked as a whole."""
