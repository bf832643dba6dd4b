"""Labels, spans and tags: read from rows, checked, converted between schemes."""
