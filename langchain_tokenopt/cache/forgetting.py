"""Delete from a cache file what belongs to one user, or what was learned from all."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_tokenopt.cache.cache_schema import embedder_of
from langchain_tokenopt.cache.key import is_owned
from langchain_tokenopt.cache.owner_labels import Labels
from langchain_tokenopt.storage.sqlite import SqliteFile

__all__ = ["count_evidence", "forget_evidence", "forget_owner"]


def count_evidence(database: sqlite3.Connection) -> int:
    """Return how many observations there are; the places of fields are none."""
    rows = database.execute("SELECT observations FROM evidence")
    return sum(row[:1] != ["field"] for (text,) in rows for row in json.loads(text))


def forget_evidence(path: str | Path) -> int:
    """Delete what a cache has learned, and none of its answers; return how many observations.

    Raises:
        CacheFileError: There is no cache at *path*, or it cannot be read.
        sqlite3.Error: The file stays locked, or cannot be written.
    """
    with _changing(path) as database:
        found = count_evidence(database)
        database.execute("DELETE FROM evidence")
    return found


def forget_owner(path: str | Path, labels: Labels, namespace: str = "default") -> tuple[int, int]:
    """Delete the answers that are kept for an owner alone, and what was learned from them.

    Args:
        path: The file. Caches that have it open notice.
        labels: Sorted pairs, such as ``(("user", "ann"),)``: all that :meth:`SemanticCache.scope`
            and the metadata said. What was asked with further ones has another owner.
        namespace: Of the cache.

    Returns:
        How many answers and how many observations were deleted.

    Raises:
        CacheFileError: There is no cache at *path*, or it cannot be read.
        sqlite3.Error: The file stays locked, or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_tokenopt import SemanticCache
        >>> with TemporaryDirectory() as folder:
        ...     SemanticCache(f"{folder}/answers.db", semantic=False).close()
        ...     forget_owner(f"{folder}/answers.db", (("user", "ann"),))
        (0, 0)
    """
    with _changing(path) as database:
        scopes = database.execute("SELECT id, scope FROM entry").fetchall()
        entries = [(entry,) for entry, scope in scopes if is_owned(scope, namespace, labels)]
        database.executemany("DELETE FROM entry WHERE id = ?", entries)
        observations = _drop_observations(
            database, lambda domain: is_owned(bytes.fromhex(domain), namespace, labels)
        )
    return len(entries), observations


def _drop_observations(database: sqlite3.Connection, is_meant: Callable[[str], bool]) -> int:
    """Delete the fields of an owner, with all that was observed in them."""
    batches = [
        (number, json.loads(text))
        for number, text in database.execute("SELECT id, observations FROM evidence").fetchall()
    ]
    every = [row for _, rows in batches for row in rows]
    owned = {row[1] for row in every if row[0] == "field" and is_meant(row[2])}
    owned |= {row[1] for row in every if row[0] == "words" and is_meant(row[1])}
    dropped = 0
    for number, rows in batches:
        kept: list[Any] = [row for row in rows if row[1] not in owned]
        dropped += sum(row[0] != "field" and row[1] in owned for row in rows)
        if not kept:
            database.execute("DELETE FROM evidence WHERE id = ?", (number,))
        elif len(kept) < len(rows):
            changed = json.dumps(kept), number
            database.execute("UPDATE evidence SET observations = ? WHERE id = ?", changed)
    return dropped


@contextlib.contextmanager
def _changing(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Change a file in one step; what is deleted is overwritten."""
    embedder_of(path)  # says in words what is wrong with it
    file = SqliteFile(Path(path), lambda database: None)
    try:
        file.connection().execute("PRAGMA secure_delete = ON").fetchall()
        with file.transaction() as database:
            yield database
        with contextlib.suppress(sqlite3.Error):  # others read: the next one does it
            file.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        file.close()
