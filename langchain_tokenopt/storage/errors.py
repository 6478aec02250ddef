"""What goes wrong with a database server, for those who need not have its driver installed."""

from __future__ import annotations

__all__ = ["PostgresError"]


class PostgresError(OSError):
    """A server cannot be used; the message says why and what to do, without any password."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
