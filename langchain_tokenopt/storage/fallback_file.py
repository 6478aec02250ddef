"""A file that may fail: what cannot be kept there is kept in memory, and no call breaks for it."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.places import file_of
from langchain_tokenopt.storage.sqlite import FileReplacedError, SqliteFile, is_locked

__all__ = ["FallbackFile"]


class FallbackFile(SqliteFile):
    """A shared file of one format, in whose place memory stands where it cannot be used.

    A file of an earlier format is emptied, with a warning. One that is damaged, another program's,
    of a later format or cannot be written is left as it is.

    Args:
        path: The file; ``None`` for memory from the beginning.
        application_id: Tells files of this kind from all others.
        format: Version of *tables*.
        tables: Statements that make an empty file.
        holds: What is kept there, as the subject (plural) of the warning.
        then: Is given every new connection, inside of a change, once the tables are there.

    Example:
        >>> file = FallbackFile(None, 7, 1, ["CREATE TABLE colour (name TEXT)"], "Colours")
        >>> file.connection().execute("SELECT count(*) FROM colour").fetchone()
        (0,)
    """

    def __init__(
        self,
        path: str | Path | None,
        application_id: int,
        format: int,
        tables: Sequence[str],
        holds: str,
        then: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        super().__init__(None if path is None else file_of(path), self._make)
        self._application_id, self._format, self._tables = application_id, format, tables
        self._holds, self._then = holds, then
        self._has_warned = False
        self.refusal: Exception | None = None
        """Why the file is not used any more."""

    def give_up(self, error: Exception) -> None:
        """Go on without the file: in memory, or later where it is only locked just now.

        What was known of the file holds no longer where :attr:`openings` changes.
        """
        if isinstance(error, FileReplacedError):  # to delete the file is to forget
            self.forget()
            return
        locked = is_locked(error)
        self._warn(error, "It is tried again" if locked else "They are kept in memory")
        if not locked:
            with self.lock:
                self.close()
                self.refusal, self.path = error, None

    def _make(self, database: sqlite3.Connection) -> None:
        """Make the tables of an empty file.

        Raises:
            sqlite3.DatabaseError: It is another program's, or a later version's.
        """
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        (owner,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if names and (owner != self._application_id or version > self._format):
            raise sqlite3.DatabaseError("it was not made by this version of langchain-tokenopt")
        if names and version < self._format:
            self._warn(f"they are of format {version}, not {self._format}", "They start anew")
            tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT NULL"
            for (name,) in database.execute(tables).fetchall():
                database.execute('DROP TABLE "{}"'.format(name.replace('"', '""')))
        if not names or version < self._format:
            for statement in self._tables:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {self._application_id}")
            database.execute(f"PRAGMA user_version = {self._format}")
        if self._then is not None:
            self._then(database)

    def _warn(self, reason: object, what_now: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self._holds} cannot be kept in {self.path} ({reason}). {what_now}; choose "
                f"another path, or delete the file.",
                TokenOptWarning,
                stacklevel=3,
            )
