"""Where the originals are of what was set aside, for those who ask later or elsewhere."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from langchain_tokenopt.core.argument_checks import check_path, names_what, shown
from langchain_tokenopt.core.attribution import name_from
from langchain_tokenopt.storage.fallback_file import FallbackFile

__all__ = ["ContextStore"]

_FORMAT: Final = 1
_APPLICATION_ID: Final = 0x746F6378  # "tocx"
_TABLES: Final = (
    "CREATE TABLE original (user TEXT NOT NULL, thread TEXT NOT NULL, handle TEXT NOT NULL, "
    "text TEXT NOT NULL, ends REAL NOT NULL, PRIMARY KEY (user, thread, handle))",
    "CREATE INDEX original_ends ON original (ends)",
)
_PATIENCE_SECONDS: Final = 0.2


class ContextStore:
    """Originals of what was set aside, by user and thread, for as long as they live.

    Nobody gets another user's or another thread's: to whom a handle does not belong it is one that
    does not exist. Reads and writes break no call; a file that cannot be used is left as it is, and
    memory stands in its place, which a warning says once. New files are readable by their owner
    only, and hold what the messages say in plain text.

    Args:
        path: A SQLite file that processes share; ``None`` keeps everything in memory.
        lifetime: How long an original is kept after it was set aside last.

    Raises:
        TypeError: *path* is no path, or *lifetime* no ``timedelta``.
        ValueError: *lifetime* is not above zero.

    Example:
        >>> store = ContextStore(lifetime=timedelta(hours=1))
        >>> store.put({"1a2b3c4d": "Flights to Rome: ..."}, user="ann", thread="t-1")
        >>> store.get("1a2b3c4d", user="ann", thread="t-1")
        'Flights to Rome: ...'
        >>> store.get("1a2b3c4d", user="bob", thread="t-1") is None
        True
        >>> store.forget(user="ann")
        1
    """

    def __init__(
        self, path: str | Path | None = None, *, lifetime: timedelta = timedelta(days=7)
    ) -> None:
        if path is not None:
            check_path("path", path)
        if not isinstance(lifetime, timedelta):
            raise TypeError(f"lifetime is a timedelta(days=...); got {shown(lifetime)}.")
        if lifetime <= timedelta(0):
            raise ValueError(f"lifetime must be above zero; got {lifetime}.")
        self.lifetime = lifetime
        self._file = FallbackFile(path, _APPLICATION_ID, _FORMAT, _TABLES, "Originals")

    @property
    def path(self) -> Path | None:
        """The file in use; ``None`` where everything is kept in memory."""
        return self._file.path

    def put(
        self, originals: Mapping[str, str], *, user: str | None = None, thread: str | None = None
    ) -> None:
        """Keep texts by their handles, and delete what has lived long enough.

        Raises:
            TypeError: *originals* are no texts by their handles.
        """
        texts = [*originals, *originals.values()] if isinstance(originals, Mapping) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"originals are texts by their handles; got {shown(originals)}.")
        now = time.time()
        ends = now + self.lifetime.total_seconds()
        rows = [
            (_hashed(user), _hashed(thread), name_from(handle), name_from(text), ends)
            for handle, text in originals.items()
        ]
        with self._file.lock:
            for _ in range(2):  # again in memory, where the file cannot be used
                try:
                    with self._file.transaction(_PATIENCE_SECONDS) as database:
                        database.execute("DELETE FROM original WHERE ends < ?", (now,))
                        database.executemany(
                            "INSERT OR REPLACE INTO original VALUES (?, ?, ?, ?, ?)", rows
                        )
                except (sqlite3.Error, OSError) as error:
                    self._file.give_up(error)
                else:
                    return

    def get(self, handle: str, *, user: str | None = None, thread: str | None = None) -> str | None:
        """Return the original; ``None``: there is none, it has expired, or it is not theirs."""
        key = _hashed(user), _hashed(thread), name_from(handle), time.time()
        with self._file.lock:
            for _ in range(2):
                try:
                    row = (
                        self._file.connection(_PATIENCE_SECONDS)
                        .execute(
                            "SELECT text FROM original "
                            "WHERE user = ? AND thread = ? AND handle = ? AND ends >= ?",
                            key,
                        )
                        .fetchone()
                    )
                except (sqlite3.Error, OSError) as error:
                    self._file.give_up(error)
                else:
                    return None if row is None else str(row[0])
        return None

    @names_what("clear()")
    def forget(self, *, user: str | None = None, thread: str | None = None) -> int:
        """Delete the originals of a user, of a thread, or of a user's thread; return how many.

        Raises:
            ValueError: None is given, which would be everything.
            TypeError: One is given as ``None``, as where nobody is signed in.
            sqlite3.Error: The file stays locked or cannot be written: nothing is deleted.
        """
        return self._delete(user=user, thread=thread)

    def clear(self) -> int:
        """Delete everything; else as :meth:`forget`."""
        return self._delete()

    def _delete(self, **named: str | None) -> int:
        chosen = {column: _hashed(name) for column, name in named.items() if name is not None}
        among = " AND ".join(f"{column} = :{column}" for column in chosen) or "TRUE"
        with self._file.transaction() as database:
            database.execute("PRAGMA secure_delete = ON")
            return database.execute(f"DELETE FROM original WHERE {among}", chosen).rowcount

    def close(self) -> None:
        """Let go of the file; used again, it is opened anew."""
        self._file.close()


def _hashed(name: str | None) -> str:
    """Return what stands for a name in the file; empty for nobody."""
    if not name:
        return ""
    return hashlib.blake2b(name_from(name).encode(), digest_size=16).hexdigest()
