"""How stores reach their files: one way to open, share, fork, retry and close SQLite."""
