"""Tools: which of them a request needs, and what they may spend."""
