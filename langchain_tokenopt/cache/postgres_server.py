"""The server of a cache: asked within limits of time, left alone when it fails, listened to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from langchain_tokenopt.cache.postgres_schema import SCOPE, prepare, refused_newer
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.postgres import Session, pool_of
from langchain_tokenopt.storage.postgres_listener import PostgresListener

__all__ = ["READING_SECONDS", "SLOW_SECONDS", "WRITING_SECONDS", "CacheServer", "Statement"]

READING_SECONDS: Final = 2.0
"""How long to wait for an answer in the middle of a call."""
WRITING_SECONDS: Final = 5.0
SLOW_SECONDS: Final = 600.0
"""How long it may take to delete or to read everything."""
_PROOF_SECONDS: Final = 2.0
"""How long what other processes do may go unnoticed, when the network swallows everything."""
_PAUSE_SECONDS: Final = 1.0
_PAUSE_FACTOR: Final = 5.0
_LONGEST_PAUSE: Final = 10.0
"""A server that has failed is left alone for so many times what that took."""
_NO_TABLE: Final = "42P01"
_AWAY: Final = (_NO_TABLE, "08", "53", "57", "58", "28", "3D")
"""What a server says that cannot be used at all; another error is one of a single request."""

Statement = tuple[str, tuple[Any, ...]]


class CacheServer:
    """Asks the server of one cache. Called under the cache's lock.

    Args:
        url: ``postgresql://user@host/database``.
        embedder: Fingerprint of the embedder whose vectors are stored; ``None`` for none.

    Raises:
        ValueError: *url* is no URL of a PostgreSQL database.
        CacheFileError: The tables belong to another embedder or a newer version of this package.
        PostgresError: The server cannot be used.
    """

    def __init__(self, url: str, embedder: str | None) -> None:
        self.pool = pool_of(url)
        self.is_closed = False
        self.resets = 0
        """How often everything that was known has become doubtful."""
        self.losses = 0
        """How often the tables were gone."""
        self.has_news = True
        """Whether there may be evidence that has not been read."""
        self._embedder = embedder
        self._away_until = 0.0
        self._away: PostgresError | None = None
        self._prepare()

    def _prepare(self) -> None:
        self.tables = prepare(self.pool, self._embedder)
        self._are_there = True
        self._listener = PostgresListener(
            self.pool,
            self.tables.channel,
            proof_seconds=_PROOF_SECONDS,
            wait_seconds=READING_SECONDS,
        )

    @contextmanager
    def session(self, seconds: float | None = None) -> Iterator[Session]:
        """Lend a connection, unless the server has just failed.

        Args:
            seconds: How long to wait for an answer; :data:`READING_SECONDS` where it is ``None``.

        Raises:
            PostgresError: It has failed, or refuses something.
        """
        self.refuse_if_away()
        began = time.monotonic()
        try:
            with self.pool.session(READING_SECONDS if seconds is None else seconds) as session:
                yield session
        except PostgresError as refused:
            error = refused_newer(refused, self.pool.label)
            self._leave_alone(error, time.monotonic() - began)
            raise error from refused

    def refuse_if_away(self) -> None:
        """Raise what went wrong, for a while after it did; make tables that were lost."""
        if self.is_closed:
            raise PostgresError("the cache has been closed")
        if self._away is not None and time.monotonic() < self._away_until:
            raise self._away.with_traceback(None)
        if not self._are_there:
            self._prepare()
            self.begin_again()

    def _leave_alone(self, error: PostgresError, took_seconds: float) -> None:
        """Ask nothing for a while, so that at most a sixth of the time is spent on waiting."""
        if error.sqlstate == _NO_TABLE:
            self._are_there = False
            self.losses += 1
        if error.sqlstate is None or error.sqlstate.startswith(_AWAY):
            pause = min(_LONGEST_PAUSE, max(_PAUSE_SECONDS, _PAUSE_FACTOR * took_seconds))
            self._away, self._away_until = error, time.monotonic() + pause

    def ask(self, scope: bytes, *statements: Statement) -> list[tuple[Any, ...]]:
        """Ask about one scope: nothing else is to be seen meanwhile, if the server sees to it."""
        only = "SELECT set_config(%s, %s, true)", (SCOPE, scope.hex())
        with self.session() as session:
            return session.run_all(only, *statements)[-1]

    def run(
        self, statement: str, *values: Any, seconds: float | None = None
    ) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows."""
        with self.session(seconds) as session:
            return session.run(statement, *values)

    def change(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement that others may execute at once; return its rows.

        Alone it would fail for who comes second, where the database's default is an isolation
        above READ COMMITTED.
        """
        with self.session() as session:
            return session.change((statement, values), durable=False)[0]

    # What others do

    def removed(self) -> list[int] | None:
        """Return the entries that were removed since the last time, by any process.

        ``None`` when nothing is known to have gone; :attr:`resets` says that everything may have.
        """
        self.refuse_if_away()
        began = time.monotonic()
        try:
            heard = self._listener.heard()
            if heard is None:
                self.begin_again()
                return None
        except PostgresError as error:
            self.begin_again()
            self._leave_alone(error, time.monotonic() - began)
            raise
        gone: list[int] = []
        for message in heard:
            if message == "*":
                self.begin_again()
            elif message == "evidence":
                self.has_news = True
            else:
                gone += map(int, message.split())
        return gone or None

    def begin_again(self) -> None:
        """Take note that anything may have happened."""
        self.resets += 1
        self.has_news = True

    def close(self) -> None:
        """Stop listening for good; other connections belong to the process."""
        self.is_closed = True
        self._listener.close()
