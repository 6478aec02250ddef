"""What was learned and what was asked, in a cache file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from langchain_tokenopt.cache.forgetting import without_owner

__all__ = ["FileEvidence"]

_KEPT_BATCHES: Final = 32_768, 512
"""Of what was learned, and of what was asked."""
_BATCHES_PER_PRUNING: Final = 64


class FileEvidence:
    """The observations of all processes that use a file. Hold the cache's lock.

    Args:
        database: Returns the open file.
        transaction: Begins a change of it.
    """

    def __init__(
        self,
        database: Callable[[], sqlite3.Connection],
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._database, self._transaction = database, transaction
        self.seen = 0
        """The newest that is known here."""

    def new(self) -> list[Any]:
        """Return the observations that were kept since the last call, oldest first."""
        found: list[Any] = []
        for number, text in self._database().execute(
            "SELECT id, observations FROM evidence WHERE id > ? ORDER BY id", (self.seen,)
        ):
            self.seen = number
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                found += json.loads(text)
        return found

    def keep(self, labels: Sequence[Any], asked: Sequence[Any] = ()) -> list[Any]:
        """Write what was learned and asked, the oldest leave; return that of other processes."""
        with self._transaction():
            database = self._database()
            foreign = self.new()
            for is_traffic, rows in enumerate((labels, asked)):
                if not rows:
                    continue
                written = database.execute(
                    "INSERT INTO evidence (observations, is_traffic) VALUES (?, ?)",
                    (json.dumps(rows), is_traffic),
                )
                self.seen = written.lastrowid or self.seen
                if self.seen % _BATCHES_PER_PRUNING:
                    continue
                database.execute(
                    "DELETE FROM evidence WHERE is_traffic = ? AND id <= (SELECT id FROM evidence "
                    "WHERE is_traffic = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (is_traffic, is_traffic, _KEPT_BATCHES[is_traffic]),
                )
        return foreign

    def drop(self, is_meant: Callable[[bytes], bool]) -> None:
        """Delete what was observed in the domains of an owner; it is overwritten in the file."""
        database = self._database()
        database.execute("PRAGMA secure_delete = ON").fetchall()
        with self._transaction():
            rows = database.execute("SELECT id, observations FROM evidence").fetchall()
            for number, text in without_owner(rows, is_meant):
                if text is None:
                    database.execute("DELETE FROM evidence WHERE id = ?", (number,))
                else:
                    database.execute(
                        "UPDATE evidence SET observations = ? WHERE id = ?", (text, number)
                    )
