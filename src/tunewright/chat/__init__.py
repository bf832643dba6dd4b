"""Conversations: read from rows, rendered by templates, and which characters of them the assistant writes."""
