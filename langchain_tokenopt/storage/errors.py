"""What goes wrong with a database server, for those who need not have its driver installed."""

from __future__ import annotations

from typing import Final

__all__ = ["PostgresError"]

_OF_OTHERS: Final = frozenset(
    ("42P07", "42710", "42723", "42703", "42P01", "42804", "42883", "42809", "42846")
)
"""Of a name that is taken, or of something that is not what it should be
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_PASSING: Final = (
    *("cannot be reached", "is busy", "kept busy", "no connection left", "no room left"),
    *("Try again", "no answer within"),
)
"""Words of the sentences about what passes."""


class PostgresError(OSError):
    """A server cannot be used; the message says why and what to do, without any password."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def is_passing(self) -> bool:
        """Whether it may be over in a moment: the server is away or busy, and refuses nothing."""
        return any(words in str(self) for words in _PASSING)

    @property
    def is_of_others(self) -> bool:
        """Whether a table, column, type or function is missing, or is not the one that it was."""
        return self.sqlstate in _OF_OTHERS
